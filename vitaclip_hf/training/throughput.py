"""How fast a training is, and how long it waits for data, measured from its settled steps."""

import time
from collections.abc import Callable


class Throughput:
    """
    Counts videos and waiting, from the second step on and without evaluation and saving.

    The first step starts workers and kernels and is slow. While it computes, the workers fill their queue, and the
    batches of that queue come without waiting however slow the reading is. So nothing is counted before both are over.

    On a GPU the waiting is that of the process that feeds it. Work that the GPU still has then goes on, so that the
    share is an upper bound.

    Args:
        ready (`int`): batches that the workers of this process hold ready.
        clock (`Callable`, *optional*): gives seconds.
    """

    def __init__(self, ready: int, clock: Callable[[], float] = time.perf_counter):
        self.ready, self._clock = ready, clock
        self.restart()

    def restart(self) -> None:
        """Forgets everything: another training begins."""
        self._steps = self._batches = self._measured_steps = 0
        self._settled_after = 0  # batches: those of the first step, and the queue that was filled meanwhile
        self._window_start: float | None = None
        self._first_start = 0.0  # of all that is measured
        self._videos, self._waited = 0, 0.0

    def step_begins(self, new_epoch: bool = False) -> None:
        """Before the batches of a step are taken. A new epoch has a new queue, in which nothing is ready yet."""
        if self._steps == 1:
            self._settled_after = self._batches + self.ready
        if self._steps and new_epoch:
            self._settled_after = self._batches
        if self._window_start is not None:
            self._measured_steps += 1
        elif self._steps and self._batches >= self._settled_after:
            self._window_start = self._first_start = self._clock()
            self._videos, self._waited = 0, 0.0
        self._steps += 1

    def took_batch(self, videos: int, waited: float) -> None:
        """A batch of `videos` came after `waited` seconds."""
        self._batches += 1
        self._videos += videos
        self._waited += waited

    def leave_out(self, seconds: float) -> None:
        """Time of something else, such as evaluation."""
        if self._window_start is not None:
            self._window_start += seconds
            self._first_start += seconds

    def next_rates(self) -> tuple[float, float] | None:
        """
        Videos a second and the share of waiting since the last call, at the end of a step; `None` until a settled step
        is over.
        """
        if self._window_start is None:
            return None
        now = self._clock()
        seconds = max(now - self._window_start, 1e-9)
        rates = self._videos / seconds, self._waited / seconds
        self._window_start, self._videos, self._waited = now, 0, 0.0
        return rates

    def seconds_a_step(self) -> float | None:
        """Mean of all settled steps, at the end of one; `None` until two are over."""
        if self._measured_steps < 1:
            return None
        return (self._clock() - self._first_start) / (self._measured_steps + 1)
