"""Reading chosen frames of a video, exactly: frame 7 is what a player shows as the eighth picture."""

from __future__ import annotations

import io
import multiprocessing
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import import_module
from itertools import islice, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.utils import logging
from transformers.video_utils import VideoMetadata

from .containers import DamageError, check_end, opened_container, reporting
from .decoding_process import ForkedObject
from .frame_sampling import ClipSpecification
from .frame_table import MAX_GAP, Clock, FrameTable, UntrustedTableError, can_be_trusted, is_hidden, read_by_table
from .machine import usable_cores
from .read_options import ReadOptions
from .shown_names import shown as shown_name
from .sources import VideoInput, VideoTooLargeError, check_pixels, failure, opened_source
from .tone_mapping import TRANSFERS, tone_mapped


if TYPE_CHECKING:  # PyAV is imported when the first file is opened: a model needs none
    import av


logger = logging.get_logger(__name__)
MAX_HEADER_BYTES = 128  # between two packets of a Matroska file
# Decoder threads pay for this many pixels and more; for less, they cost more than they give.
MIN_PIXELS_FOR_THREADS = 200_000_000


@dataclass
class EncodedVideoMetadata(VideoMetadata):
    """
    `frames_left_out`: damaged frames that were skipped, or frames before the first keyframe, if that is known.
    `start`: when the first frame is shown, in seconds from the start of the container. `timecode`: of the first frame,
    as the camera wrote it. `pixel_aspect`: width of a pixel by its height, as the file says. `tone_mapped`: the
    transfer function of HDR, `"arib-std-b67"` (HLG) or `"smpte2084"` (PQ), else `None`. `frame_times`: when the frames
    of the last reading are shown, by number. `seeks`: whether a frame is reached without decoding all before it.
    """

    frames_left_out: int = 0
    start: float = 0.0
    timecode: str | None = None
    pixel_aspect: float = 1.0
    tone_mapped: str | None = None
    seeks: bool = False
    frame_times: dict[int, float] = field(default_factory=dict)

    @property
    def timestamps(self) -> list[float]:
        """When each of the frames that were read is shown, in seconds from the start of the container."""
        return [self.frame_times[number] for number in self.frames_indices or ()]


@dataclass
class DecodedFrame:
    """A frame of [`Video.frames`]: its `number`, and from which `time` to which `end` it is shown, in seconds."""

    number: int
    time: float
    end: float
    picture: Callable[[], np.ndarray]

    @cached_property
    def rgb(self) -> np.ndarray:
        """The picture as it is displayed, of shape `(height, width, 3)`, uint8."""
        return self.picture()


class Video(ABC):
    """A video whose frames can be read. The first reading corrects its `metadata` where the container is wrong."""

    def __init__(self, name: str, metadata: VideoMetadata, max_bytes: int | None = ReadOptions.max_bytes):
        self.name, self.metadata, self.max_bytes = name, metadata, max_bytes

    @abstractmethod
    def _decode(self, numbers: list[int]) -> np.ndarray | torch.Tensor:
        """
        The frames of different numbers, ascending; corrects `metadata`. Decoders give arrays `[K, H, W, 3]` and not
        tensors `[K, 3, H, W]`: torch can hang in a forked process.
        """

    def frames(self) -> Iterator[DecodedFrame]:
        """All frames in order, each decoded once. Read `frame.rgb` before you advance the iterator."""
        raise ValueError(f'`frames` needs the decoder "pyav", got {self.metadata.video_backend!r:.100}.')

    def _clips(self, clips: list[list[int]]) -> list[torch.Tensor]:
        """The frames `[K, 3, H, W]` of each list of numbers, each decoded once; nothing if one is beyond the end."""
        numbers = [number for clip in clips for number in clip]
        wanted = sorted(set(numbers))
        height, width = self.metadata.height or 0, self.metadata.width or 0
        count = len(wanted) + sum(len(clip) for clip in clips if clip != wanted)  # decoded, and copied
        if self.max_bytes is not None and (size := count * height * width * 3) > self.max_bytes:
            cause = f"{count} frames of {width} x {height} take {size:,} bytes, the limit is {self.max_bytes:,}"
            advice = "Take fewer frames or views, make the video smaller, or raise `max_bytes`."
            raise failure(self.name, cause, "decoding", advice, VideoTooLargeError)
        frames: Any = self._decode(wanted) if wanted[-1] < self.metadata.total_num_frames else None
        if wanted[-1] >= self.metadata.total_num_frames:
            return []
        self.metadata.frames_indices = numbers
        row = {number: place for place, number in enumerate(wanted)}
        chosen = [frames if clip == wanted else frames[[row[number] for number in clip]] for clip in clips]
        return [f if isinstance(f, torch.Tensor) else torch.from_numpy(f).permute(0, 3, 1, 2) for f in chosen]

    def read(self, indices: Iterable[int]) -> torch.Tensor:
        """
        Frames by number `(num_indices, 3, height, width)`, in any order and with repeats; uint8 RGB if encoded.

        Raises:
            VideoDecodingError: the video is damaged, or the frames exceed `max_bytes`.
            IndexError: a frame number is not below the frame count.
        """
        indices = checked_indices(indices)
        if clips := self._clips([indices]):
            return clips[0]
        count = self.metadata.total_num_frames
        held = f"{count} frame{'s' * (count != 1)}, from 0"
        raise IndexError(f"frame {max(indices)} asked for, but {self.name} has {held}.")

    def read_clips(self, specification: ClipSpecification | None = None, seed: int | None = None) -> list[torch.Tensor]:
        """The temporal views of the video, each `(num_frames, 3, height, width)`; by default all frames as one."""
        count = self.metadata.total_num_frames
        views = self._clips(specification.frame_numbers(count, seed) if specification else [list(range(count))])
        if self.metadata.total_num_frames == count:
            return views
        return self.read_clips(specification, seed)  # decoding showed that the container's frame count was wrong


def checked_indices(indices: Any) -> list[int]:
    """Frame numbers as a list of ints, from any iterable of integers."""
    values = np.asarray(indices if hasattr(indices, "__len__") else list(indices))
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise TypeError(f"frame numbers must be a 1-D sequence of integers, got {indices!r:.200}.")
    if not values.size or values.min() < 0:
        raise ValueError(f"frame numbers must be at least one, from 0; got {indices!r:.200}.")
    return values.tolist()


def open_video(source: VideoInput, options: ReadOptions | None = None, **fields: Any) -> Video:
    """
    Opens a video and reads its metadata.

    Args:
        source: path, http(s) or file URL, the file's bytes, a binary file object (read from where it stands, not
            closed), or `{"path": …, "bytes": …}` as in `datasets`.
        options ([`ReadOptions`], *optional*), fields: how it is read, and single options such as `max_seconds=5`.

    Raises:
        VideoDecodingError: the source cannot be read, or is not a video; VideoTooLargeError, if it exceeds a limit.
        ImportError: the decoder asked for by name is not usable here.
    """
    options = replace(options or ReadOptions(), **fields)
    name, video = opened_source(source, options)
    kind = PyAVVideo if options.decoder in ("auto", "pyav") else _library_video
    opened: Callable[[], Video] = partial(kind, name, video, options)
    return opened() if options.max_seconds is None else TimedVideo(name, opened, options)


class TimedVideo(Video):
    """A video that another process opens and decodes, which ends after `max_seconds` of work."""

    def __init__(self, name: str, opened: Callable[[], Video], options: ReadOptions):
        super().__init__(name, VideoMetadata(0), options.max_bytes)
        self._seconds = options.max_seconds or 0
        self._process = ForkedObject(partial(_Served, opened), self._seconds)
        self._call()

    def _decode(self, numbers: list[int]) -> np.ndarray:
        return self._call("decode", numbers)

    def frames(self) -> Iterator[DecodedFrame]:
        number = 0
        while times := self._call("frame", number):
            yield DecodedFrame(number, *times, partial(self._call, "frame", number, True))
            number += 1

    def _call(self, method: str = "", *arguments: Any) -> Any:
        try:
            result, self.metadata = self._process.call("answer", method, *arguments)
            return result
        except (TimeoutError, ChildProcessError) as error:
            late = f"it is not decoded after {self._seconds:g} s"
            advice = "Encode it again, leave it out, or raise `max_seconds`."
            raise failure(self.name, late if isinstance(error, TimeoutError) else error, "decoding", advice) from error


class _Served:
    """A video in the process that decodes it."""

    def __init__(self, opened: Callable[[], Video]):
        self._video = opened()
        self._current: DecodedFrame | None = None

    def answer(self, method: str, *arguments: Any) -> tuple[Any, VideoMetadata]:
        """The result of a method, and what is known of the video after it."""
        return getattr(self, method)(*arguments) if method else None, self._video.metadata

    def decode(self, numbers: list[int]) -> np.ndarray:
        return np.asarray(self._video._decode(numbers))

    def frame(self, number: int, rgb: bool = False) -> Any:
        """When a frame is shown, or its picture; `None` after the last one."""
        if (before := self._current.number if self._current else -1) != number:
            if number == 0 or before != number - 1:
                self._frames = islice(self._video.frames(), number, None)
            self._current = next(self._frames, None)
        if self._current is None:
            return None
        return np.ascontiguousarray(self._current.rgb) if rgb else (self._current.time, self._current.end)


class PyAVVideo(Video):
    """A video file read with PyAV. Each reading opens the file anew: nothing is shared with a forked process."""

    metadata: EncodedVideoMetadata

    def __init__(self, name: str, video: str | bytes, options: ReadOptions):
        self.video, self._options = video, options  # a path or bytes
        self._skips = options.on_damage == "skip"
        self._table: FrameTable
        super().__init__(name, EncodedVideoMetadata(0, video_backend="pyav"), options.max_bytes)
        with reporting(name, "PyAV"):
            has_fragments = check_end(video, may_be_cut=self._skips)
        with self._opened() as (container, stream):
            self._scan(container, stream, has_fragments)
        if not self.metadata.total_num_frames:
            deque(self.frames(), maxlen=0)
            self._table.trusted &= self.metadata.total_num_frames == self._table.num_frames
        self.metadata.seeks = self._table.trusted

    def _opened(self) -> AbstractContextManager[tuple[av.container.InputContainer, av.VideoStream]]:
        return opened_container(self.name, self.video, self._options.max_frame_pixels)

    def _scan(self, container: av.container.InputContainer, stream: av.VideoStream, has_fragments: bool) -> None:
        """Finds the metadata, the table of frames, and the first frame, which alone tells the displayed size."""
        mp4 = "mov" in container.format.name  # or QuickTime, or 3GP
        trusted = can_be_trusted(container, stream) and self._options.verify == "read"
        index = self._index(stream, trusted) if mp4 and not has_fragments else None
        rows, shown = [], []  # of the packets: places in the file; times and durations on the screen
        last, end = None, 0

        def noted() -> Iterator[av.Packet]:
            nonlocal trusted, last, end
            # All streams: the end of any may be missing, and what lies between two packets of Matroska was skipped as
            # damaged if it is more than headers.
            for packet in self._packets(container):
                if packet.size:
                    trusted &= mp4 or not end or (packet.pos or 0) - end <= MAX_HEADER_BYTES
                    last, end = packet, (packet.pos or 0) + packet.size
                if packet.stream.index != stream.index:
                    continue
                if packet.size:
                    stamp, hidden = packet.dts if mp4 else packet.pts, is_hidden(packet)
                    rows.append((packet.pos or 0, packet.size, stamp or 0, packet.is_keyframe, hidden))
                    if not hidden:
                        shown.append((packet.dts, packet.pts, packet.duration or 0))
                yield packet

        packets = noted() if index is None else self._packets(container, stream)
        first = next(self._whole_frames(packets, stream), None)
        if index is None:
            deque(packets, maxlen=0)  # reads the others without decoding them
        if last is not None and last.is_corrupt and not self._skips and container.format.name != "mpegts":
            raise DamageError("it is cut short, its last packet is not complete")
        self._table = table = FrameTable.of(rows, trusted) if index is None else index
        if first is None or not table.num_frames:
            raise DamageError("it has no frames")
        metadata = self.metadata
        duration, step = _duration(shown if index is None else None, table, stream)
        stated = float(stream.average_rate or stream.guessed_rate or 0)
        self._stated_rate = stated if stated * MAX_GAP >= 1 else None
        self._in_fields = first.interlaced_frame  # a packet may be one of the two fields of a frame
        metadata.fps = 1 / step if step and not self._in_fields else self._stated_rate
        # Else only decoding tells the number of frames, or the times.
        if duration is not None and not (self._skips or self._in_fields) and 0 in table.keyframes[:1]:
            metadata.total_num_frames = table.num_frames
            metadata.fps, metadata.duration = _rate(table.num_frames, duration, self._stated_rate)
        self.has_plain_stamps = bool(duration) and 0 in table.keyframes[:1]  # one can seek to what they say
        self._container_start = max(container.start_time or 0, 0) / 1e6
        metadata.timecode = stream.metadata.get("timecode") or container.metadata.get("timecode")
        metadata.start = Clock(0, self._container_start)(first.time)
        self._zero = (first.time or 0) - metadata.start
        table.trusted &= duration is not None
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
        metadata.pixel_aspect, metadata.tone_mapped = float(aspect), TRANSFERS.get(first.color_trc)
        width = max(round(first.width * aspect), 1) if self._options.pixel_aspect == "displayed" else first.width
        check_pixels(self.name, width, first.height, self._options.max_frame_pixels)
        self._size = width, first.height
        metadata.height, metadata.width = _displayed(np.empty((first.height, width, 0)), first).shape[:2]

    def _index(self, stream: av.VideoStream, trusted: bool) -> FrameTable | None:
        """The table of samples of an MP4 without fragments; other containers list keyframes only."""
        entries = stream.index_entries
        if stream.duration is None or not len(entries):
            return None
        size = len(self.video) if isinstance(self.video, bytes) else os.path.getsize(self.video)
        columns = attrgetter("pos", "size", "timestamp", "is_keyframe", "is_discard")
        table = FrameTable.of(map(columns, entries), trusted)
        present = int((table.positions <= size - table.sizes).sum())
        if present < len(entries) and not self._skips:
            raise DamageError(f"it is cut short, {present} of {len(entries)} frames")
        return table

    def _packets(self, container: av.container.InputContainer, *streams: av.VideoStream) -> Iterator[av.Packet]:
        import av

        try:
            for packet in container.demux(*streams):
                if packet.size or not packet.buffer_ptr:  # else the picture before it is held (Theora)
                    yield packet
        except av.error.FFmpegError:
            if not self._skips:
                raise

    def _whole_frames(self, packets: Iterator[av.Packet], stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """All frames. With `on_damage="skip"`, those from a damaged one to the next keyframe are left out."""
        import av

        waiting, start = False, None  # for a keyframe; when the last one after damage is shown
        for packet in packets:
            if waiting and packet.is_keyframe and packet.size:
                waiting, start = False, packet.pts
            if waiting:
                continue
            try:
                if self._skips and packet.size and packet.is_corrupt:
                    raise DamageError("a packet is damaged")
                frames = packet.decode()
                if any(frame.is_corrupt for frame in frames):
                    raise DamageError("a frame is damaged")
            except (av.error.FFmpegError, DamageError):
                if not self._skips:
                    raise
                waiting = True
                frames = stream.codec_context.decode(None) if packet.is_corrupt else []  # those before it
                stream.codec_context.flush_buffers()
            yield from (frame for frame in frames if start is None or frame.pts is None or frame.pts >= start)

    def frames(self) -> Iterator[DecodedFrame]:
        metadata, before, start, overstated = self.metadata, None, 0.0, 0
        shown_for = 1 / metadata.fps if metadata.fps else 0.04
        clock = Clock(shown_for, self._container_start)
        with self._opened() as (container, stream):
            self._use_threads(stream, self._table.num_frames, 16)
            for number, frame in enumerate(self._whole_frames(self._packets(container, stream), stream)):
                time = clock(frame.time)
                if before is None:
                    start = time
                else:
                    overstated += before.end - time > time - before.time
                    before.end = time
                    yield before
                length = float((frame.duration or 0) * (frame.time_base or 0)) or shown_for
                length = max(length, shown_for * self._in_fields)
                end = time + (length if length <= MAX_GAP else shown_for)  # of the last frame; of others, the next one
                before = DecodedFrame(number, time, end, partial(self._picture, frame))
            if before is None:
                raise DamageError("it has no whole frames")
            if 2 * overstated > before.number:  # by more than twice the steps of their stamps
                before.end = before.time + shown_for
            if (count := before.number + 1) != metadata.total_num_frames:  # together, and before anything uses them
                if clock.gaps:
                    gaps = f"its time stamps leave out {sum(clock.gaps):,.0f} s; the gap is closed"
                    logger.warning(f"{shown_name(self.name)}: {gaps}.")
                metadata.total_num_frames, metadata.start = count, start
                metadata.fps, metadata.duration = _rate(count, before.end - start, self._stated_rate)
            if self._skips or 0 not in self._table.keyframes[:1]:  # it begins between two keyframes
                metadata.frames_left_out = max(self._table.num_frames - count, 0)
            yield before

    def _decode(self, numbers: list[int]) -> np.ndarray:
        import av

        frames = np.empty((len(numbers), self.metadata.height, self.metadata.width, 3), np.uint8)
        rows = {number: row for row, number in enumerate(numbers)}
        self.metadata.frame_times = times = {}

        def take(number: int, frame: av.VideoFrame) -> None:
            frames[rows[number]], times[number] = self._picture(frame), (frame.time or 0) - self._zero

        if self._table.trusted:
            with self._opened() as (container, stream):
                self._use_threads(stream, len(numbers) * self._table.num_frames // len(self._table.keyframes), 4)
                try:
                    read_by_table(container, stream, self._table, numbers, take)
                except (UntrustedTableError, av.error.FFmpegError):  # decoding through says what is wrong
                    self._table.trusted = self.metadata.seeks = False
        if not self._table.trusted:
            # In the order of the decoder: time stamps may be missing, shifted or repeated.
            for frame in self.frames():
                if frame.number in rows:
                    frames[rows[frame.number]], times[frame.number] = frame.rgb, frame.time
        return frames

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as it is displayed, `[H, W, C]`."""
        transfer = TRANSFERS.get(frame.color_trc)
        # A stream may change its size midway; keep the first and scale bicubically, as ffmpeg does.
        kind = "rgb48le" if transfer else "rgb24"
        rgb = frame.reformat(*self._size, format=kind, interpolation="BICUBIC", threads=1).to_ndarray()
        return _displayed(tone_mapped(rgb, transfer) if transfer else rgb, frame)

    def _use_threads(self, stream: av.VideoStream, count: int, most: int) -> None:
        """Threads if there is much to decode, and this is no worker process."""
        in_worker = torch.utils.data.get_worker_info() is not None or multiprocessing.parent_process() is not None
        if count * self._size[0] * self._size[1] >= MIN_PIXELS_FOR_THREADS and not in_worker:
            stream.codec_context.thread_count = min(usable_cores(), most)
            # Threads that decode several frames at once say later which packet is damaged.
            stream.thread_type = "SLICE" if self._skips else "AUTO"


def _duration(
    shown: list[tuple[int | None, int | None, int]] | None, table: FrameTable, stream: av.VideoStream
) -> tuple[float | None, float | None]:
    """Seconds from the first frame to the end of the last (`None`: stamps begin anew or have a gap), and of one."""
    unit, stamps = stream.time_base or 0, table.stamps
    longest = MAX_GAP / unit if unit else 0
    decoding = [packet[0] for packet in shown or () if packet[0] is not None]
    if shown is not None:
        if not unit or any(packet[1] is None for packet in shown):
            return 0.0, None
        stamps, lengths = np.array([packet[1:] for packet in shown], np.int64).T
    steps: np.ndarray = np.diff(np.sort(stamps))
    usual = steps[(steps > 0) & (steps <= longest)]
    step = float(np.median(usual) * unit) if len(usual) else None
    if any(after < before for before, after in pairwise(decoding)) or not ((steps >= 0) & (steps <= longest)).all():
        return None, step
    if shown is None:
        return float((stream.duration or 0) * unit), step
    first, last = int(stamps.min()), int(stamps.max())
    overstated = lengths[np.argsort(stamps)][:-1] > 2 * steps  # as in `frames`
    believed = (lengths <= longest) & (2 * overstated.sum() < len(lengths))
    end = int((stamps + lengths * believed).max())
    length = end - first if end > last else (last - first) * len(shown) / max(len(shown) - 1, 1)
    return float(length * unit), step


def _rate(count: int, duration: float, rate: float | None) -> tuple[float | None, float | None]:
    """Frames per second and duration in seconds, of a duration and a rate that the file states."""
    if not duration:
        return rate, rate and count / rate
    # Stamps in milliseconds are rounded; the stated rate is exact where it agrees.
    agrees = rate and abs(count / rate - duration) <= max(0.01 * duration, 3 / rate)
    return rate if agrees else count / duration, duration


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


class LibraryVideo(Video):
    """A video that another library decodes; `take` gives the frames `[K, H, W, 3]` of some numbers."""

    def __init__(self, *video: Any, take: Callable[[list[int]], Any]):
        super().__init__(*video)
        self._take = take

    def _decode(self, numbers: list[int]) -> np.ndarray:
        with reporting(self.name, str(self.metadata.video_backend)):
            frames = np.asarray(self._take(numbers))
        self.metadata.height, self.metadata.width = frames.shape[1:3]  # as displayed
        return frames


def torchcodec_video(name: str, decoder: Any, max_bytes: int | None = ReadOptions.max_bytes) -> Video:
    """A video of a torchcodec `VideoDecoder` of either dimension order."""

    def take(numbers: list[int]) -> torch.Tensor:
        frames = decoder.get_frames_at(indices=numbers).data.cpu()
        return frames if frames.shape[-1] == 3 else frames.permute(0, 2, 3, 1)

    stated = decoder.metadata
    fps, duration = (float(value) if value else None for value in (stated.average_fps, stated.duration_seconds))
    metadata = VideoMetadata(len(decoder), fps, stated.width, stated.height, duration, "torchcodec")
    return LibraryVideo(name, metadata, max_bytes, take=take)


def _library_video(name: str, video: str | bytes, options: ReadOptions) -> Video:
    library = options.decoder
    with reporting(name, "opening"):  # they open the file themselves, so that it is checked before
        check_end(video)
        with opened_container(name, video, options.max_frame_pixels):
            pass
    try:
        module = import_module("torchcodec.decoders" if library == "torchcodec" else library)
    except (ImportError, RuntimeError, OSError) as error:  # the last two: FFmpeg's libraries are missing
        advice = f'needs `pip install {library}`, torchcodec also FFmpeg\'s libraries; or leave the decoder at "auto".'
        raise ImportError(f'decoder="{library}" {advice}') from error
    with reporting(name, library):
        if library == "torchcodec":
            exactly = {"dimension_order": "NHWC", "num_ffmpeg_threads": 1, "seek_mode": "exact", "device": "cpu"}
            return torchcodec_video(name, module.VideoDecoder(video, **exactly), options.max_bytes)
        reader = module.VideoReader(io.BytesIO(video) if isinstance(video, bytes) else video, num_threads=1)
        count, fps, size = len(reader), float(reader.get_avg_fps()) or None, reader[0].shape
        metadata = VideoMetadata(count, fps, size[1], size[0], fps and count / fps, "decord")
        return LibraryVideo(name, metadata, options.max_bytes, take=lambda numbers: reader.get_batch(numbers).asnumpy())
