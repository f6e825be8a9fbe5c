"""Run the suite's programs as a user does, in processes that start quickly.

Each process is forked from `multiprocessing`'s fork server, which has imported torch and the other libraries, but
nothing of this suite. What a library reads when it is imported (HF_HOME) can't be given this way: that takes a new
interpreter.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["torch", "transformers", "datasets", "accelerate", "evaluate", "peft", "hydra", "sklearn.metrics", "scipy.stats",
     "matplotlib.figure", "rich.live", "wandb",
     "statsmodels.stats.power", "jinja2", "torch.distributed.fsdp", "transformers.models.deberta_v2"]
)  # fmt: skip
alive = []  # what was started and may still run
folders = []  # of their outputs
stores = []  # of runs in several processes


class Done(NamedTuple):
    """How a program ended."""

    code: int
    stdout: str
    stderr: str


class Program:
    """A running program: `Program("train.py", "task=rte", HF_HUB_OFFLINE="1")`. It leads a session of its own.

    Args:
        script: a file below the repository's root, or a module, as `scripts.tables`.
        cwd: its working folder, the root if None.
        environment: added to this process's; None removes a variable.
        before: called in the process before the script starts.
    """

    def __init__(self, script, *arguments, cwd=None, before=None, **environment):
        self.folder = Path(tempfile.mkdtemp(prefix="program-"))
        folders.append(self.folder)
        argv = [str(ROOT / script) if script.endswith(".py") else script, *map(str, arguments)]
        self.process = SERVER.Process(
            target=execute, args=(argv, os.environ | environment, str(cwd or ROOT), self.folder, before)
        )
        self.process.start()
        self.pid = self.process.pid
        alive.append(self)

    def poll(self):
        """The exit code, negative for a signal; None while it runs."""
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """Kill its whole session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def ended(self, timeout=280):
        """Wait for its end."""
        self.process.join(timeout)
        assert self.poll() is not None, f"still running after {timeout} s"
        alive.remove(self)
        return Done(self.poll(), *((self.folder / name).read_text() for name in ("stdout", "stderr")))


def execute(argv, environment, cwd, folder, before):
    """Run the program in the forked process."""
    os.setsid()
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update({name: value for name, value in environment.items() if value is not None})
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background of a shell
    sys.argv = argv
    sys.path[0] = str(ROOT)
    if before is not None:
        before()
    if argv[0].endswith(".py"):
        runpy.run_path(argv[0], run_name="__main__")
    else:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


def run(script, *arguments, **how):
    """Run a program to its end."""
    return Program(script, *arguments, **how).ended()


def no_hub():
    """For `before`: an empty cache in the working folder, offline."""
    from huggingface_hub import constants

    constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = str(Path("empty").resolve()), True


def together(count, script, *arguments, **how):
    """Start a program in `count` processes of one run, as torchrun would."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    stores.append(store)
    how |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}  # fmt: skip
    return [Program(script, *arguments, RANK=str(rank), LOCAL_RANK=str(rank), **how) for rank in range(count)]


def error_of(done):
    """The message of a program that failed: exit code 1, and exactly one line of ours."""
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.code == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def newest_step(root):
    """The step of the newest checkpoint below a run root, 0 without one; folders may disappear meanwhile."""
    names = [name for _, folders, _ in os.walk(root) for name in folders]
    return max((int(name.removeprefix("step-")) for name in names if name.startswith("step-")), default=0)


@atexit.register
def kill_all():
    for program in list(alive):
        program.kill()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
