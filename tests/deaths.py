"""Runs that are killed right before one of their file changes.

Python tells an audit hook of every change before it is made. A process that has imported the suite forks one child
a trial, so that a trial costs what a tiny run does and no imports.
"""

import json
import multiprocessing
import os
import signal
import sys
import traceback
from pathlib import Path

from tests.conftest import UNEQUAL, composed_tree
from tests.programs import SERVER

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "os.utime")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Changes:
    """Counts the changes below a folder, and kills this process before number `last` (from 1)."""

    def __init__(self, folder, last=None):
        self.folder, self.last, self.count = str(folder), last, 0
        sys.addaudithook(self)

    def __call__(self, event, args):
        if event == "open":
            path, _, flags = args
            if not flags & WRITES:
                return
        elif event in CHANGES:
            path = args[0]
            if args[-1] not in (-1, None) and event != "os.utime" and not str(path).startswith("/"):
                path = f"{self.folder}/{path}"  # relative to an open folder: shutil.rmtree's
        else:
            return
        if isinstance(path, int) or not os.fsdecode(path).startswith(self.folder):
            return
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def trials(overrides, folder):
    """Kill a run before each of its changes, and run it again; gives what went wrong, in words, and their number.

    Args:
        overrides: the run's, without its root.
        folder: where the trials may write.
    """
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = SERVER.Process(target=trials_here, args=(overrides, str(folder), writer))
    process.start()
    writer.close()
    try:
        return reader.recv()
    finally:
        process.join()


def trials_here(overrides, folder, writer):
    """Call `trials` in a separate process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import adalora.run.run
    from adalora.config import register, validate

    register()
    composed_tree(overrides)

    def once(root, last=None):
        """The exit code, the changes made, and the steps: where the run began and where it ended."""
        facts = Path(folder, "facts")
        facts.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            changes = Changes(root, last)
            seen = {"first": None, "step": 0}
            set_lr = adalora.training.loop.set_lr

            def noted(optimizer, step, *args):
                seen.update(first=step if seen["first"] is None else seen["first"], step=step)
                facts.write_text(json.dumps(seen))
                set_lr(optimizer, step, *args)

            adalora.training.loop.set_lr = noted
            code = 1
            try:
                tree = composed_tree([*overrides, f"run_root={root}"])
                adalora.run.run.run(validate(tree, overrides), overrides)
                Path(folder, "count").write_text(str(changes.count))
                code = 0
            except BaseException:  # noqa: BLE001 - it must not go on as another test run
                traceback.print_exc()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, json.loads(facts.read_text()) if facts.exists() else {"first": None, "step": 0}

    wrong = []
    code, _ = once(f"{folder}/whole")
    count = int(Path(folder, "count").read_text())
    whole = left(Path(folder, "whole"))
    changes = range(1, count + 1) if code == 0 else []
    interval = int(next(o for o in overrides if o.startswith("training.checkpoint_steps=")).partition("=")[2])
    for last in changes:
        root = f"{folder}/{last}"
        code, before = once(root, last)
        if code != -signal.SIGKILL:
            wrong.append(f"change {last}: wasn't killed ({code})")
            continue
        code, after = once(root)
        if code != 0:
            wrong.append(f"change {last}: the same command ended with {code}")
        elif (found := left(Path(root))) != whole:
            names = [name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name)]
            wrong.append(f"change {last}: {', '.join(names)} differ")
        elif after["first"] is not None and before["step"] - after["first"] > interval:
            wrong.append(f"change {last}: {before['step'] - after['first']} steps were repeated")
    writer.send((wrong, len(changes)))


def left(root):
    """Every file of a run, with the part of its content that is equal in two equal runs."""
    found = {}
    for path in root.rglob("*"):
        name, content = str(path.relative_to(root)), None
        if path.name == "result.json":
            content = {k: v for k, v in json.loads(path.read_text()).items() if k not in UNEQUAL}
        elif path.name == "status":
            content = json.loads(path.read_text())["status"]
        elif path.is_file() and path.suffix != ".png" and path.name != "config.yaml":
            content = path.read_bytes()
        found[name] = content
    return found
