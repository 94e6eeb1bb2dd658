"""Where videos come from: the one place that decides which files are opened, and that downloads."""

import io
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import av
from av.stream import Disposition

from .container_length import MP4_BOXES
from .read_options import ReadOptions
from .shown_names import shown


try:
    from huggingface_hub.utils import httpx  # its own choice of httpx or httpx2, which transformers takes too
except ImportError:
    import httpx

SILENT_SECONDS = 30.0  # without an answer or without data
MAX_REDIRECTS = 10
MAX_FRAME_SIDE = 65_535  # as in JPEG; Pillow takes a minute for a picture of millions of rows
HEAD_BYTES = 1 << 16  # by which the container is told

# Texts that are not UTF-8, which PyAV 19 replaces by itself.
_METADATA_ERRORS: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

VideoInput = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | dict[str, Any]


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
        cause = self.cause if self.cause is None or isinstance(self.cause, str) else described(self.cause)
        return type(self), (str(self), self.source, cause)


class VideoTooLargeError(VideoDecodingError):
    """The video exceeds a limit: `max_bytes`, `max_frame_pixels` or `max_download_bytes`."""


class NotAVideoError(TypeError):
    """Something that is no video, in the place of one."""


class DamageError(Exception):
    """Damage that was noticed here and not by a library."""


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip(": ")


def failure(
    name: str, cause: Exception | str, step: str, advice: str, kind: type[VideoDecodingError] = VideoDecodingError
) -> VideoDecodingError:
    """The error as one line of bounded length: what, where, what to do."""
    found = (cause if isinstance(cause, str) else described(cause)).rstrip(". \n")
    found = " ".join(found.split())
    message = f"Cannot read the video {name:.1000}: {found:.1000} ({step}). {advice}"
    return kind(shown(message), name, cause)


# Sources


def opened_source(
    source: Any,
    options: ReadOptions,
) -> tuple[str, str | bytes]:
    """
    A source as a file or as bytes.

    Args:
        source: path, http(s) or file URL, bytes, a binary file object, or `{"path": …, "bytes": …}` as in `datasets`.
        options ([`ReadOptions`]): limits of a download.

    Returns:
        What to call the source, and the absolute path of its file or its bytes.

    Raises:
        VideoDecodingError: a URL that cannot be read.
        TypeError: no source.
    """
    if isinstance(source, dict) and source and source.keys() <= {"path", "bytes"}:
        data, path = source.get("bytes"), source.get("path")
        if not isinstance(data, (bytes, bytearray, memoryview, type(None))):
            raise NotAVideoError(f"`bytes` of a video must be bytes, got {type(data).__name__}.")
        if not isinstance(path, (str, os.PathLike, type(None))):
            raise NotAVideoError(f"`path` of a video must be a path, got {type(path).__name__}.")
        if data is not None:
            return os.fsdecode(path or f"bytes ({len(data)} B)"), bytes(data)
        if path is None:
            raise NotAVideoError("the video has neither `path` nor `bytes`.")
        source = path
    if isinstance(source, str) and (scheme := re.match(r"([a-z][a-z0-9+.-]*)://", source, re.IGNORECASE)):
        if scheme[1].lower() in ("http", "https"):
            return source, download(
                source, options.max_download_bytes, options.download_seconds, options.allow_private_addresses
            )
        if scheme[1].lower() == "file":
            return source, _local_path(source)
        if not os.path.exists(source):
            advice = "Give an http(s) URL, a path, or the file's bytes."
            raise failure(source, f"addresses with {scheme[1]!r} are not read", "opening", advice)
    if isinstance(source, (str, os.PathLike)):
        # Absolute, so that no part of a file name is taken for a protocol ("concat:a.mp4").
        return os.fsdecode(source), os.path.abspath(os.fsdecode(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return f"bytes ({len(data)} B)", data
    if not hasattr(source, "read"):
        raise NotAVideoError(
            f"a video must be a path, a URL, bytes or a binary file object, got {type(source).__name__}."
        )
    if isinstance(source, io.TextIOBase) or not isinstance(data := source.read(), bytes):
        raise NotAVideoError('source is a text file object; open the file in binary mode, "rb".')
    return f"file object {getattr(source, 'name', '')} ({len(data)} B)".replace("  ", " "), data


def _local_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc.lower() not in ("", "localhost"):
        raise failure(url, f"it names another machine, {parts.netloc!r:.100}", "opening", "Give file:///path.")
    return os.path.abspath(url2pathname(parts.path))


def download(
    url: str,
    max_bytes: int | None = ReadOptions.max_download_bytes,
    seconds: float | None = ReadOptions.download_seconds,
    allow_private_addresses: bool = True,
) -> bytes:
    """
    The body of an http(s) address.

    Args:
        url (`str`): the address; redirects are followed to http(s) addresses only.
        max_bytes (`int`, *optional*): most bytes; `None` for no limit.
        seconds (`float`, *optional*): most time for all of the download; `None` for no limit.
        allow_private_addresses (`bool`, defaults to `True`): `False` refuses addresses that are not public, also after
            a redirect. The connection goes to the address that was checked, without a proxy.

    Returns:
        `bytes`

    Raises:
        VideoTooLargeError: the body has more than `max_bytes`.
        VideoDecodingError: the address cannot be read in time, or is private.
    """
    task = _Download(url, max_bytes, seconds, allow_private_addresses)
    if seconds is None:
        task.run()
    else:
        # A thread, since name look-up and headers that trickle in have no time limit of their own.
        thread = threading.Thread(target=task.run, daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            task.cancelled = True
            advice = "Try again, raise `download_seconds`, or download the file yourself."
            raise failure(url, f"it is not complete after {seconds:g} s", "download", advice)
    if task.error is not None:
        raise task.error
    return b"".join(task.blocks)


class _Download:
    def __init__(self, url: str, max_bytes: int | None, seconds: float | None, allow_private_addresses: bool):
        self.url, self.max_bytes, self.allow_private = url, max_bytes, allow_private_addresses
        self.silent = SILENT_SECONDS if seconds is None else min(SILENT_SECONDS, seconds)
        self.blocks: list[bytes] = []
        self.cancelled = False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._run()
        except VideoDecodingError as error:
            self.error = error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:  # ValueError: a malformed address
            self.error = failure(self.url, error, "download", "Check the address and the connection.")
            self.error.__cause__ = error

    def _run(self) -> None:
        headers = {"Accept-Encoding": "identity"}  # a compressed answer could be of any size
        with httpx.Client(timeout=self.silent, trust_env=self.allow_private, headers=headers) as client:
            address = self.url
            for _ in range(MAX_REDIRECTS + 1):
                with client.stream("GET", **self._request(address)) as response:
                    if not response.is_redirect:
                        self._receive(response)
                        return
                    address = urljoin(address, response.headers["Location"])
                    if urlsplit(address).scheme not in ("http", "https"):
                        raise self._refused(f"it redirects to {address!r:.200}, which is no http(s) address")
        raise self._refused(f"it redirects more than {MAX_REDIRECTS} times")

    def _refused(self, cause: str, advice: str = "Check the address.") -> VideoDecodingError:
        return failure(self.url, cause, "download", advice)

    def _request(self, address: str) -> dict[str, Any]:
        """What to ask for: the address, or if only public ones are allowed, the checked number of its host."""
        url = httpx.URL(address)
        if self.allow_private:
            return {"url": url}
        found = socket.getaddrinfo(
            url.host, url.port or (443 if url.scheme == "https" else 80), type=socket.SOCK_STREAM
        )
        numbers = [str(entry[4][0]) for entry in found]
        for number in numbers:
            if not _is_public(number):
                raise self._refused(f"{url.host:.200} is the private address {number}", "Give a public address.")
        return {
            "url": url.copy_with(host=numbers[0]),
            "headers": {"Host": url.netloc.decode("ascii").rpartition("@")[2]},
            "extensions": {"sni_hostname": url.host},
        }

    def _receive(self, response: Any) -> None:
        response.raise_for_status()
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self._refused("the server compresses its answer, although asked not to", "Download it yourself.")
        received, stated = 0, response.headers.get("Content-Length", "")
        self._check_size(int(stated) if stated.isdecimal() else 0)
        for block in response.iter_raw():
            if self.cancelled:
                return
            received += len(block)
            self._check_size(received)
            self.blocks.append(block)

    def _check_size(self, size: int) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            advice = "Download it yourself, or raise `max_download_bytes`."
            found = f"it has at least {size:,} bytes, the limit is {self.max_bytes:,}"
            raise failure(self.url, found, "download", advice, VideoTooLargeError)


# Global by the registries' words, but inside networks: Azure's host, a closed translator, addresses of documentation.
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
_IPV4_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")  # all other IPv6 addresses stay within a network


def _is_public(number: str) -> bool:
    address = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _IPV4_TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not _is_public(str(inner)):
            return False
        if inner is None and address not in _IPV6_UNICAST:
            return False
    listed = any(address.version == network.version and address in network for network in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not listed


# Containers

# By their first bytes: FFmpeg's name of the container. Playlists, scripts, session descriptions and texts are not here,
# since they make FFmpeg open other files, wait for a network, or draw letters.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"FLV", "flv"),
    (b"OggS", "ogg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (b"DKIF", "ivf"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"\xb7\xd8\x00\x20\x37\x49\xda\x11", "wtv"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", "mxf"),
    (b".RMF", "rm"),
    (b"DHAV", "dhav"),
    (b"nut/multimedia container", "nut"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x1f\x07\x00", "dv"),
    (b"\x12\x00\x0a", "obu"),
    (b"BM", "bmp_pipe"),
)
# Streams without a container begin alike; FFmpeg tells them apart.
_START_CODE = ("h264", "hevc", "vvc", "m4v", "mpegvideo", "mpeg")
_PICTURES = ("gif", "apng", "png_pipe")
_UNKNOWN = ("mpegts", "mpeg", "mov", "mxf", "dv")  # these may begin with something else
_FORMATS = "mp4, mov, mkv, webm, avi, mpeg, ts, flv, wmv, ogv, gif, mxf, dv, or another container of videos"


def possible_containers(head: bytes) -> tuple[str, ...]:
    """
    FFmpeg's names of the containers that a file may be, told by its first bytes.

    Args:
        head (`bytes`): the first 64 KiB.

    Returns:
        One name where the bytes are certain, several that FFmpeg has to tell apart, or none. Playlists and scripts
        are never among them.
    """
    if head[4:8] in MP4_BOXES:
        return ("mov",)
    if head[:4] == b"RIFF":
        if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:  # several pictures, which FFmpeg does not read
            return ()
        return {b"AVI ": ("avi",), b"AVIX": ("avi",), b"AMV ": ("avi",), b"WEBP": ("webp_pipe",)}.get(head[8:12], ())
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return (name,)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return ("apng",) if b"acTL" in head.partition(b"IDAT")[0] else ("png_pipe",)
    if head.startswith(b"\xff\xd8\xff"):
        return ("mjpeg", "jpeg_pipe")
    for start, length in ((0, 188), (4, 192), (0, 204)):
        if len(head) > start + 2 * length and all(head[start + k * length] == 0x47 for k in range(3)):
            return ("mpegts",)
    if head.startswith((b"\0\0\1", b"\0\0\0\1")):
        return _START_CODE
    return _UNKNOWN


def _refuse_other_files(url: str, *_: Any) -> BinaryIO:
    raise PermissionError(f"the video names another file, {url!r:.200}, which is not opened")


@contextmanager
def opened_container(
    name: str, video: str | bytes, max_frame_pixels: int | None = ReadOptions.max_frame_pixels, end: int | None = None
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """
    Opens a container with PyAV and finds its video stream, which decodes in one thread.

    FFmpeg gets the open file and not its name, the container that its first bytes tell, and no way to open another.

    Args:
        name (`str`): for messages.
        video: absolute path or bytes.
        max_frame_pixels (`int`, *optional*): most pixels of a frame; `None` for no limit.
        end (`int`, *optional*): how many bytes of the file to read; all by default.

    Raises:
        VideoDecodingError: this is no container on the list.
        VideoTooLargeError: its frames are too large.
        DamageError: it has no video stream.
    """
    with io.BytesIO(video) if isinstance(video, bytes) else open(video, "rb", buffering=0) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        names = possible_containers(head)
        if not names:
            raise unsupported(name)
        if names[0] in _PICTURES:
            _check_pixels(name, *_size_of_picture(head), max_frame_pixels)
        # For sizes that the container does not say; decoders count the padding of each row too.
        limit = {"max_pixels": str(max_frame_pixels * 5 // 4 + 100_000)} if max_frame_pixels else {}
        try:
            container = av.open(
                _Nameless(file) if end is None else _Beginning(file, end),
                "r",
                format=names[0] if len(names) == 1 else None,
                options=limit,
                container_options={"format_whitelist": ",".join(names), "protocol_whitelist": "none"},
                **_METADATA_ERRORS,
                io_open=_refuse_other_files,
            )
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if len(names) == 1:
                raise
            raise unsupported(name, error) from error
        with container:
            streams = [
                stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic
            ]
            if not streams:
                raise DamageError("it has no video stream")
            best = container.streams.best("video")
            stream = best if best in streams else streams[0]
            if stream.codec_context is None:
                raise unsupported(name, "its video codec has no decoder here")
            _check_pixels(name, stream.codec_context.width, stream.codec_context.height, max_frame_pixels)
            stream.codec_context.options = limit
            # Decoder threads cost more than they give, and one thread is safe around a fork.
            stream.codec_context.thread_count = 1
            stream.thread_type = "NONE"
            yield container, stream


def unsupported(name: str, cause: Exception | str | None = None) -> VideoDecodingError:
    # What FFmpeg says of other formats ("'<none>' returned 22") is kept as the cause alone.
    found = f", {cause}" if isinstance(cause, str) else ""
    error = failure(name, f"this format is not supported{found}", "opening", f"Give {_FORMATS}.")
    error.cause = cause or error.cause
    return error


def _size_of_picture(head: bytes) -> tuple[int, int]:
    """Width and height that a picture's first bytes state; FFmpeg learns some only by decoding. 0 if they do not."""
    if head.startswith(b"GIF"):
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"\x89PNG"):
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return 0, 0


def _check_pixels(name: str, width: int, height: int, limit: int | None) -> None:
    check_sides(name, width, height, limit)
    if limit and width * height > limit:
        found = f"one frame has {width} x {height} = {width * height:,} pixels, the limit is {limit:,}"
        raise failure(name, found, "opening", "Make it smaller, or raise `max_frame_pixels`.", VideoTooLargeError)


def check_sides(name: str, width: int, height: int, limit: int | None) -> None:
    """Raises a `VideoTooLargeError` for a side that no camera has, unless pixels are not limited."""
    if limit and max(width, height) > MAX_FRAME_SIDE:
        found = f"one frame has {width} x {height} pixels, the limit of a side is {MAX_FRAME_SIDE:,}"
        raise failure(name, found, "opening", "Crop it, or pass `max_frame_pixels=None`.", VideoTooLargeError)


class _Beginning:
    """The first bytes of a file, without its name."""

    def __init__(self, file: Any, size: int):
        self._file, self._size, self.tell = file, size, file.tell

    def read(self, length: int) -> bytes:
        return self._file.read(max(min(length, self._size - self._file.tell()), 0))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        from_end = whence == io.SEEK_END
        return self._file.seek(self._size + offset if from_end else offset, io.SEEK_SET if from_end else whence)


class _Nameless:
    """A file without its name, by which FFmpeg would choose a container."""

    def __init__(self, file: Any):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell
