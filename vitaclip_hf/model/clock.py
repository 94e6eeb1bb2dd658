"""One clock for the frames of a video, whatever its time stamps say."""

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


__all__ = ["MAX_GAP", "Clock"]
