"""Reading chosen frames of a video, exactly: frame 7 is what a player shows as the eighth picture.

The path of a video: `open_video(source)` gives a [`Video`] with its metadata; `frame_sampling` chooses frame numbers;
`Video.read` gives those frames. `Video.read_clips` does the last two. PyAV decodes by default, in order and to the
end of the file: the frame count is true, and damage is noticed wherever the decoder reports it. torchcodec and decord
can be asked for by name.
"""

import io
import numbers
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.stream import Disposition
from transformers.video_utils import VideoMetadata

from .frame_sampling import ClipSpecification


try:
    from huggingface_hub.utils import httpx  # its own choice of httpx or httpx2, which transformers takes too
except ImportError:
    import httpx

DECODERS = ("auto", "pyav", "torchcodec", "decord")
DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer or without data
MAX_DECODED_BYTES = 2 << 30  # of the frames that one call decodes

VideoInput = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO


class VideoDecodingError(RuntimeError):
    """A video that cannot be read, or not completely.

    Attributes:
        source: path or URL, or a description such as `"bytes (1234 B)"`.
        cause: the exception of the library that failed, or what was found, as text.
    """

    # One positional argument has to be enough: that is how a DataLoader rebuilds a worker's exception.
    def __init__(self, message: str, source: str | None = None, cause: Exception | str | None = None):
        super().__init__(message)
        self.source = source
        self.cause = cause

    def __reduce__(self):
        # The causes of some libraries (httpx) cannot be unpickled, so the cause travels as text.
        cause = self.cause if self.cause is None or isinstance(self.cause, str) else _described(self.cause)
        return type(self), (str(self), self.source, cause)


class VideoTooLargeError(VideoDecodingError):
    """The frames asked for would take more memory than `max_bytes`."""


class Video(ABC):
    """
    A video whose frames can be read.

    Attributes:
        name: what to call it in messages.
        metadata: `total_num_frames`, `fps`, `width`, `height`, `duration` in seconds, `video_backend`. The container's
            frame count can be wrong; it is corrected by the first reading.
        max_bytes: limit on the decoded frames of one reading.
    """

    def __init__(self, name: str, metadata: VideoMetadata, max_bytes: int | None = MAX_DECODED_BYTES):
        self.name = name
        self.metadata = metadata
        self.max_bytes = max_bytes

    @abstractmethod
    def _decode(self, numbers: list[int]) -> np.ndarray | torch.Tensor:
        """
        The frames of different numbers in ascending order; numbers beyond the end are left out.

        An array `[K, H, W, 3]` or a tensor `[K, 3, H, W]`. Decoders give arrays, since torch's own operations can hang
        in a forked process. Corrects `metadata.total_num_frames` if it was wrong.
        """

    def _decode_within_limit(self, numbers: list[int]) -> np.ndarray | torch.Tensor:
        height, width = self.metadata.height, self.metadata.width
        if self.max_bytes is not None and height and width and len(numbers) * height * width * 3 > self.max_bytes:
            needed = f"{len(numbers)} frames of {width} x {height} take {len(numbers) * height * width * 3:,} bytes"
            message = f"Cannot read the video {self.name}: {needed}, the limit is {self.max_bytes:,}. "
            raise VideoTooLargeError(
                message + "Take fewer frames or views, make the video smaller, or raise `max_bytes`.", self.name, needed
            )
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
        frames = self._decode_within_limit(wanted)
        if len(frames) < len(wanted):
            raise IndexError(
                f"frame {wanted[-1]} asked for, but {self.name} has {self.metadata.total_num_frames} frames, from 0."
            )
        self.metadata.frames_indices = indices
        return _as_tensor(frames if wanted == indices else frames[_rows(wanted, indices)])

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
            frames = self._decode_within_limit(wanted)
            if self.metadata.total_num_frames == count:
                self.metadata.frames_indices = [number for clip in clips for number in clip]
                # Views overlap and short videos repeat frames: each frame is decoded once.
                return [_as_tensor(frames if clip == wanted else frames[_rows(wanted, clip)]) for clip in clips]
        raise _failure(self.name, "its frame count differs from reading to reading", "decoding", "Encode it again.")


def _as_tensor(frames: np.ndarray | torch.Tensor) -> torch.Tensor:
    """`[K, 3, H, W]`; an array is viewed, not copied."""
    return frames if isinstance(frames, torch.Tensor) else torch.from_numpy(frames).permute(0, 3, 1, 2)


def _rows(wanted: list[int], numbers: Sequence[int]) -> list[int]:
    row = {number: place for place, number in enumerate(wanted)}
    return [row[number] for number in numbers]


def open_video(source: VideoInput, decoder: str = "auto", max_bytes: int | None = MAX_DECODED_BYTES) -> Video:
    """
    Opens a video and reads its metadata.

    Args:
        source: path, http(s) URL, the file's bytes, or a binary file object (read from where it stands, not closed).
        decoder (`str`, defaults to `"auto"`): see [`decode_video`].
        max_bytes (`int`, *optional*): limit on the decoded frames of one reading; `None` for no limit.

    Returns:
        [`Video`]

    Raises:
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
    if decoder not in DECODERS:
        raise ValueError(f"unknown decoder {decoder!r}; choose one of {', '.join(DECODERS)}.")
    name, video = _opened_source(source)
    _check_complete(video, name)
    reader = {"torchcodec": TorchcodecVideo.open, "decord": DecordVideo}.get(decoder, PyAVVideo)
    return reader(name, video, max_bytes)


def decode_video(source: VideoInput, indices: Iterable[int], decoder: str = "auto") -> tuple[np.ndarray, VideoMetadata]:
    """
    Decodes the frames asked for, as they are displayed (rotated and mirrored as the file says).

    The decoders:

    - `"auto"` is `"pyav"`: the same frames and errors on every machine.
    - `"pyav"` decodes everything and converts what was asked for. Damage in H.264, MPEG-4 and AV1 is nearly always an
      error; HEVC and VP9 decoders often hide it.
    - `"torchcodec"` (exact seek mode) decodes only what it needs: faster where keyframes are dense. It returns damaged
      pictures without an error, and wrong frames for AVI with B-frames and for MPEG-TS. Needs FFmpeg's libraries.
    - `"decord"` is unmaintained, takes the frame count from the header and silently returns wrong frames for open
      groups of pictures (the default of x265), MPEG-4 with B-frames, MPEG-TS and edit lists; it cannot decode AV1.

    Args:
        source: path, http(s) URL, the file's bytes, or a binary file object (read from where it stands, not closed).
        indices: frame numbers in any order, repeats allowed.
        decoder (`str`, defaults to `"auto"`): one of those above.

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
    video = open_video(source, decoder)
    frames = video.read(indices).permute(0, 2, 3, 1).numpy()
    return frames, video.metadata


# Arguments


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


def _opened_source(source: Any) -> tuple[str, str | bytes]:
    """What to call the source, and the absolute path of its file or its bytes."""
    if isinstance(source, str) and re.match(r"https?://", source, re.IGNORECASE):
        return source, _downloaded(source)
    if isinstance(source, (str, os.PathLike)):
        # Absolute, so that FFmpeg takes no part of a file name for a protocol ("concat:a.mp4").
        return os.fsdecode(source), os.path.abspath(os.fsdecode(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return f"bytes ({len(data)} B)", data
    if not hasattr(source, "read"):
        raise TypeError(f"source must be a path, a URL, bytes or a binary file object, got {type(source).__name__}.")
    if isinstance(source, io.TextIOBase) or not isinstance(data := source.read(), bytes):
        raise TypeError('source is a text file object; open the file in binary mode, "rb".')
    return f"file object {getattr(source, 'name', '')} ({len(data)} B)".replace("  ", " "), data


def _downloaded(url: str) -> bytes:
    try:
        return httpx.get(url, follow_redirects=True, timeout=DOWNLOAD_TIMEOUT).raise_for_status().content
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failure(url, error, "download", "Check the address and the connection.") from error


# Errors


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip(": ")


def _failure(name: str, cause: Exception | str, step: str, advice: str) -> VideoDecodingError:
    found = (cause if isinstance(cause, str) else _described(cause)).rstrip(". \n")
    return VideoDecodingError(f"Cannot read the video {name}: {found} ({step}). {advice}", name, cause)


@contextmanager
def _reporting(name: str, backend: str) -> Iterator[None]:
    """Turns whatever a library raises into `VideoDecodingError`; decord's errors share no narrower base class."""
    try:
        yield
    except Exception as error:
        cause = str(error) if isinstance(error, _DamageError) else error
        advice = "The file is damaged, incomplete or no video: fetch or encode it again, or leave it out."
        raise _failure(name, cause, backend, advice) from error


class _DamageError(Exception):
    """Damage that we noticed ourselves."""


def _check_complete(video: str | bytes, name: str) -> None:
    """Finds what needs no decoder: no file, an empty one, or Matroska/WebM cut short, which no library reports."""
    problem = None
    try:
        if isinstance(video, str) and not os.path.isfile(video):
            problem = "it is not a file" if os.path.exists(video) else "there is no such file"
        else:
            size = len(video) if isinstance(video, bytes) else os.path.getsize(video)
            with io.BytesIO(video) if isinstance(video, bytes) else open(video, "rb") as file:
                promised = _matroska_size(file.read(256))
            if size == 0:
                problem = "it is empty"
            elif promised > size:
                problem = f"it is cut short, {size} of {promised} bytes"
    except OSError as error:
        raise _failure(name, error, "opening", "Check the path and its permissions.") from error
    if problem:
        raise _failure(name, problem, "opening", "Give the path of a complete video file.")


def _matroska_size(head: bytes) -> int:
    """Length in bytes that a Matroska/WebM file states in its first bytes; 0 if it states none or is another file."""

    def number(position: int) -> tuple[int, int]:
        length = 9 - head[position].bit_length()  # the leading zeros say how many bytes the number has
        mask = (1 << 7 * length) - 1
        value = int.from_bytes(head[position : position + length], "big") & mask
        return (0 if value == mask else value), position + length  # all ones: unknown, a live recording

    if not head.startswith(b"\x1a\x45\xdf\xa3") or len(head) < 256:
        return 0
    header, start = number(4)
    segment = start + header
    if head[segment : segment + 4] != b"\x18\x53\x80\x67" or segment > len(head) - 12:
        return 0
    size, start = number(segment + 4)
    return start + size if size else 0


# PyAV


@contextmanager
def _pyav_stream(video: str | bytes) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    with av.open(io.BytesIO(video) if isinstance(video, bytes) else video, "r") as container:
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not streams:
            raise _DamageError("it has no video stream")
        best = container.streams.best("video")
        stream = best if best in streams else streams[0]
        # Decoder threads cost more than they give, and one thread is safe around a fork.
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
        yield container, stream


def _scan_pyav(video: str | bytes) -> tuple[VideoMetadata, tuple[int, int]]:
    """Metadata with the count of packets, which is nearly always that of frames, and the decoded width and height."""
    packets, first = 0, None
    spans: list[tuple[int, int]] = []  # from and to when each packet is shown
    with _pyav_stream(video) as (container, stream):
        for packet in container.demux(stream):
            if first is None:  # the displayed size is known from the first frame only
                first = next(iter(packet.decode()), None)
            if packet.size == 0:  # the end
                continue
            packets += 1
            if not packet.is_discard:  # an edit list hides those
                start = packet.pts or 0
                spans.append((start, start + (packet.duration or 0)))
        if "mp4" in container.format.name and packets < len(stream.index_entries):
            raise _DamageError(f"it is cut short, {packets} of {len(stream.index_entries)} frames")
        if first is None or not spans:
            raise _DamageError("it has no frames")
        ticks = stream.duration  # Matroska does not say
        if ticks is None:
            ticks = max(end for _, end in spans) - min(start for start, _ in spans)
        duration = float(ticks * (stream.time_base or 0))
        rate = stream.average_rate or stream.guessed_rate
    height, width = _displayed(np.empty((first.height, first.width, 0)), first).shape[:2]
    metadata = VideoMetadata(
        len(spans),
        fps=float(rate) if rate else len(spans) / duration if duration else None,
        width=width,
        height=height,
        duration=duration or (len(spans) / float(rate) if rate else None),
        video_backend="pyav",
    )
    return metadata, (first.width, first.height)


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


def _decode_pyav(video: str | bytes, wanted: set[int], size: tuple[int, int]) -> tuple[dict[int, np.ndarray], int]:
    """The wanted frames by number, and the true frame count.

    Frames are numbered in the order the decoder gives them: time stamps may be missing, shifted or repeated. Those
    after the last wanted one are decoded too, for the count and to notice damage, but converted only if wanted.
    """
    frames, count = {}, 0
    with _pyav_stream(video) as (container, stream):
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise _DamageError(f"frame {count} is damaged")
            if count in wanted:
                # A stream may change its size midway; keep the first and scale bicubically, as ffmpeg does.
                rgb = frame.reformat(*size, format="rgb24", interpolation="BICUBIC", threads=1)
                frames[count] = _displayed(rgb.to_ndarray(), frame)
            count += 1
    return frames, count


class PyAVVideo(Video):
    """A video file read with PyAV. Each reading opens the file anew: nothing is shared with a forked process."""

    def __init__(self, name: str, video: str | bytes, max_bytes: int | None):
        self._video = video
        with _reporting(name, "PyAV"):
            metadata, self._size = _scan_pyav(video)
        super().__init__(name, metadata, max_bytes)

    def _decode(self, numbers: list[int]) -> np.ndarray:
        with _reporting(self.name, "PyAV"):
            frames, count = _decode_pyav(self._video, set(numbers), self._size)
            if not count:
                raise _DamageError("it has no frames")
        self.metadata.total_num_frames = count
        pictures = [frames.pop(number) for number in numbers if number < count]
        if not pictures:
            return np.empty((0, 0, 0, 3), dtype=np.uint8)
        return np.stack(pictures)


# torchcodec and decord


class TorchcodecVideo(Video):
    """A video read with torchcodec."""

    def __init__(self, name: str, decoder: Any, max_bytes: int | None = MAX_DECODED_BYTES):
        about = decoder.metadata
        metadata = VideoMetadata(
            len(decoder),
            fps=float(about.average_fps) if about.average_fps else None,
            width=about.width,
            height=about.height,
            duration=float(about.duration_seconds) if about.duration_seconds else None,
            video_backend="torchcodec",
        )
        self._decoder = decoder
        super().__init__(name, metadata, max_bytes)

    @classmethod
    def open(cls, name: str, video: str | bytes, max_bytes: int | None) -> "TorchcodecVideo":
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
            from decord import VideoReader, cpu
        except (ImportError, OSError) as error:
            raise ImportError(
                'decoder="decord" needs `pip install decord` (x86-64 only); or leave the decoder at "auto".'
            ) from error
        with _reporting(name, "decord"):
            self._reader = VideoReader(
                io.BytesIO(video) if isinstance(video, bytes) else video, ctx=cpu(0), num_threads=1
            )
            count, fps = len(self._reader), float(self._reader.get_avg_fps())
            height, width = self._reader[0].shape[:2]
        duration = count / fps if fps else None
        metadata = VideoMetadata(count, fps=fps, width=width, height=height, duration=duration, video_backend="decord")
        super().__init__(name, metadata, max_bytes)

    def _decode(self, numbers: list[int]) -> np.ndarray:
        numbers = [number for number in numbers if number < self.metadata.total_num_frames]
        with _reporting(self.name, "decord"):
            return self._reader.get_batch(numbers).asnumpy() if numbers else np.empty((0, 0, 0, 3), dtype=np.uint8)
