"""Reading chosen frames of a video, exactly: frame 7 is what a player shows as the eighth picture.

`decode_video` is the one entry. PyAV does the work by default and decodes a file in order and to its end, so that the
frame count is true and damage that the decoder reports is noticed wherever it lies. torchcodec and decord can be asked
for by name.
"""

import io
import numbers
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
import numpy as np
from av.stream import Disposition
from transformers.video_utils import VideoMetadata


try:
    from huggingface_hub.utils import httpx  # its own choice of httpx or httpx2, which transformers takes too
except ImportError:
    import httpx

DECODERS = ("auto", "pyav", "torchcodec", "decord")
DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer or without data

VideoSource = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO
FrameIndices = Iterable[int] | Callable[..., Iterable[int]]
IndexChooser = Callable[[VideoMetadata], list[int]]


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


def decode_video(source: VideoSource, indices: FrameIndices, decoder: str = "auto") -> tuple[np.ndarray, VideoMetadata]:
    """Decodes the frames asked for, as they are displayed (rotated and mirrored as the file says).

    What the decoders do:

    - `"auto"` is `"pyav"`: the same frames and errors on every machine.
    - `"pyav"` decodes everything and converts what was asked for. Damage in H.264, MPEG-4 and AV1 is nearly always an
      error; HEVC and VP9 decoders often hide it.
    - `"torchcodec"` (exact seek mode) decodes only what it needs: faster where keyframes are dense. It returns damaged
      pictures without an error, and wrong frames for AVI with B-frames and for MPEG-TS. Needs FFmpeg's libraries.
    - `"decord"` is unmaintained, takes the frame count from the header and silently returns wrong frames for open
      groups of pictures (the default of x265), MPEG-4 with B-frames, MPEG-TS and edit lists; it cannot decode AV1.

    Args:
        source: path, http(s) URL, the file's bytes, or a binary file object (read from where it stands, not closed).
        indices: frame numbers in any order, repeats allowed; or a function that is called as
            `indices(metadata=metadata)` with the true `total_num_frames` and returns them, as `sample_indices_fn` of
            transformers. It is called a second time if decoding shows that the container's count was wrong.
        decoder: one of `DECODERS`.

    Returns:
        The frames in the order asked, `[T, H, W, 3]` uint8 RGB, and the metadata: true frame count, frames per
        second, displayed size, duration in seconds, back end used and frame numbers.

    Raises:
        VideoDecodingError: the source cannot be read, is not a video or is damaged.
        IndexError: a frame number is not below the frame count.
        ImportError: the decoder asked for by name is not usable here.
        TypeError, ValueError: an argument is not one of those above.

    Example:
        ```python
        frames, metadata = decode_video("archery.mp4", [0, 8, 16, 24])
        ```
    """
    if decoder not in DECODERS:
        raise ValueError(f"decode_video: unknown decoder {decoder!r}; choose one of {', '.join(DECODERS)}.")
    read = {"torchcodec": _read_torchcodec, "decord": _read_decord}.get(decoder, _read_pyav)
    if not callable(indices):
        indices = _checked_indices(indices)  # before anything is downloaded

    def choose(metadata: VideoMetadata) -> list[int]:
        return _checked_indices(indices(metadata=metadata)) if callable(indices) else indices

    name, video = _opened_source(source)
    _check_complete(video, name)
    frames, metadata = read(video, name, choose)
    metadata.height, metadata.width = frames.shape[1:3]
    return frames, metadata


# Arguments


def _checked_indices(indices: Any) -> list[int]:
    """Frame numbers as a list of ints, from any iterable of integers."""
    values = indices.tolist() if hasattr(indices, "tolist") else indices  # numpy, torch
    values = list(values) if isinstance(values, Iterable) else None
    if values is None or not all(isinstance(v, numbers.Integral) and not isinstance(v, bool) for v in values):
        raise TypeError(
            "decode_video: indices must be a 1-D sequence of integers, or a function of the metadata that returns one, "
            f"got {indices!r:.200}."
        )
    if not values:
        raise ValueError("decode_video: indices is empty; ask for at least one frame.")
    if min(values) < 0:
        raise ValueError(f"decode_video: indices must not be negative, got {min(values)}; frames count from 0.")
    return [int(value) for value in values]


def _check_range(indices: list[int], count: int, name: str) -> None:
    if max(indices) >= count:
        raise IndexError(f"decode_video: frame {max(indices)} asked for, but {name} has {count} frames, from 0.")


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
        raise TypeError(
            f"decode_video: source must be a path, a URL, bytes or a binary file object, got {type(source).__name__}."
        )
    if isinstance(source, io.TextIOBase) or not isinstance(data := source.read(), bytes):
        raise TypeError('decode_video: source is a text file object; open the file in binary mode, "rb".')
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


def _read_pyav(video: str | bytes, name: str, choose: IndexChooser) -> tuple[np.ndarray, VideoMetadata]:
    with _reporting(name, "PyAV"):
        metadata, size = _scan_pyav(video)
    indices = choose(metadata)
    with _reporting(name, "PyAV"):
        frames, count = _decode_pyav(video, set(indices), size)
    if count != metadata.total_num_frames:
        metadata.total_num_frames = count
        chosen, indices = indices, choose(metadata)
        if indices != chosen:
            with _reporting(name, "PyAV"):
                frames, count = _decode_pyav(video, set(indices), size)
    _check_range(indices, count, name)
    metadata.frames_indices = indices
    return np.stack([frames[index] for index in indices]), metadata


# torchcodec and decord


def _read_torchcodec(video: str | bytes, name: str, choose: IndexChooser) -> tuple[np.ndarray, VideoMetadata]:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:  # the last two: FFmpeg's libraries are missing
        raise ImportError(
            'decode_video: decoder="torchcodec" needs `pip install torchcodec` and FFmpeg\'s shared libraries (such as '
            '`apt-get install ffmpeg`); or leave decoder at "auto".'
        ) from error
    with _reporting(name, "torchcodec"):
        reader = VideoDecoder(video, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact", device="cpu")
        about = reader.metadata
        metadata = VideoMetadata(
            len(reader),
            fps=float(about.average_fps) if about.average_fps else None,
            width=about.width,
            height=about.height,
            duration=float(about.duration_seconds) if about.duration_seconds else None,
            video_backend="torchcodec",
        )
    metadata.frames_indices = choose(metadata)
    _check_range(metadata.frames_indices, len(reader), name)
    with _reporting(name, "torchcodec"):
        return reader.get_frames_at(indices=metadata.frames_indices).data.numpy(), metadata


def _read_decord(video: str | bytes, name: str, choose: IndexChooser) -> tuple[np.ndarray, VideoMetadata]:
    try:
        from decord import VideoReader, cpu
    except (ImportError, OSError) as error:
        raise ImportError(
            'decode_video: decoder="decord" needs `pip install decord` (x86-64 only); or leave decoder at "auto".'
        ) from error
    with _reporting(name, "decord"):
        reader = VideoReader(io.BytesIO(video) if isinstance(video, bytes) else video, ctx=cpu(0), num_threads=1)
        count, fps = len(reader), float(reader.get_avg_fps())
        metadata = VideoMetadata(count, fps=fps, duration=count / fps if fps else None, video_backend="decord")
    metadata.frames_indices = choose(metadata)
    _check_range(metadata.frames_indices, count, name)
    with _reporting(name, "decord"):
        return reader.get_batch(metadata.frames_indices).asnumpy(), metadata
