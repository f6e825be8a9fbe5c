"""Assign threads and a GPU to each of several runs on a machine, and end runs with the process that started them.

`conf/hydra/launcher/workers.yaml` sets `ADALORA_WORKERS`; a sweep sets `ADALORA_SWEEP`.
"""

import functools
import multiprocessing
import os
import re
import signal
import threading
import time

WORKERS = "ADALORA_WORKERS"  # number of workers
SWEEP = "ADALORA_SWEEP"  # pid of the sweep that started train.py
LOOK_EVERY = 2.0  # seconds between checks of the parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")  # RAYON is for tokenizers


def share_machine() -> None:
    """Use only this process's share of the cores if the joblib launcher started it. Call before importing torch.

    The number of threads can change the last bits of a result, so compare runs to the bit only with equal shares.
    """
    if WORKERS not in os.environ:
        return
    end_with(os.getppid())
    workers = int(os.environ[WORKERS])
    os.environ |= threads(workers)  # numpy's and torch's libraries read it when they are loaded

    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    number = re.search(r"\d+$", multiprocessing.current_process().name)  # `LokyProcess-3`, from 1
    os.environ |= gpu(int(number[0]) - 1 if number else 0)


def threads(workers: int) -> dict[str, str]:
    """The environment that gives each of some processes its threads, at least one; -1: one process a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return dict.fromkeys(THREADS, str(max(1, cores // workers) if workers > 0 else 1))


def gpu(slot: int) -> dict[str, str]:
    """The environment that gives a process its GPU, round-robin, if there are several."""
    import torch

    if (count := torch.cuda.device_count()) < 2:
        return {}
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")
    return {"CUDA_VISIBLE_DEVICES": visible[slot % len(visible)]}


def end_with_sweep() -> None:
    """End this process when the sweep that started it is gone."""
    if SWEEP in os.environ:
        end_with(int(os.environ[SWEEP]))


@functools.cache
def end_with(parent: int) -> None:
    """Send SIGTERM to this process once `parent` is no longer its parent, so that the run saves a checkpoint and stops.

    Otherwise the workers of a killed sweep would keep training unnoticed.
    """

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)  # once: a second one would interrupt what the first has it save

    threading.Thread(target=look, daemon=True).start()
