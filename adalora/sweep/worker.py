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
    """Restrict this process to its share if it is one of the joblib launcher's. Call before importing torch.

    The number of threads can change the last bits of a result, so compare runs to the bit only with equal shares.
    """
    if WORKERS not in os.environ:
        return
    end_with(os.getppid())
    number = re.search(r"\d+$", multiprocessing.current_process().name)  # `LokyProcess-3`, from 1
    os.environ |= share(int(number[0]) - 1 if number else 0, int(os.environ[WORKERS]))

    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def share(slot: int, workers: int) -> dict[str, str]:
    """The environment of one of several processes: its threads, and its GPU, round-robin.

    Args:
        slot: its number, from 0.
        workers: how many there are; -1: one a core.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // workers) if workers > 0 else 1)
    found = dict.fromkeys(THREADS, threads)

    import torch

    if (count := torch.cuda.device_count()) > 1:
        visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")
        found["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
    return found


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
        while True:
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(LOOK_EVERY)

    threading.Thread(target=look, daemon=True).start()
