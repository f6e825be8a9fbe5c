"""Assign threads and a GPU to each worker of a sweep, and end workers with their parent.

`conf/hydra/launcher/workers.yaml` sets `ADALORA_WORKERS`; a sweep's rounds set `ADALORA_SWEEP`.
"""

import functools
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Sequence

WORKERS = "ADALORA_WORKERS"  # number of workers
SWEEP = "ADALORA_SWEEP"  # pid of the sweep that started train.py
LOOK_EVERY = 2.0  # seconds between checks of the parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")  # RAYON is for tokenizers


def share_machine() -> None:
    """Restrict this process to its share if it is one of several workers. Call before importing torch.

    The number of threads can change the last bits of a result, so compare runs to the bit only with equal shares.
    """
    if WORKERS not in os.environ:
        return
    end_with(os.getppid())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = threads_of(int(os.environ[WORKERS]), cores)
    os.environ |= dict.fromkeys(THREADS, str(threads))

    import torch

    torch.set_num_threads(threads)
    count = torch.cuda.device_count()
    if count > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu_of(multiprocessing.current_process().name, visible.split(","))


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


def threads_of(workers: int, cores: int) -> int:
    """Threads per worker, at least one; -1 means one worker per core."""
    return max(1, cores // workers) if workers > 0 else 1


def gpu_of(worker: str, gpus: Sequence[str]) -> str:
    """The GPU of a worker, assigned round-robin by the number in its name (`LokyProcess-3`)."""
    number = re.search(r"\d+$", worker)
    return gpus[(int(number[0]) - 1) % len(gpus) if number else 0]
