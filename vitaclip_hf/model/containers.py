"""Opening a video file with FFmpeg: which containers, within which limits, and whether the file's end is missing."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from .sources import VideoDecodingError, check_pixels, failure


if TYPE_CHECKING:  # PyAV is imported when the first file is opened: a model needs none
    import av


# FFmpeg's names. Playlists, scripts, session descriptions and texts are not among them, since they make FFmpeg open
# other files, wait for a network, or draw letters.
CONTAINERS = (
    "mov,matroska,avi,flv,mpegts,mpeg,ogg,asf,mxf,nut,ivf,gif,apng,yuv4mpegpipe,wtv,rm,dhav,dv,"
    "h264,hevc,vvc,obu,m4v,mpegvideo,mjpeg,png_pipe,jpeg_pipe,bmp_pipe"
)
_EXAMPLES = "mp4, mov, mkv, webm, avi, mpeg, ts, flv, wmv, ogv, gif, mxf, dv, or another container of videos"
# Names of outermost boxes by which MP4 and QuickTime files begin; the first four hold the frames and where they are.
MP4_BOXES = (b"moov", b"moof", b"mdat", b"mfra", b"ftyp", b"styp", b"free", b"skip", b"wide", b"sidx")
# What follows the name in a table of sizes, and in a run of a fragment; the four bytes at the end count frames.
_COUNTS = re.compile(rb"\0.{3}(?:stsz.{8}|trun.{4})(.{4})", re.DOTALL)

MAX_ZEROS = 1 << 27  # in a row, more than a frame has: a file with holes, which may be of terabytes


class DamageError(Exception):
    """Damage that was noticed here and not by a library."""


@contextmanager
def reporting(name: str, backend: str) -> Iterator[None]:
    """Turns whatever a library raises for a file into `VideoDecodingError`; decord's errors share no base class."""
    try:
        yield
    except (VideoDecodingError, TypeError, NameError, AttributeError):  # mistakes of a call
        raise
    except Exception as error:
        advice = 'If it is damaged, fetch it again, or read what is whole (`on_damage="skip"`, `--on-damage skip`).'
        raise failure(name, str(error) if isinstance(error, DamageError) else error, backend, advice) from error


@contextmanager
def opened_container(
    name: str, video: str | bytes, max_frame_pixels: int | None
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """
    Opens a path or bytes with PyAV, and finds the video stream, which decodes in one thread. FFmpeg gets the open file
    and not its name, and must not open another one. `name` is for messages.
    """
    import av
    from av.stream import Disposition

    # Texts that are not UTF-8, which PyAV 19 replaces by itself.
    texts: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    # For sizes that the container does not say; decoders count the padding of each row too.
    limit = {"max_pixels": str(max_frame_pixels * 5 // 4 + 100_000)} if max_frame_pixels else {}
    with reporting(name, "PyAV"), _binary(video) as file:
        head = file.read(24)
        file.seek(0)
        # FFmpeg learns the size of these only by decoding.
        if head[:3] == b"GIF":
            check_pixels(name, *struct.unpack("<HH", head[6:10].ljust(4, b"\0")), max_frame_pixels)
        if head[:4] == b"\x89PNG":
            check_pixels(name, *struct.unpack(">II", head[16:24].ljust(8, b"\0")), max_frame_pixels)
        try:
            whitelists = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
            nameless: Any = _Nameless(file)
            container = av.open(nameless, options=limit, container_options=whitelists, **texts)
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            cause = "this format is not supported, or its header is damaged"
            raise failure(name, cause, "opening", f"Give {_EXAMPLES}.") from error
        with container:
            streams = [part for part in container.streams.video if not part.disposition & Disposition.attached_pic]
            if not streams:
                raise DamageError("it has no video stream")
            best = container.streams.best("video")
            stream = best if best in streams else streams[0]
            if stream.codec_context is None:
                raise DamageError("its video codec has no decoder here")
            check_pixels(name, stream.codec_context.width, stream.codec_context.height, max_frame_pixels)
            stream.codec_context.options = limit
            # Decoder threads cost more than they give, and one thread is safe around a fork.
            stream.codec_context.thread_count = 1
            stream.thread_type = "NONE"
            yield container, stream


class _Nameless:
    """An open file as FFmpeg sees it: without a name, by which it would choose a container."""

    def __init__(self, file: BinaryIO):
        self._file, self.seek, self.tell, self._zeros = file, file.seek, file.tell, 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._zeros = 0 if data.lstrip(b"\0") else self._zeros + len(data)
        if self._zeros > MAX_ZEROS:
            self._file, self._zeros = io.BytesIO(), 0  # the second error of a call would be printed
            raise DamageError(f"it has {MAX_ZEROS:,} bytes of zeros")
        return data


def _binary(video: str | bytes) -> Any:
    return io.BytesIO(video) if isinstance(video, bytes) else open(video, "rb", buffering=0)


def check_end(video: str | bytes, may_be_cut: bool = False) -> bool:
    """
    Raises `DamageError` if MP4, Matroska, AVI, FLV or MPEG-TS state more bytes than the file has.

    Returns:
        `bool`: whether an MP4 has fragments, with frames that the table in its header does not list.
    """
    with _binary(video) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(1024)
        stated, position, count, frames, has_fragments = 0, 0, 0, 0, False
        while head[4:8] in MP4_BOXES and position + 8 <= size:  # the outermost boxes
            file.seek(position)
            length, name, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
            length = {0: size - position, 1: large}.get(length, length)  # 0: to the end of the file
            if length < 8:
                break
            position, count = position + length, count + 1
            stated = position if name in MP4_BOXES[:4] else stated
            has_fragments |= name == b"moof"
            if position < 64 * (count - 1000):
                raise DamageError(f"its first {count:,} boxes are empty")
            if name in (b"moov", b"moof"):  # FFmpeg takes 40 bytes for each frame that they count
                file.seek(position - length)
                frames += sum(int.from_bytes(n, "big") for n in _COUNTS.findall(file.read(min(length, size))))
            if frames > size:
                raise DamageError(f"it is cut short, {size} bytes for {frames} frames")
        if head[:4] == b"RIFF" and head[8:12] == b"AVI " and head[4:8] != b"\xff\xff\xff\xff":
            # Some writers count the 8 bytes of the header too, or do not write the padding byte.
            stated = int.from_bytes(head[4:8], "little") - 1
        if head[:4] == b"\x1a\x45\xdf\xa3":
            segment = 4 + sum(_ebml_number(head[4:]))
            length, digits = _ebml_number(head[segment + 4 :])
            if head[segment : segment + 4] == b"\x18\x53\x80\x67" and length < (1 << 7 * digits) - 1:  # else unknown
                stated = segment + 4 + digits + length
        if head[:3] == b"FLV" and (found := re.search(rb"\0\x08filesize\0(.{8})", head, re.DOTALL)):
            stated = int(length) if (length := struct.unpack(">d", found[1])[0]) < 1 << 50 else 0
        for start, length in ((0, 188), (4, 192)):  # MPEG-TS
            if len(head) > 3 * length and all(head[start + k * length] == 0x47 for k in range(4)):
                file.seek(size - size % length)
                rest = file.read()
                stated = size + length - len(rest) if rest and rest[start : start + 1] in (b"", b"\x47") else 0
    if stated > size and not may_be_cut:
        raise DamageError(f"it is cut short, {size} of {stated} bytes")
    return has_fragments


def _ebml_number(data: bytes) -> tuple[int, int]:
    """A number of Matroska and how many bytes it has: the leading zeros say how many."""
    digits = 9 - data[0].bit_length() if data else 1
    return int.from_bytes(data[:digits], "big") & ((1 << 7 * digits) - 1), digits
