"""Reads the next videos in threads while the model computes."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch


MOST_THREADS = 8
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux: "microseconds period", such as "200000 100000" for two cores


def usable_cores() -> int:
    """CPU cores that this process may use; containers and `taskset` allow fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, max(int(quota) // int(period), 1))
    return cores


def reading_threads(device: torch.device | str) -> int:
    """How many threads read videos beside the model: few where it computes on the CPU, which needs most of the time."""
    taken = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    return min(max(usable_cores() - taken, 1), MOST_THREADS)


def read_ahead(videos: Iterable[Any], read: Callable[[Any], Any], threads: int, ahead: int) -> Iterator["Future[Any]"]:
    """
    The results of `read` in the order of the videos, as futures, which raise its errors; `ahead` videos before they are
    asked for, and in so many threads (0: when they are asked for). `videos` is iterated in the caller's thread.
    """
    source, waiting = iter(videos), deque[Future]()
    pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="video-reader")
    try:
        while True:
            try:
                waiting.append(pool.submit(read, next(source)))
            except StopIteration:
                break
            except Exception as error:  # of the source: comes after the answers before it
                waiting.append(Future())
                waiting[-1].set_exception(error)
                break
            if len(waiting) > ahead or not threads:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
