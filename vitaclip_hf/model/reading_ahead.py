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
        threads (`int`): at least 1.
        ahead (`int`): videos that are read, or being read, beyond the one that is asked for.
    """
    source, waiting = iter(videos), deque[Future]()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="video-reader")
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
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class VideosAhead(torch.utils.data.IterableDataset):
    """[`read_ahead`] as a data set, which every version of transformers 5 reads lazily."""

    def __init__(self, videos: Any, read: Callable[[Any], Any], threads: int, ahead: int):
        self._videos, self._arguments = videos, (read, threads, ahead)
        self._source: Iterator | None = None

    def __iter__(self) -> Iterator["Future[Any]"]:
        source = iter(self._videos)
        if source is not self._source:  # else it goes on, with what was read ahead
            self._source, self._ahead = source, read_ahead(source, *self._arguments)
        return self._ahead


class ListAhead(torch.utils.data.Dataset):
    """The same for a list or data set with a length. Entries are asked for in their order; others start it anew."""

    def __init__(self, videos: Any, read: Callable[[Any], Any], threads: int, ahead: int):
        self._videos, self._arguments = videos, (read, threads, ahead)
        self._next = -1

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> "Future[Any]":
        if index != self._next:
            self._ahead = read_ahead((self._videos[i] for i in range(index, len(self))), *self._arguments)
        self._next = index + 1
        return next(self._ahead)
