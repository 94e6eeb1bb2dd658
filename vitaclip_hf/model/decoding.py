"""Reading chosen frames of a video, exactly: frame 7 is what a player shows as the eighth picture.

The path of a video: `open_video(source)` gives a [`Video`] with its metadata; `frame_sampling` chooses frame numbers;
`Video.read` gives those frames. `Video.read_clips` does the last two. PyAV decodes by default: from the keyframes
before the wanted frames where the table of frames can be trusted (`frame_table`), else from the beginning to the end.
torchcodec and decord can be asked for by name.
"""

from __future__ import annotations

import io
import multiprocessing
import numbers
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from .containers import DamageError, check_end, has_fragments, opened_container
from .decoding_process import ForkedObject
from .frame_sampling import ClipSpecification
from .frame_table import FrameTable, UntrustedTableError, can_be_trusted, is_mp4, read_by_table
from .read_options import ReadOptions
from .reading_ahead import usable_cores
from .sources import VideoDecodingError, VideoInput, VideoTooLargeError, failure, opened_source


if TYPE_CHECKING:  # PyAV is imported when the first file is opened: a model needs none
    import av


# Decoders hold pictures of their own. They count against `max_bytes` beyond this size, which any decoding takes.
USUAL_DECODER_BYTES = 64 << 20
DECODER_PICTURES = 4  # canvas and copies of an animation, reference frames
MAX_HEADER_BYTES = 128  # between two packets of a Matroska file
# Decoder threads pay for this many pixels and more; for less, they cost more than they give.
MIN_PIXELS_FOR_THREADS = 200_000_000


@dataclass
class EncodedVideoMetadata(VideoMetadata):
    """
    Metadata of an encoded video.

    Attributes:
        frames_left_out (`int`): damaged frames that `on_damage="skip"` left out, or frames before the first keyframe,
            as far as the container tells.
    """

    frames_left_out: int = 0


class DecodedFrame:
    """
    A frame of [`Video.frames`]. It becomes pixels when they are asked for.

    Attributes:
        number (`int`): from 0.
        time, end (`float`): from and to when it is shown, in seconds from the first frame.
    """

    def __init__(self, number: int, time: float, end: float, picture: Callable[[], np.ndarray]):
        self.number, self.time, self.end = number, time, end
        self._picture = picture

    @cached_property
    def rgb(self) -> np.ndarray:
        """The picture as it is displayed, of shape `(height, width, 3)`, uint8."""
        return self._picture()


class Video(ABC):
    """
    A video whose frames can be read.

    Attributes:
        name: what to call it in messages.
        metadata: `total_num_frames`, `fps`, `width`, `height`, `duration` in seconds, `video_backend`. The container's
            frame count can be wrong; it is corrected by the first reading.
        max_bytes: limit on what one reading holds in memory.
        decoder_bytes: what the decoder holds beside the frames that are returned.
    """

    def __init__(self, name: str, metadata: VideoMetadata, max_bytes: int | None = ReadOptions.max_bytes):
        self.name = name
        self.metadata = metadata
        self.max_bytes = max_bytes
        self.decoder_bytes = 0

    @abstractmethod
    def _decode(self, numbers: list[int]) -> np.ndarray | torch.Tensor:
        """
        The frames of different numbers in ascending order; numbers beyond the end are left out.

        An array `[K, H, W, 3]` or a tensor `[K, 3, H, W]`. Decoders give arrays, since torch's own operations can hang
        in a forked process. Corrects `metadata.total_num_frames` if it was wrong.
        """

    def frames(self) -> Iterator[DecodedFrame]:
        """
        All frames in order, each decoded once, with the time it is shown. Memory does not grow with the length.

        Read `frame.rgb` before you advance the iterator.

        Raises:
            VideoDecodingError: the video is damaged (when the iteration gets there).
            ValueError: the decoder is not PyAV.
        """
        raise ValueError(f'`frames` needs the decoder "pyav", got {self.metadata.video_backend!r:.100}.')

    def _decode_within_limit(self, numbers: list[int], copies: int) -> np.ndarray | torch.Tensor:
        """The frames of different numbers, ascending. `copies`: how many frames are copied from them afterwards."""
        height, width, count = self.metadata.height, self.metadata.width, len(numbers) + copies
        if self.max_bytes is not None and height and width:
            decoder = max(self.decoder_bytes - USUAL_DECODER_BYTES, 0)
            if (size := count * height * width * 3 + decoder) > self.max_bytes:
                needed = f"{count} frames of {width} x {height} take {size:,} bytes"
                needed += f", {decoder:,} of them in the decoder" if decoder else ""
                advice = "Take fewer frames or views, make the video smaller, or raise `max_bytes`."
                cause = f"{needed}, the limit is {self.max_bytes:,}"
                raise failure(self.name, cause, "decoding", advice, VideoTooLargeError)
        return self._decode(numbers)

    def read(self, indices: Iterable[int]) -> torch.Tensor:
        """
        Frames by number.

        Args:
            indices: frame numbers in any order, repeats allowed.

        Returns:
            `torch.Tensor` of shape `(num_indices, 3, height, width)`, uint8 RGB for encoded videos.

        Raises:
            VideoDecodingError: the video is damaged, or the frames exceed `max_bytes`.
            IndexError: a frame number is not below the frame count.
            TypeError, ValueError: no integers, none at all, or negative ones.
        """
        indices = checked_indices(indices)
        wanted = sorted(set(indices))
        frames = self._decode_within_limit(wanted, 0 if wanted == indices else len(indices))
        if len(frames) < len(wanted):
            raise IndexError(
                f"frame {wanted[-1]} asked for, but {self.name} has {self.metadata.total_num_frames} frames, from 0."
            )
        self.metadata.frames_indices = indices
        return _chosen(frames, wanted, indices)

    def read_clips(self, specification: ClipSpecification | None = None, seed: int | None = None) -> list[torch.Tensor]:
        """
        The temporal views of the video.

        Args:
            specification ([`ClipSpecification`], *optional*): which frames; all of them, as one view, by default.
            seed (`int`, *optional*): of random sampling.

        Returns:
            A list with one `torch.Tensor` of shape `(num_frames, 3, height, width)` for each view.

        Raises:
            VideoDecodingError: the video is damaged, or the frames exceed `max_bytes`.
        """
        for _ in range(3):  # a second time if decoding shows that the container's frame count was wrong
            count = self.metadata.total_num_frames
            clips = [list(range(count))] if specification is None else specification.frame_numbers(count, seed)
            wanted = sorted({number for clip in clips for number in clip})
            copies = sum(len(clip) for clip in clips if _span(wanted, clip) is None)
            frames = self._decode_within_limit(wanted, copies)
            if self.metadata.total_num_frames == count:
                self.metadata.frames_indices = [number for clip in clips for number in clip]
                # Views overlap and short videos repeat frames: each frame is decoded once.
                return [_chosen(frames, wanted, clip) for clip in clips]
        raise failure(self.name, "its frame count differs from reading to reading", "decoding", "Encode it again.")


def _span(wanted: list[int], numbers: Sequence[int]) -> slice | None:
    """Where the numbers stand in `wanted` as they are, one after the other; such frames need no copy."""
    start = wanted.index(numbers[0])
    part = slice(start, start + len(numbers))
    return part if wanted[part] == list(numbers) else None


def _chosen(frames: np.ndarray | torch.Tensor, wanted: list[int], numbers: list[int]) -> torch.Tensor:
    """`[K, 3, H, W]`, frames by number from those of `wanted`; without repeats or another order, a view of them."""
    row = {number: place for place, number in enumerate(wanted)}
    chosen = frames[_span(wanted, numbers) or [row[number] for number in numbers]]
    return chosen if isinstance(chosen, torch.Tensor) else torch.from_numpy(chosen).permute(0, 3, 1, 2)


def open_video(source: VideoInput, options: ReadOptions | None = None, **fields: Any) -> Video:
    """
    Opens a video and reads its metadata.

    Args:
        source: path, http(s) or file URL, the file's bytes, a binary file object (read from where it stands, not
            closed), or `{"path": …, "bytes": …}` as in `datasets`.
        options ([`ReadOptions`], *optional*): how it is read; by default as [`ReadOptions`] says.
        fields: fields of [`ReadOptions`] in place of those of `options`, such as `max_seconds=5`.

    Returns:
        [`Video`]

    Raises:
        VideoTooLargeError: a frame or the download exceeds its limit.
        VideoDecodingError: the source cannot be read, or is not a video.
        ImportError: the decoder asked for by name is not usable here.
        TypeError, ValueError: an argument is not one of those above.

    Example:

    ```python
    >>> from vitaclip_hf import open_video

    >>> video = open_video("archery.mp4")  # doctest: +SKIP
    >>> frames = video.read([0, 8, 16, 24])  # doctest: +SKIP

    ```
    """
    options = ReadOptions.of(options, **fields)
    name, video = opened_source(source, options)
    opened = partial(_opened, name, video, options)
    return opened() if options.max_seconds is None else TimedVideo(name, opened, options.max_seconds, options.max_bytes)


def _opened(name: str, video: str | bytes, options: ReadOptions) -> Video:
    if options.decoder in ("auto", "pyav"):
        return PyAVVideo(name, video, options)
    with _reporting(name, "opening"):  # these open the file themselves, so that it is checked before
        check_end(video)
        with opened_container(name, video, options.max_frame_pixels):
            pass
    reader = TorchcodecVideo.open if options.decoder == "torchcodec" else DecordVideo
    return reader(name, video, options.max_bytes)


def decode_video(
    source: VideoInput, indices: Iterable[int], options: ReadOptions | None = None, **fields: Any
) -> tuple[np.ndarray, VideoMetadata]:
    """
    Decodes the frames asked for, as they are displayed (rotated and mirrored as the file says).

    The decoders:

    - `"auto"` is `"pyav"`: the same frames and errors on every machine.
    - `"pyav"` decodes from the keyframes before the wanted frames where this is cheaper and certain, else from the
      beginning, and converts what was asked for. Damage in H.264, MPEG-4 and AV1 is nearly always an error; HEVC and
      VP9 decoders often hide it.
    - `"torchcodec"` (exact seek mode) decodes only what it needs: faster where keyframes are dense. It returns damaged
      pictures without an error, and wrong frames for AVI with B-frames and for MPEG-TS. Needs FFmpeg's libraries.
    - `"decord"` is unmaintained, takes the frame count from the header and silently returns wrong frames for open
      groups of pictures (the default of x265), MPEG-4 with B-frames, MPEG-TS and edit lists; it cannot decode AV1.

    Args:
        source: see [`open_video`].
        indices: frame numbers in any order, repeats allowed.
        options, fields: see [`open_video`].

    Returns:
        The frames in the order asked, `np.ndarray` of shape `(num_indices, height, width, 3)`, uint8 RGB, and the
        metadata: true frame count, frames per second, displayed size, duration in seconds, back end used and frame
        numbers.

    Raises:
        VideoDecodingError: the source cannot be read, is not a video or is damaged.
        IndexError: a frame number is not below the frame count.
        ImportError: the decoder asked for by name is not usable here.
        TypeError, ValueError: an argument is not one of those above.

    Example:

    ```python
    >>> frames, metadata = decode_video("archery.mp4", [0, 8, 16, 24])  # doctest: +SKIP

    ```
    """
    indices = checked_indices(indices)  # before anything is downloaded
    video = open_video(source, options, **fields)
    frames = video.read(indices).permute(0, 2, 3, 1).numpy()
    return frames, video.metadata


class TimedVideo(Video):
    """
    A video that another process decodes, which is ended after some time.

    Args:
        name (`str`): for messages.
        opened (`Callable`): opens the video, in that process.
        max_seconds (`float`): most time for opening and all readings together.
        max_bytes (`int`, *optional*): limit on what one reading holds in memory.
    """

    def __init__(self, name: str, opened: Callable[[], Video], max_seconds: float, max_bytes: int | None):
        self._process, self._seconds = ForkedObject(partial(_Served, opened), max_seconds), max_seconds
        super().__init__(name, VideoMetadata(0), max_bytes)
        self._call("state")

    def _decode(self, numbers: list[int]) -> np.ndarray | torch.Tensor:
        frames, is_tensor = self._call("decode", numbers)
        return torch.from_numpy(frames) if is_tensor else frames

    def frames(self) -> Iterator[DecodedFrame]:
        number = 0
        while times := self._call("frame", number):
            yield DecodedFrame(number, *times, partial(self._call, "picture", number))
            number += 1

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            result, self.metadata, self.decoder_bytes = self._process.call(method, *arguments)
        except TimeoutError as error:
            advice = "Leave the file out, encode it again, or raise `max_seconds`."
            raise failure(self.name, f"it is not decoded after {self._seconds:g} s", "decoding", advice) from error
        except ChildProcessError as error:
            advice = "The file breaks the decoder or takes too much memory: encode it again, or leave it out."
            raise failure(self.name, error, "decoding", advice) from error
        return result


class _Served:
    """A video in the process that decodes it; each method also gives what is known of the video after it."""

    def __init__(self, opened: Callable[[], Video]):
        self._video = opened()
        self._current: DecodedFrame | None = None

    def state(self, result: Any = None) -> tuple[Any, VideoMetadata, int]:
        return result, self._video.metadata, self._video.decoder_bytes

    def decode(self, numbers: list[int]) -> tuple[Any, VideoMetadata, int]:
        frames = self._video._decode(numbers)
        return self.state((np.asarray(frames), isinstance(frames, torch.Tensor)))

    def frame(self, number: int) -> tuple[Any, VideoMetadata, int]:
        """When a frame is shown; `None` after the last one."""
        if number == 0 or self._current is None or self._current.number != number - 1:
            self._frames = islice(self._video.frames(), number, None)
        self._current = next(self._frames, None)
        return self.state(self._current and (self._current.time, self._current.end))

    def picture(self, number: int) -> tuple[Any, VideoMetadata, int]:
        if self._current is None or self._current.number != number:
            self.frame(number)
        return self.state(self._current and np.ascontiguousarray(self._current.rgb))


def checked_indices(indices: Any) -> list[int]:
    """Frame numbers as a list of ints, from any iterable of integers."""
    values = indices.tolist() if hasattr(indices, "tolist") else indices  # numpy, torch
    values = list(values) if isinstance(values, Iterable) else None
    if values is None or not all(isinstance(v, numbers.Integral) and not isinstance(v, bool) for v in values):
        raise TypeError(f"frame numbers must be a 1-D sequence of integers, got {indices!r:.200}.")
    if not values:
        raise ValueError("the frame numbers are empty; ask for at least one frame.")
    if min(values) < 0:
        raise ValueError(f"frame numbers must not be negative, got {min(values)}; frames count from 0.")
    return [int(value) for value in values]


@contextmanager
def _reporting(name: str, backend: str, on_damage: str = "") -> Iterator[None]:
    """
    Turns whatever a library raises for a file into `VideoDecodingError`; decord's errors share no narrower base class.

    Mistakes of a call, such as an argument that a version does not know, are no damage and pass.
    """
    try:
        yield
    except (VideoDecodingError, TypeError, NameError, AttributeError):
        raise
    except Exception as error:
        cause = str(error) if isinstance(error, DamageError) else error
        advice = "The file is damaged, incomplete or no video: fetch or encode it again, or leave it out"
        advice += ', or take its whole frames with `on_damage="skip"`.' if on_damage == "error" else "."
        raise failure(name, cause, backend, advice) from error


class PyAVVideo(Video):
    """A video file read with PyAV. Each reading opens the file anew: nothing is shared with a forked process."""

    def __init__(self, name: str, video: str | bytes, options: ReadOptions):
        self._video, self._options = video, options
        self._skips = options.on_damage == "skip"
        self._begins_late = False  # between two keyframes
        self._table: FrameTable
        super().__init__(name, EncodedVideoMetadata(0, video_backend="pyav"), options.max_bytes)
        with self._opened() as (container, stream):
            if not self._skips:
                check_end(video)
            self._scan(container, stream)
        self._stated_frames = self.metadata.total_num_frames
        if self._skips:  # the number of whole frames is known only after decoding
            self._decode_through({}, lambda number, frame: None)
            if self.metadata.frames_left_out:
                self._table = self._table.distrusted()

    @contextmanager
    def _opened(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        with (
            _reporting(self.name, "PyAV", self._options.on_damage),
            opened_container(self.name, self._video, self._options.max_frame_pixels) as opened,
        ):
            yield opened

    def _scan(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        """
        Finds the metadata and the table of frames, and decodes the first frame.

        The number of packets that are shown is nearly always that of frames.
        """
        mp4 = is_mp4(container)
        trusted = can_be_trusted(container, stream) and self._options.verify == "read"
        index = self._index(stream, trusted) if mp4 and not has_fragments(self._video) else None
        rows = []
        spans: list[tuple[int, int]] = []  # from and to when each packet is shown
        first, stamped, begun, end = None, True, False, None
        last: av.Packet | None = None
        # All streams: the end of any may be missing, and what lies between two packets of Matroska was skipped as
        # damaged if it is more than headers.
        for packet in self._packets(container, *([] if index is None else [stream])):
            if packet.size and index is None:
                last, gap = packet, (packet.pos or 0) - (end or 0)
                trusted = trusted and packet.pos is not None and (mp4 or end is None or gap <= MAX_HEADER_BYTES)
                end = (packet.pos or 0) + packet.size
            if packet.stream.index != stream.index:
                continue
            self._begins_late |= not begun and not packet.is_keyframe
            begun = True
            if first is None:  # the displayed size is known from the first frame only
                first = next(iter(self._decoded(packet) or ()), None)
            if index is not None and first is not None:
                break
            if packet.size == 0 or index is not None:
                continue
            stamp = packet.dts if mp4 else packet.pts
            rows.append((packet.pos, packet.size, stamp, packet.is_keyframe, packet.is_discard))
            if not packet.is_discard:  # an edit list hides those
                stamped = stamped and packet.pts is not None
                spans.append((packet.pts or 0, (packet.pts or 0) + (packet.duration or 0)))
        if last is not None and last.is_corrupt and not self._skips and container.format.name != "mpegts":
            raise DamageError("it is cut short, its last packet is not complete")
        self._table = FrameTable.from_rows(rows, trusted) if index is None else index
        if first is None or not self._table.num_frames:
            raise DamageError("it has no frames")
        ticks = stream.duration if index is not None else _ticks(spans) if stamped else None
        metadata, count = self.metadata, self._table.num_frames
        rate = stream.average_rate or stream.guessed_rate
        metadata.total_num_frames = count
        metadata.fps, metadata.duration = _rate(count, ticks, stream.time_base, rate)
        metadata.height, metadata.width = _displayed(np.empty((first.height, first.width, 0)), first).shape[:2]
        self._size = first.width, first.height
        picture = sum(plane.buffer_size for plane in first.planes)
        self.decoder_bytes = picture * DECODER_PICTURES + first.width * first.height * 3

    def _index(self, stream: av.VideoStream, trusted: bool) -> FrameTable | None:
        """The table of samples of an MP4 without fragments; other containers list keyframes only."""
        entries = list(stream.index_entries) if stream.duration is not None else []
        if not entries:
            return None
        table = FrameTable.from_index(entries, trusted)
        size = len(self._video) if isinstance(self._video, bytes) else os.path.getsize(self._video)
        present = int((table.positions <= size - table.sizes).sum())
        if present < len(entries) and not self._skips:
            raise DamageError(f"it is cut short, {present} of {len(entries)} frames")
        return table

    def _packets(self, container: av.container.InputContainer, *streams: av.VideoStream) -> Iterator[av.Packet]:
        import av

        try:
            yield from container.demux(*streams)
        except av.error.FFmpegError:
            if not self._skips:
                raise

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame] | None:
        """The frames of a packet; `None` if it or one of them is damaged and `on_damage` is `"skip"`."""
        import av

        try:
            if self._skips and packet.size and packet.is_corrupt:
                raise DamageError("a packet is damaged")
            frames = packet.decode()
            if any(frame.is_corrupt for frame in frames):
                raise DamageError("a frame is damaged")
            return frames
        except (av.error.FFmpegError, DamageError):
            if self._skips:
                return None
            raise

    def _whole_frames(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """All frames. With `on_damage="skip"`, those from a damaged one to the next keyframe are left out."""
        waiting, start = False, None  # for a keyframe; when the last one after damage is shown
        for packet in self._packets(container, stream):
            if waiting and packet.is_keyframe and packet.size:
                waiting, start = False, packet.pts
            frames = [] if waiting else self._decoded(packet)
            if frames is None:
                waiting = True
                frames = stream.codec_context.decode(None) if packet.is_corrupt else []  # those before it
                stream.codec_context.flush_buffers()
            yield from (frame for frame in frames if start is None or frame.pts is None or frame.pts >= start)

    def frames(self) -> Iterator[DecodedFrame]:
        metadata = self.metadata
        shown_for = 1 / metadata.fps if metadata.fps else 0.04
        with self._opened() as (container, stream):
            if _threads_pay(metadata.total_num_frames * (metadata.width or 0) * (metadata.height or 0)):
                stream.codec_context.thread_count = 0  # as many as FFmpeg finds useful
                # Threads that decode several frames at once say later which packet is damaged.
                stream.thread_type = "SLICE" if self._skips else "AUTO"
            before: DecodedFrame | None = None
            first = None
            for number, frame in enumerate(self._whole_frames(container, stream)):
                time = frame.time if frame.time is not None else number * shown_for
                first = time if first is None else first
                time -= first
                if before is not None:
                    before.end = max(time, before.time)  # time stamps of broken files run backwards
                    time = before.end
                    yield before
                before = DecodedFrame(number, time, time + shown_for, partial(self._picture, frame))
            if before is None:
                raise DamageError("it has no frames")
            yield before

    def _decode(self, numbers: list[int]) -> np.ndarray:
        frames = np.empty((len(numbers), self.metadata.height, self.metadata.width, 3), np.uint8)
        rows = {number: row for row, number in enumerate(numbers)}

        def take(number: int, frame: av.VideoFrame) -> None:
            frames[rows[number]] = self._picture(frame)

        if not (self._table.trusted and self._read_by_table(numbers, take)):
            self._decode_through(rows, take)
        return frames[: sum(number < self.metadata.total_num_frames for number in numbers)]

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as it is displayed, `[H, W, C]`."""
        # A stream may change its size midway; keep the first and scale bicubically, as ffmpeg does.
        rgb = frame.reformat(*self._size, format="rgb24", interpolation="BICUBIC", threads=1)
        return _displayed(rgb.to_ndarray(), frame)

    def _read_by_table(self, numbers: list[int], take: Callable[[int, av.VideoFrame], None]) -> bool:
        """Whether the frames were found by the table. If not, decoding from the beginning says what is wrong."""
        import av

        present = [number for number in numbers if number < self._table.num_frames]
        with self._opened() as (container, stream):
            if _threads_pay(self._table.frames_to_decode(present) * self._size[0] * self._size[1]):
                stream.codec_context.thread_count = min(usable_cores(), 4)
                stream.thread_type = "AUTO"
            try:
                read_by_table(container, stream, self._table, present, take)
            except (UntrustedTableError, av.error.FFmpegError):
                self._table = self._table.distrusted()
        return self._table.trusted

    def _decode_through(self, rows: dict[int, int], take: Callable[[int, av.VideoFrame], None]) -> None:
        """
        Takes the wanted frames, and counts all of them.

        Frames are numbered in the order the decoder gives them: time stamps may be missing, shifted or repeated. Those
        after the last wanted one are decoded too, for the count and to notice damage, but converted only if wanted.
        """
        count = 0
        with self._opened() as (container, stream):
            for frame in self._whole_frames(container, stream):
                if count in rows:
                    take(count, frame)
                count += 1
            if not count:
                raise DamageError("it has no whole frames" if self._skips else "it has no frames")
        self.metadata.total_num_frames = count
        if self._skips or self._begins_late:
            self.metadata.frames_left_out = max(self._stated_frames - count, 0)


def _ticks(spans: list[tuple[int, int]]) -> int | None:
    """From the first frame to the end of the last one, which is as long as the others if its duration is unknown."""
    first, last = min(start for start, _ in spans), max(start for start, _ in spans)
    end = max(end for _, end in spans)
    if end > last or len(spans) == 1:
        return (end - first) or None
    return (last - first) * len(spans) // (len(spans) - 1)


def _rate(
    count: int, ticks: int | None, time_base: Fraction | None, stated: Fraction | None
) -> tuple[float | None, float | None]:
    """Frames per second and duration in seconds."""
    duration = float(ticks * time_base) if ticks and time_base else None
    if duration is None:
        return (float(stated), count / float(stated)) if stated else (None, None)
    measured = count / duration
    # Stamps in milliseconds are rounded; the stated rate is exact where it agrees.
    agrees = stated is not None and abs(count / float(stated) - duration) <= max(0.01 * duration, 3 / float(stated))
    return (float(stated) if stated is not None and agrees else measured), duration


def _threads_pay(pixels: int) -> bool:
    """Whether to decode in several threads: much to decode, and this is no worker process beside others."""
    in_worker = torch.utils.data.get_worker_info() is not None or multiprocessing.parent_process() is not None
    return pixels >= MIN_PIXELS_FOR_THREADS and not in_worker


def _displayed(picture: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """A decoded picture `[H, W, C]` turned and mirrored as the frame's display matrix says."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    # x' = a x + c y and y' = b x + d y; FFmpeg's own player rounds to quarter turns too.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


# torchcodec and decord


class TorchcodecVideo(Video):
    """A video read with torchcodec."""

    def __init__(self, name: str, decoder: Any, max_bytes: int | None = ReadOptions.max_bytes):
        stated = decoder.metadata
        metadata = VideoMetadata(
            len(decoder),
            fps=float(stated.average_fps) if stated.average_fps else None,
            width=stated.width,
            height=stated.height,
            duration=float(stated.duration_seconds) if stated.duration_seconds else None,
            video_backend="torchcodec",
        )
        self._decoder = decoder
        super().__init__(name, metadata, max_bytes)

    @classmethod
    def open(cls, name: str, video: str | bytes, max_bytes: int | None) -> TorchcodecVideo:
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, RuntimeError, OSError) as error:  # the last two: FFmpeg's libraries are missing
            raise ImportError(
                'decoder="torchcodec" needs `pip install torchcodec` and FFmpeg\'s shared libraries (such as '
                '`apt-get install ffmpeg`); or leave the decoder at "auto".'
            ) from error
        with _reporting(name, "torchcodec"):
            decoder = VideoDecoder(video, dimension_order="NCHW", num_ffmpeg_threads=1, seek_mode="exact", device="cpu")
            return cls(name, decoder, max_bytes)

    def _decode(self, numbers: list[int]) -> torch.Tensor:
        numbers = [number for number in numbers if number < self.metadata.total_num_frames]
        if not numbers:
            return torch.empty(0, 3, 0, 0, dtype=torch.uint8)
        with _reporting(self.name, "torchcodec"):
            frames = self._decoder.get_frames_at(indices=numbers).data
        if frames.shape[1] != 3:  # a decoder that was given may have the other dimension order
            frames = frames.permute(0, 3, 1, 2)
        self.metadata.height, self.metadata.width = frames.shape[-2:]
        return frames


class DecordVideo(Video):
    """A video read with decord."""

    def __init__(self, name: str, video: str | bytes, max_bytes: int | None):
        try:
            from decord import VideoReader
        except (ImportError, OSError) as error:
            raise ImportError(
                'decoder="decord" needs `pip install decord` (x86-64 only); or leave the decoder at "auto".'
            ) from error
        with _reporting(name, "decord"):
            self._reader = VideoReader(io.BytesIO(video) if isinstance(video, bytes) else video, num_threads=1)
            count, fps = len(self._reader), float(self._reader.get_avg_fps()) or None
            height, width = self._reader[0].shape[:2]
        duration = count / fps if fps else None
        metadata = VideoMetadata(count, fps=fps, width=width, height=height, duration=duration, video_backend="decord")
        super().__init__(name, metadata, max_bytes)

    def _decode(self, numbers: list[int]) -> np.ndarray:
        numbers = [number for number in numbers if number < self.metadata.total_num_frames]
        with _reporting(self.name, "decord"):
            return self._reader.get_batch(numbers).asnumpy() if numbers else np.empty((0, 0, 0, 3), dtype=np.uint8)
