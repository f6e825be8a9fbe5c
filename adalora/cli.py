"""The command line: compose the configuration, run one experiment, return its headline metric."""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, cast

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adalora import processes
from adalora.config import register, validate
from adalora.config.mistakes import check_arguments, explain
from adalora.config.usage import usage
from adalora.config.validate import refuse_architecture
from adalora.errors import BUSY, Busy, Interrupted, UserError
from adalora.files.writing import unwritable
from adalora.paths import CONF
from adalora.sweep.multirun import note_job
from adalora.sweep.worker import end_with_sweep, share_machine
from adalora.training.signals import hand_on

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS deterministic
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(tree: DictConfig) -> float | None:
    """Run one experiment and return its headline metric, for sweepers that optimise it. A failing job of a multirun
    doesn't stop the others; the multirun then exits with 1."""
    job = HydraConfig.get()
    sweeping = job.mode == RunMode.MULTIRUN
    overrides = cast(list[str], OmegaConf.to_container(job.overrides.task))  # reading a ListConfig resolves its ${...}
    outcome: dict[str, Any]
    try:
        share_machine()
        refuse_architecture(overrides)
        config = validate(tree, overrides)
        if config.dry_run:
            from adalora.run.dry_run import dry_run  # skips the imports that only training needs

            outcome = dry_run(config)
        else:
            from adalora.run.recall import recall

            if (found := recall(config)) is None:
                from adalora.run.run import run  # seconds of imports

                found = run(config, [*config_flags(sys.argv[1:]), *overrides])
            outcome = found
    except UserError as error:
        kind = "busy" if isinstance(error, Busy) else "error"
        outcome = {kind: str(error)}
        tell(f"{kind if sweeping else 'error'}: {' '.join(overrides) + ': ' if sweeping else ''}{error}")
        if tree.debug:
            traceback.print_exc()
    except Interrupted as stop:
        tell(f"\n{stop}: the same command resumes from there")
        hand_on(stop.signal)
        sys.exit(128 + stop.signal)
    except Exception as error:
        if not sweeping:
            processes.first_to_report()  # the traceback says it; the other processes, which lose this one, say nothing
            raise
        outcome = {"error": f"{type(error).__name__}: {error}"}
        traceback.print_exc()
    if sweeping:
        note_job(job.runtime.output_dir, overrides, outcome)
    elif code := {"error": 1, "busy": BUSY}.get(next(iter(outcome))):
        sys.exit(code)
    return outcome["last"][outcome["task"]["headline"]] if "last" in outcome else None


def config_flags(arguments: Sequence[str]) -> list[str]:
    """Hydra's flag for a folder of further configs, as one argument: part of a run's command."""
    found = []
    for i, argument in enumerate(arguments):
        name, given, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            found.append(f"--config-dir={value if given else ''.join(arguments[i + 1 : i + 2])}")
    return found


def tell(line: str) -> None:
    """Print one line, from one of the run's processes only."""
    if processes.first_to_report():
        print(line, file=sys.stderr)


def command() -> None:
    """What `train.py` does."""
    if {"--help", "-h"} & set(sys.argv):  # Hydra's own help scans every group twice, which takes seconds
        try:
            print(usage(sys.argv[1:]))
        except UserError as error:
            sys.exit(f"error: {error}")
        sys.exit()
    end_with_sweep()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a title's characters
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through, so that we print them in one line
    several = bool({"--multirun", "-m"} & set(sys.argv))
    try:
        if processes.count() > 1 and several:
            raise UserError("--multirun only starts single-process runs: use one torchrun per run")
        check_arguments(sys.argv[1:])
        register()
        main()
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, UserError) as error:
        tell(f"error: {explain(error)}")
        sys.exit(1)
    except OSError as error:
        if not several or error.filename is None or error.errno is None:
            raise
        tell(
            f"error: {unwritable(error.filename, error.errno)}"
        )  # the sweep's folder can't be written; a job's errors don't reach this
        sys.exit(1)
    except KeyboardInterrupt:
        tell("\nstopped: the same command resumes from the last checkpoint, if there is one")
        sys.exit(130)
