"""Which frames a video file has, when they are shown, and how to reach one without decoding those before.

Each run of frames begins at a keyframe. Every packet that is read and every frame that is decoded is compared with the
table; at the first difference, [`UntrustedTableError`], the caller decodes from the beginning.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:  # PyAV is imported when the first file is opened: a model needs none
    import av


# Codecs with one frame for each packet and keyframes that need nothing before them.
CODECS = {"h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9", "libvpx-vp9", "mjpeg"}
# Seconds that a picture may be held. A longer gap between two stamps is a clock that was set, and is closed.
MAX_GAP = 3600
# A seek pays if it spares more frames than this: it looks up, empties the decoder and fills it again.
SEEK_FRAMES = 6


class Clock:
    """
    Times of frames from their stamps, in seconds and in the order of display; `gaps` are those that were closed.

    After stamps that run backwards or begin anew, and after a gap of more than `MAX_GAP`, time goes on by the `length`
    of a frame. `start` is the stamp of time zero.
    """

    def __init__(self, length: float, start: float):
        self.length, self.gaps = length, list[float]()
        self._shift: float | None = -start
        self._time: float | None = None

    def __call__(self, stamp: float | None) -> float:
        earliest, expected = (0, 0) if self._time is None else (self._time, self._time + self.length)
        if self._shift is None and stamp is not None:
            self._shift = expected - stamp
        time = expected if stamp is None or self._shift is None else stamp + self._shift
        if not earliest <= time <= earliest + MAX_GAP:
            if time > expected:
                self.gaps.append(time - earliest)
            self._shift = expected - stamp if stamp is not None else None
            time = expected
        self._time = time
        return time


class UntrustedTableError(Exception):
    """The file does not agree with its table of frames."""


@dataclass
class FrameTable:
    """The packets of a video stream in the order of decoding."""

    positions: np.ndarray  # in the file, in bytes
    sizes: np.ndarray
    stamps: np.ndarray  # what to seek to, in the stream's time base
    shown_before: np.ndarray  # one more: number of frames shown of the packets before each
    keyframes: np.ndarray  # rows of packets where decoding can begin
    trusted: bool  # whether frames may be found by this table

    @property
    def num_frames(self) -> int:
        return int(self.shown_before[-1])

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int, bool, bool]], trusted: bool) -> FrameTable:
        """`rows` have position, size, time stamp, whether a keyframe, and whether not shown of each packet."""
        columns = np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, 5).T
        positions, sizes, stamps, is_keyframe, is_hidden = np.ascontiguousarray(columns)
        keyframes = np.flatnonzero(is_keyframe)
        shown_before = np.concatenate([[0], np.cumsum(is_hidden == 0)])
        sound = 0 in keyframes[:1] and all(len(np.unique(values)) == len(values) for values in (positions, stamps))
        return cls(positions, sizes, stamps, shown_before, keyframes, trusted and sound)

    def keyframe_before(self, number: int) -> int:
        """Row of the last keyframe that at most `number` shown frames precede in the file."""
        place = int(np.searchsorted(self.shown_before[self.keyframes], number, "right")) - 1
        return int(self.keyframes[max(place, 0)])


def can_be_trusted(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether container and codec are of a kind where each packet is one frame with its own time stamp."""
    stamped = any(name in container.format.name for name in ("mov", "matroska"))
    return stamped and stream.codec_context.name in CODECS


def is_hidden(packet: av.Packet) -> bool:
    """Whether a packet shows no frame: by an edit list, or because it only serves other frames of VP8 or VP9."""
    codec, data = packet.stream.codec_context.name, memoryview(packet)
    if packet.is_discard or not packet.size or not codec.startswith(("vp8", "vp9", "libvpx")):
        return packet.is_discard
    if "8" in codec:
        return not data[0] & 0x10
    shift = data[0] & 0x30 == 0x30  # of profile 3: one bit more
    return data[-1] & 0xE0 != 0xC0 and not data[0] << shift & 0x0A  # several frames in a packet; shown (again)


def _stamp(packet: av.Packet) -> int:
    if packet.pts is None:
        raise UntrustedTableError
    return packet.pts


class _Run:
    """Decoding on from one keyframe."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, table: FrameTable, row: int):
        self._stream, self._table = stream, table
        self.row = row  # of the next packet to decode
        self._packets = self._read(container, row)
        self._ahead: list[av.Packet] = []  # read, but not decoded yet
        self._frames: list[av.VideoFrame] = []  # decoded, but not given yet
        self._stamps: list[int] = []  # a heap: when the decoded packets are shown
        self._seen: set[int] = set()
        self._begun = False
        self._look_ahead()
        # Frames of an open group of pictures: after the keyframe in the file, before it on the screen.
        leading = sum(p.size > 0 and _stamp(p) < self._first_stamp and not is_hidden(p) for p in self._ahead)
        if leading and row == 0:
            raise UntrustedTableError
        self.number = int(table.shown_before[row]) + leading  # of the next frame to be given

    def _read(self, container: av.container.InputContainer, row: int) -> Iterator[av.Packet]:
        """The packets from one row on; a seek may have led to an earlier one."""
        positions, sizes, started = self._table.positions, self._table.sizes, False
        for packet in container.demux(self._stream):
            if packet.size == 0:  # the end
                if row != len(sizes):
                    raise UntrustedTableError
                yield packet
                raise UntrustedTableError  # more frames were asked for than it has
            if not started and packet.pos < positions[row]:
                continue
            started, stamp = True, _stamp(packet)
            expected = (positions[row], sizes[row]) if row < len(sizes) else None
            if (packet.pos, packet.size) != expected or stamp in self._seen:
                raise UntrustedTableError
            self._seen.add(stamp)
            row += 1
            yield packet

    def _look_ahead(self) -> None:
        """Reads the keyframe and all that may be shown before it."""
        keyframes = self._table.keyframes
        place = int(np.searchsorted(keyframes, self.row, "right"))
        end = int(keyframes[place]) if place < len(keyframes) else len(self._table.sizes)
        for packet in self._packets:
            self._ahead.append(packet)
            if len(self._ahead) == 1:
                self._first_stamp = _stamp(packet)
            # A frame is never shown before it is decoded.
            decoded_later = len(self._ahead) > 1 and packet.dts is not None and packet.dts >= self._first_stamp
            if self.row + len(self._ahead) >= end or packet.size == 0 or decoded_later:
                break

    def _decode(self) -> None:
        packet = self._ahead.pop(0) if self._ahead else next(self._packets)
        if packet.size:
            self.row += 1
            if (stamp := _stamp(packet)) >= self._first_stamp:
                if not is_hidden(packet):
                    heapq.heappush(self._stamps, stamp)
            elif not self._ahead and not is_hidden(packet):
                raise UntrustedTableError
        for frame in packet.decode():
            if not self._begun and frame.pts is not None and frame.pts < self._first_stamp:
                continue  # it needs what comes before the keyframe
            self._begun = True
            if frame.is_corrupt or not self._stamps or heapq.heappop(self._stamps) != frame.pts:
                raise UntrustedTableError
            self._frames.append(frame)
        if packet.size == 0 and not self._frames:
            raise UntrustedTableError

    def give(self, number: int) -> av.VideoFrame:
        """The frame of this number, which must not have been given yet."""
        while self.number <= number:
            while not self._frames:
                self._decode()
            frame = self._frames.pop(0)
            self.number += 1
        return frame


def read_by_table(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    table: FrameTable,
    numbers: Sequence[int],
    take: Callable[[int, av.VideoFrame], None],
) -> None:
    """Calls `take` with each number and its frame, of a file just opened; the numbers are different and ascending."""
    run = _Run(container, stream, table, 0)
    for number in numbers:
        row = table.keyframe_before(number)
        if table.shown_before[row] - run.number > SEEK_FRAMES:
            while True:  # frames that are shown before their keyframe need the keyframe before it
                container.seek(int(table.stamps[row]), stream=stream)
                run = _Run(container, stream, table, row)
                if run.number <= number:
                    break
                row = int(table.keyframes[np.searchsorted(table.keyframes, row) - 1])
        take(number, run.give(number))
