"""Evaluate without training:

python -m scripts.evaluate RUN                                # a finished run on its own task again
python -m scripts.evaluate RUN task=arc_easy                  # ... on another task
python -m scripts.evaluate model=smollm2 task=arc_easy        # the base model
python -m scripts.evaluate model=olmo2_7b task=igbo method=adalora method.init_from=FOLDER   # a PEFT adapter on it
python -m scripts.evaluate RUN tasks=arc_easy,openbookqa      # lm_eval's tasks; needs `make lm-eval`
python -m scripts.evaluate RUN task=arc_easy --record results/allocation   # also into a study's records

RUN is a run folder, results/runs/.../seed<n>-<key>. Options are train.py's. Scores go into the folder that is printed:
RUN/evaluations (with run_root=FOLDER in FOLDER/evaluations), or without a run evaluations in the run root.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.options import Parser, exit_code, is_option

if TYPE_CHECKING:
    from adalora.config.schema import Config


def main() -> None:
    """Evaluate, and print the scores and the folder."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("arguments", nargs="+", metavar="RUN | OPTION=VALUE")
    parser.add_argument("--limit", type=int, metavar="N", help="of lm_eval's tasks, the first N rows")
    parser.add_argument("--record", type=Path, metavar="STUDY", help="also keep the record in STUDY/evaluations")
    args = parser.parse_args()

    from adalora import processes
    from adalora.errors import UserError
    from adalora.records.published import decimals, factor
    from adalora.run.evaluate import evaluate_only, keep_evaluation

    folders = [Path(argument).expanduser() for argument in args.arguments if not is_option(argument)]
    if len(folders) > 1:
        raise UserError(f"one run at a time: {folders[0]} and {folders[1]} were given")
    run = folders[0] if folders else None
    options = [argument for argument in args.arguments if is_option(argument) and not argument.startswith("tasks=")]
    names = [name for argument in args.arguments if argument.startswith("tasks=") for name in argument[6:].split(",")]
    if run is None and not names and not any(option.startswith("task=") for option in options):
        raise UserError("give task=NAME, or the folder of a run")
    if args.limit is not None and not names:
        raise UserError("--limit is for lm_eval's tasks (tasks=NAME): task.eval_rows=N scores N rows, evenly spaced")
    if names and args.record:
        raise UserError("--record is for this suite's tasks: task=NAME instead of tasks=")
    command = ["scripts.evaluate", *args.arguments]
    if names:
        from adalora.run.lm_eval import check_installed, evaluate_with_lm_eval

        check_installed()
        configs = {name: compose(run, [*options, f"task={name if has(name) else 'text'}"]) for name in names}
        found = evaluate_with_lm_eval(configs, run, args.limit, command)
    else:
        found = [evaluate_only(compose(run, options), run, command)]
    for record, folder in found if processes.rank() == 0 else ():
        task = record["task"]
        counts = {split: count for split, count in task["rows"].items() if split != task["train_split"]}
        scored = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        print(f"{record['model']['title']}, {record['adapter'] or 'no adapter'}; {task['origin']}: {scored} rows")
        for name, value in record["scores"].items():
            shown = f"{value:.4f}" if name == "loss" else f"{value * factor(name):.{decimals(name)}f}"
            print(f"{name:32}{shown}")
        if args.record:
            print(keep_evaluation(record, args.record.expanduser(), folder.name))
        print(folder)


def compose(run: Path | None, options: list[str]) -> "Config":
    """Compose these options, with the run's own below them. Raises `UserError`."""
    from adalora.errors import UserError
    from adalora.run.evaluate import options_of_run
    from adalora.sweep import cells

    config = cells.compose(options_of_run(run, options) if run else options)
    if isinstance(config, str):
        raise UserError(config)
    return config


def has(name: str) -> bool:
    """Whether a task of lm_eval is one of ours, too."""
    from adalora.paths import CONF

    return (CONF / "task" / f"{name}.yaml").is_file()


if __name__ == "__main__":
    sys.exit(exit_code(main))
