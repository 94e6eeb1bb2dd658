"""Reads the next videos in threads while the model computes."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch


MOST_THREADS = 8
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux: "microseconds period", such as "200000 100000" for two cores


def usable_cores() -> int:
    """CPU cores that this process may use; containers and `taskset` allow fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _cores_of_container() or cores)


def _cores_of_container() -> int | None:
    """The share of processor time that a container is given, in whole cores; `None` where there is no limit."""
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return max(int(quota) // int(period), 1)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def reading_threads(device: torch.device | str) -> int:
    """
    How many threads read videos beside the model.

    A model on the CPU takes torch's own threads, and one reader needs little beside it: decoding and resizing a clip
    takes a small part of the time of a forward pass. A model elsewhere leaves all cores but one.
    """
    taken = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    return min(max(usable_cores() - taken, 1), MOST_THREADS)


def read_ahead(videos: Iterable[Any], read: Callable[[Any], Any], threads: int, ahead: int) -> Iterator["Future[Any]"]:
    """
    The results of `read` in the order of the videos, as futures. Errors are raised by `Future.result`, in their place.

    Args:
        videos: is read in the caller's thread, at most `ahead` videos before they are needed.
        read: called in one of `threads` threads. PyAV and torch release Python's lock, so that the model goes on.
        threads (`int`): 0 reads each video when it is asked for.
        ahead (`int`): videos that are read, or being read, beyond the one that is asked for.
    """
    source, waiting = iter(videos), deque[Future]()
    pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="video-reader")
    submit = pool.submit if threads else _now
    try:
        while True:
            try:
                waiting.append(submit(read, next(source)))
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


def _now(read: Callable[[Any], Any], video: Any) -> "Future[Any]":
    """As a pool's `submit`, in this thread."""
    future: Future[Any] = Future()
    try:
        future.set_result(read(video))
    except Exception as error:  # raised by `Future.result`
        future.set_exception(error)
    return future
