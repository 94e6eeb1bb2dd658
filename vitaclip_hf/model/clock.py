"""One clock for the frames of a video, whatever its time stamps say."""

from statistics import median_low


# Seconds that a picture may be held. A longer gap between two stamps is a clock that was set, and is closed.
MAX_GAP = 3600


class Clock:
    """
    Times of frames from their stamps, in the order of display and in the unit of the stamps.

    After stamps that run backwards or begin anew, and after a gap that is too long, time goes on by one frame's length.

    Args:
        length (`float`): of a frame whose stamp says nothing.
        max_gap (`float`): the longest time that a frame is shown.
        start (`float`, *optional*): the stamp of time zero; by default the first frame's. The first frame comes later
            than time zero by at most `max_gap`.

    Attributes:
        gaps (`list[float]`): the gaps that were closed.
    """

    def __init__(self, length: float, max_gap: float, start: float | None = None):
        self.length, self.max_gap, self.gaps = length, max_gap, list[float]()
        self._shift = None if start is None else -start
        self._time: float | None = None

    def __call__(self, stamp: float | None) -> float:
        earliest, expected = (0, 0) if self._time is None else (self._time, self._time + self.length)
        if self._shift is None and stamp is not None:
            self._shift = expected - stamp
        time = expected if stamp is None or self._shift is None else stamp + self._shift
        if not earliest <= time <= earliest + self.max_gap:
            if time > expected:
                self.gaps.append(time - earliest)
            self._shift = expected - stamp if stamp is not None else None
            time = expected
        self._time = time
        return time


def duration_of(packets: list[tuple[int | None, int, int]], max_gap: float) -> tuple[int, list[float]]:
    """
    From the first frame to the end of the last, in ticks, and the gaps that were closed.

    Args:
        packets: decoding stamp, stamp and duration (0 if unknown) of each shown packet, in the order of the file. Each
            run of rising decoding stamps is shown in the order of its stamps. A last frame of unknown duration is as
            long as the others.
        max_gap: the longest time that a frame is shown, in ticks.
    """
    runs: list[list[tuple[int, int]]] = [[]]
    before = None
    for decoding, stamp, duration in packets:
        if before is not None and decoding is not None and decoding < before:
            runs.append([])
        before = decoding if decoding is not None else before
        runs[-1].append((stamp, duration))
    shown = [packet for run in runs for packet in sorted(run)]
    steps = [b[0] - a[0] for a, b in zip(shown, shown[1:], strict=False) if 0 < b[0] - a[0] <= max_gap]
    lengths = steps or [duration for _, duration in shown if 0 < duration <= max_gap]
    clock = Clock(median_low(lengths) if lengths else 0, max_gap)
    times = [clock(stamp) for stamp, _ in shown]
    ends = [time + duration for time, (_, duration) in zip(times, shown, strict=True) if duration <= max_gap]
    end, last = max(ends, default=0), times[-1]
    if end <= last and len(shown) > 1:
        end = last * len(shown) // (len(shown) - 1)
    return int(end), clock.gaps


__all__ = ["MAX_GAP", "Clock", "duration_of"]
