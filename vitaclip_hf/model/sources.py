"""What users name as a video: paths, addresses, bytes and file objects; downloads; and the error for all of them."""

import io
import ipaddress
import os
import re
import socket
import threading
import time
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .read_options import ReadOptions
from .shown_names import shown


try:
    from huggingface_hub.utils import httpx  # its own choice of httpx or httpx2, which transformers takes too
except ImportError:
    import httpx

SILENT_SECONDS = 30.0  # without an answer or without data
MAX_REDIRECTS = 10
MAX_FRAME_SIDE = 65_535  # as in JPEG; Pillow takes a minute for a picture of millions of rows

BYTES = (bytes, bytearray, memoryview)
VideoInput = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | dict[str, Any]


class VideoDecodingError(RuntimeError):
    """A video that cannot be read: `source` is its path or URL, or a description such as `"bytes (1234 B)"`; `cause`
    is the exception of the library that failed, or text."""

    # A DataLoader rebuilds a worker's exception with one positional argument.
    def __init__(self, message: str, source: str | None = None, cause: Exception | str | None = None):
        super().__init__(message)
        self.source, self.cause = source, cause

    def __reduce__(self):
        # The causes of some libraries (httpx) cannot be unpickled, so the cause travels as text.
        return type(self), (str(self), self.source, described(self.cause))


class VideoTooLargeError(VideoDecodingError):
    """The video exceeds a limit: `max_bytes`, `max_frame_pixels` or `max_download_bytes`."""


class NotAVideoError(TypeError):
    """Something that is no video, in the place of one."""


def described(cause: Any) -> Any:
    """An exception as text, with its type; anything else as it is."""
    return f"{type(cause).__name__}: {cause}".strip(": ") if isinstance(cause, Exception) else cause


def failure(
    name: str, cause: Exception | str, step: str, advice: str, kind: type[VideoDecodingError] = VideoDecodingError
) -> VideoDecodingError:
    """The error as one line of bounded length."""
    reason = " ".join(described(cause).rstrip(". \n").split())
    return kind(shown(f"Cannot read the video {name:.1000}: {reason:.1000} ({step}). {advice}"), name, cause)


def check_pixels(name: str, width: int, height: int, limit: int | None) -> None:
    """Raises `VideoTooLargeError` if a frame exceeds `max_frame_pixels`, or a side 65,535 pixels."""
    if limit and (width * height > limit or max(width, height) > MAX_FRAME_SIDE):
        size = f"{width} x {height} = {width * height:,} pixels"
        cause = f"one frame has {size}, the limit is {limit:,}, and {MAX_FRAME_SIDE:,} of a side"
        raise failure(name, cause, "opening", "Make it smaller, or raise `max_frame_pixels`.", VideoTooLargeError)


def opened_source(source: Any, options: ReadOptions) -> tuple[str, str | bytes]:
    """What to call a source (see [`open_video`]) in messages, and the absolute path of its file or its bytes."""
    name, video = _located(source, options)
    reason = None
    if isinstance(video, str) and not os.path.isfile(video):  # a pipe would be waited for
        reason = "it is not a file" if os.path.exists(video) else "there is no such file"
    elif not (video if isinstance(video, bytes) else os.path.getsize(video)):
        reason = "it is empty"
    if reason:
        raise failure(name, reason, "opening", "Give the path of a complete video file.")
    return name, video


def _located(source: Any, options: ReadOptions) -> tuple[str, str | bytes]:
    named: Any = None
    if isinstance(source, dict) and source and source.keys() <= {"path", "bytes"}:
        data, named = source.get("bytes"), source.get("path")
        if not isinstance(named, (str, os.PathLike, type(None))) or not isinstance(data, (*BYTES, type(None))):
            kinds = f"{type(named).__name__} and {type(data).__name__}"
            raise NotAVideoError(f"a video must have a path as `path`, or bytes as `bytes`, got {kinds}.")
        source = named if data is None else data
    if isinstance(source, str) and (scheme := re.match(r"([a-z][a-z0-9+.-]*)://", source, re.IGNORECASE)):
        parts = urlsplit(source) if scheme[1].lower() == "file" else None
        if scheme[1].lower() in ("http", "https"):
            return source, download(source, options)
        if parts and parts.netloc.lower() in ("", "localhost"):
            path = parts.path if os.name == "nt" else re.sub("^//+", "/", parts.path)  # file:////a: no host, but a path
            return source, os.path.abspath(url2pathname(path))
        if not os.path.exists(source):
            reason = f"no address of {scheme[0]}{parts.netloc if parts else ''} is read"
            raise failure(source, reason, "opening", "Give an http(s) URL, a path, file:///path, or the file's bytes.")
    if isinstance(source, (str, os.PathLike)):
        # Absolute, so that no part of a file name is taken for a protocol ("concat:a.mp4").
        return os.fsdecode(source), os.path.abspath(os.fsdecode(source))
    if isinstance(source, BYTES):
        return os.fsdecode(named or f"bytes ({len(source)} B)"), bytes(source)
    if not hasattr(source, "read"):
        raise NotAVideoError(f"a video must be a path, URL, bytes or binary file object, got {type(source).__name__}.")
    if isinstance(source, io.TextIOBase) or not isinstance(data := source.read(), bytes):
        raise NotAVideoError('source is a text file object; open the file in binary mode, "rb".')
    return " ".join(f"file object {getattr(source, 'name', '')} ({len(data)} B)".split()), data


def download(url: str, options: ReadOptions) -> bytes:
    """The body of an http(s) address, within the limits of the options; redirects lead to http(s) addresses only."""
    limit, seconds = options.max_download_bytes, options.download_seconds or float("inf")
    end, size, blocks = time.monotonic() + seconds, 0, []
    client = httpx.Client(
        timeout=min(SILENT_SECONDS, seconds),
        headers={"Accept-Encoding": "identity"},
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        transport=None if options.allow_private_addresses else _PublicTransport(),
    )
    watch = threading.Timer(min(seconds, threading.TIMEOUT_MAX), client.close)  # also of headers that trickle in
    watch.daemon = True
    watch.start()
    try:
        with client, client.stream("GET", url) as response:
            response.raise_for_status()
            for block in response.iter_bytes():
                blocks.append(block)
                size += len(block)
                if limit is not None and size > limit:
                    advice = "Download it yourself, or raise `max_download_bytes`."
                    raise failure(url, f"it has more than {limit:,} bytes", "download", advice, VideoTooLargeError)
    except VideoDecodingError:
        raise
    # ValueError: a malformed address. RuntimeError: the time was over before the client was opened.
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError, RuntimeError) as error:
        cause, advice = error, "Check the address and the connection."
        if time.monotonic() > end:
            cause, advice = TimeoutError(f"it is not complete after {seconds:g} s"), "Raise `download_seconds`."
        raise failure(url, cause, "download", advice) from error
    finally:
        watch.cancel()
    return b"".join(blocks)


class _PublicTransport(httpx.HTTPTransport):
    """Connects to public addresses only: to the number that was checked, for redirects too."""

    def handle_request(self, request: Any) -> Any:
        url = request.url
        entries = socket.getaddrinfo(url.host, url.port or (443 if url.scheme == "https" else 80))
        number = str(entries[0][4][0])
        if not is_public(number):
            reason = f"{url.host:.200} is the private address {number}"
            raise failure(str(url), reason, "download", "Give a public address.")
        request.extensions = request.extensions | {"sni_hostname": url.host}
        request.url = url.copy_with(host=number)
        try:
            return super().handle_request(request)
        finally:
            request.url = url  # redirects are relative to it


# Global by the registries' words, but inside networks: Azure's host, translators, addresses of documentation.
_NOT_PUBLIC = ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "2002::/16")


def is_public(number: str) -> bool:
    """Whether an IP address is reached through the internet; of IPv6, global unicast without translated IPv4."""
    address = ipaddress.ip_address(number.partition("%")[0])
    listed = any(address in ipaddress.ip_network(network) for network in _NOT_PUBLIC)
    unicast = address.version == 4 or address in ipaddress.ip_network("2000::/3")
    return unicast and address.is_global and not address.is_multicast and not listed
