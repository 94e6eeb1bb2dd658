"""What is opened and what is refused: containers, addresses, limits of downloads and of decoded size."""

import functools
import gzip
import http.server
import io
import os
import re
import socket
import struct
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from attack.media_files import SCRIPTS
from drawn_clips import HEIGHT, WIDTH, numbers, write
from PIL import Image

from vitaclip_hf import ReadOptions, VideoDecodingError, VideoReader, VitaClipVideoProcessor, decode_video, open_video
from vitaclip_hf.library.windows import read_windows
from vitaclip_hf.model import sources, video_inputs
from vitaclip_hf.model.sources import VideoTooLargeError, download, is_public
from vitaclip_hf.model.video_inputs import video_from


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with `secret.mp4`, which none of the files that name it may read."""
    folder = tmp_path_factory.mktemp("files")
    write(folder / "secret.mp4", g=12)
    write(folder / "secret.ts", g=12)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            path, _, rest = self.path.partition("?")
            if path == "/moved":
                self.send_response(302)
                self.send_header("Location", rest)
                self.end_headers()
            elif path == "/trickle":  # one byte in a while, for ever
                self.send_response(200)
                self.end_headers()
                self.send(b"x", 300, 0.05)
            elif path == "/headers":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                self.send(b"x", 300, 0.05)
            elif path == "/endless":
                self.send_response(200)
                self.end_headers()
                self.send(b"x" * 65536, 10_000)
            elif path == "/compressed":
                self.send_response(200)
                self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                self.wfile.write(gzip.compress(bytes(1_000_000)))
            else:
                super().do_GET()

        def send(self, block, times, pause=0.0):
            try:
                for _ in range(times):
                    self.wfile.write(block)
                    self.wfile.flush()
                    time.sleep(pause)
            except OSError:
                pass  # the other side has gone

        def log_message(self, *args):
            pass

    for name, text in SCRIPTS.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    Image.new("RGB", (32, 24), (200, 10, 10)).save(folder / "red.png")
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


# Containers


@pytest.mark.parametrize("kind", ["path", "bytes", "url"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_and_texts_are_refused_at_once(server, folder, monkeypatch, name, kind):
    monkeypatch.chdir(folder)
    source = {"path": name, "bytes": (folder / name).read_bytes(), "url": f"{server}/{name}"}[kind]
    with pytest.raises(VideoDecodingError, match="this format is not supported"):
        decode_video(source, [0])


def test_an_mp4_whose_pictures_lie_in_another_file(folder, monkeypatch):
    """A data reference to `secret.mp4`: that file is not read."""
    monkeypatch.chdir(folder)
    data = write(folder / "reference.mp4", g=12, count=12).read_bytes()
    at = data.index(b"url \0\0\0\1")
    name = b"secret.mp4\0"
    data = data[:at] + b"url \0\0\0\0" + name + data[at + 8 :]
    for box in (b"url ", b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        start = data.rindex(box, 0, at + 4) - 4
        (size,) = struct.unpack(">I", data[start : start + 4])
        data = data[:start] + struct.pack(">I", size + len(name)) + data[start + 4 :]
    try:
        frames, _ = decode_video(data, [3])
    except VideoDecodingError:
        return
    assert numbers(frames) == [3]  # of the file itself


def test_file_addresses(folder):
    for slashes in ("file://", "file:///", "file://localhost"):  # what follows begins with a slash
        frames, _ = decode_video(f"{slashes}{folder / 'secret.mp4'}", [3])
        assert frames.shape[0] == 1


@pytest.mark.parametrize(
    "source",
    [
        *("rtsp://127.0.0.1:9/x", "ftp://127.0.0.1/x.mp4", "rtmp://127.0.0.1/x", "tcp://127.0.0.1:9"),
        *("udp://127.0.0.1:9", "concat:secret.mp4|secret.mp4", "subfile,,start,0,end,0,,:secret.mp4"),
        *("data:video/mp4;base64,AAAA", "crypto:secret.mp4", "async:secret.mp4", "cache:secret.mp4", "pipe:0"),
        *("frame%03d.png", "file://elsewhere.example/secret.mp4", "testsrc=size=64x64", "/dev/zero", "a\0b"),
        "x" * 100_000,
    ],
)
def test_protocols_and_patterns_are_refused(folder, monkeypatch, source):
    monkeypatch.chdir(folder)
    with pytest.raises(VideoDecodingError) as caught:
        decode_video(source, [0])
    assert len(str(caught.value)) < 2500 and "\n" not in str(caught.value)


VP9 = {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8}
CODECS = {"avi": "mpeg4", "3gp": "mpeg4", "wmv": "wmv2", "asf": "msmpeg4", "m1v": "mpeg1video"}
CODECS |= dict.fromkeys(("mpg", "vob", "mxf"), "mpeg2video")
WRITTEN: dict[str, dict] = {name: {} for name in ("flv", "mkv", "mov", "m4v", "ts", "m2ts", "nut", "h264")}
WRITTEN |= {name: {"codec": codec} for name, codec in CODECS.items()} | {"webm": VP9, "ivf": VP9}
WRITTEN["hevc"] = {"codec": "libx265", "x265-params": "log-level=none:pools=1:frame-threads=1"}


@pytest.mark.parametrize("extension", WRITTEN)
def test_what_cameras_and_recorders_write_is_read(tmp_path, extension):
    options = WRITTEN[extension]
    if options.get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"PyAV was built without {options['codec']}")
    path = write(tmp_path / f"clip.{extension}", count=24, b="2M", **options)
    for source in (path, path.read_bytes()):
        frames, metadata = decode_video(source, [20, 3])
        assert numbers(frames) == [20, 3] and metadata.total_num_frames == 24
    assert metadata.fps == pytest.approx(25, rel=0.01) and metadata.duration == pytest.approx(24 / 25, abs=0.1)


# Forms of sources


def test_file_addresses_and_data_sets_rows(folder):
    path = folder / "secret.mp4"
    data = path.read_bytes()
    spaced = folder / "with space.mp4"
    spaced.write_bytes(data)
    assert spaced.as_uri().endswith("with%20space.mp4")
    for source in (
        path.as_uri(),
        spaced.as_uri(),
        "FILE://localhost" + str(path),
        {"path": str(path), "bytes": None},
        {"path": "elsewhere.mp4", "bytes": data},
        {"bytes": data},
        {"path": path},
        {"bytes": bytearray(data)},
    ):
        assert numbers(decode_video(source, [7])[0]) == [7]
        assert numbers(video_from(source).read([7])) == [7]
    with pytest.raises(VideoDecodingError, match="elsewhere.mp4"):
        decode_video({"path": "elsewhere.mp4", "bytes": b"text"}, [0])
    for source, found in (
        ({"bytes": "text"}, "got NoneType and str"),
        ({"path": "a.mp4", "bytes": [1, 2]}, "got str and list"),
        ({"path": 3}, "got int and NoneType"),
        ({"path": None, "bytes": None}, "got NoneType"),
    ):
        with pytest.raises(TypeError, match=found):
            open_video(source)
    for source in ({}, {"path": str(path), "label": 0}, 3):
        with pytest.raises(TypeError, match="Frames must be images, or arrays"):
            video_from(source)


# Downloads


@pytest.mark.parametrize("page", ["trickle", "headers"])
def test_the_time_limit_is_of_the_whole_download(server, page):
    started = time.monotonic()
    with pytest.raises(VideoDecodingError, match=r"not complete after 0.5 s .*`download_seconds`"):
        open_video(f"{server}/{page}", download_seconds=0.5)
    assert time.monotonic() - started < 10  # the server would go on for 15 s


def test_a_time_that_is_over_before_the_download_begins(server, monkeypatch):
    monkeypatch.setattr(threading.Timer, "start", lambda timer: timer.function())
    with pytest.raises(VideoDecodingError, match=r"secret\.mp4: RuntimeError"):
        open_video(f"{server}/secret.mp4", download_seconds=60)


def test_the_size_limit_of_a_download(server, folder):
    size = (folder / "secret.mp4").stat().st_size
    assert len(download(f"{server}/secret.mp4", ReadOptions(max_download_bytes=size))) == size
    with pytest.raises(VideoTooLargeError, match=f"{size - 1:,} bytes .*`max_download_bytes`"):
        open_video(f"{server}/secret.mp4", max_download_bytes=size - 1)
    with pytest.raises(VideoTooLargeError, match="100,000 bytes"):  # states no length
        open_video(f"{server}/endless", max_download_bytes=100_000)
    with pytest.raises(VideoTooLargeError, match="100,000 bytes"):  # 1,000 bytes become 1,000,000
        open_video(f"{server}/compressed", max_download_bytes=100_000)


def test_urls(server, folder):
    assert numbers(decode_video(f"{server}/secret.mp4", [7, 3])[0]) == [7, 3]
    for address, cause in (
        (f"{server}/absent.mp4", "404"),
        ("http://127.0.0.1:9/a.mp4", "ConnectError"),
        ("http://[::1/a.mp4", "InvalidURL"),
    ):
        with pytest.raises(VideoDecodingError, match=cause) as caught:
            decode_video(address, [0])
        assert caught.value.source == address and address in str(caught.value)


def test_redirects(server, folder):
    data = (folder / "secret.mp4").read_bytes()
    assert download(f"{server}/moved?/secret.mp4", ReadOptions()) == data
    for target in ("file:///etc/hostname", "ftp://127.0.0.1/x"):
        with pytest.raises(VideoDecodingError, match="UnsupportedProtocol"):
            open_video(f"{server}/moved?{target}")
    with pytest.raises(VideoDecodingError, match="TooManyRedirects"):
        open_video(f"{server}/moved?/moved?/moved?/moved?/moved?/moved?/moved?/moved?/moved?/moved?/moved?/moved")


def test_private_addresses_are_refused_if_asked(server, folder, monkeypatch):
    for address in (f"{server}/secret.mp4", server.replace("127.0.0.1", "localhost") + "/secret.mp4"):
        with pytest.raises(
            VideoDecodingError, match=r"private address (127\.0\.0\.1|::1) \(download\)\. Give a public address\.$"
        ):
            open_video(address, allow_private_addresses=False)
    # The server stands for a public one; where it redirects to does not.
    monkeypatch.setattr(sources, "is_public", lambda number: number == "127.0.0.1")
    data = download(f"{server}/secret.mp4", ReadOptions(allow_private_addresses=False))
    assert data == (folder / "secret.mp4").read_bytes()
    private = server.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(VideoDecodingError, match=r"private address 127\.0\.0\.2"):
        open_video(f"{server}/moved?{private}/secret.mp4", allow_private_addresses=False)


def test_the_address_that_was_checked_is_the_one_that_is_asked(server, folder, monkeypatch):
    """A name server can give a public address first, and then a private one."""
    resolve, asked = socket.getaddrinfo, []

    def rebinding(host, *rest, **options):
        asked.append(host)
        if host == "rebinding.test":
            host = "127.0.0.2" if asked.count(host) > 1 else "127.0.0.1"
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(sources, "is_public", lambda number: number == "127.0.0.1")
    address = server.replace("127.0.0.1", "rebinding.test") + "/secret.mp4"
    data = download(address, ReadOptions(allow_private_addresses=False))
    assert data == (folder / "secret.mp4").read_bytes() and asked.count("rebinding.test") == 1


@pytest.mark.parametrize(
    "number",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"]
    + ["::1", "::", "fc00::1", "fe80::1%eth0", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1"]
    + ["192.0.0.192", "::ffff:0:127.0.0.1", "168.63.129.16", "::ffff:168.63.129.16", "192.88.99.1"]
    + ["::127.0.0.1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "5f00::1", "3fff::1"],
)
def test_private_numbers(number):
    assert not is_public(number) and is_public("8.8.8.8") and is_public("2606:4700::1111")


@pytest.mark.parametrize("name", ["a\nb.mp4", "a\x1b[2J.mp4", "a\u2028.mp4", os.fsdecode(b"caf\xe9.mp4")])
def test_a_message_is_one_line_that_can_be_printed(name):
    with pytest.raises(VideoDecodingError, match="there is no such file") as error:
        open_video(name)
    assert str(error.value).isprintable() and str(error.value).encode()
    assert error.value.source == name


def test_lists_of_images_have_the_limits_too(server):
    addresses = [f"{server}/red.png"] * 3
    assert video_from(addresses).read([2]).shape == (1, 3, 24, 32)
    with pytest.raises(VideoDecodingError, match="not complete after"):
        video_from([*addresses, f"{server}/trickle?.png"], ReadOptions(download_seconds=0.5))
    for limits, found in (
        ({"max_download_bytes": 100}, "`max_download_bytes`"),
        ({"max_bytes": 2 * 24 * 32 * 3}, "`max_bytes`"),
        ({"max_frame_pixels": 24 * 32 - 1}, "`max_frame_pixels`"),
    ):
        with pytest.raises(VideoTooLargeError, match=found):
            video_from(addresses, ReadOptions(**limits))
    with pytest.raises(VideoDecodingError, match="private"):
        video_from(addresses, ReadOptions(allow_private_addresses=False))
    with pytest.raises(VideoDecodingError, match=r"text\.png"):
        video_from([f"{server}/text.png"])


def test_the_time_of_a_list_of_images_is_of_all_together(server, monkeypatch):
    left, opened = [], video_inputs.opened_source
    monkeypatch.setattr(
        video_inputs,
        "opened_source",
        lambda source, options: (left.append(options.download_seconds), opened(source, options))[1],
    )
    video_from([f"{server}/red.png"] * 3, ReadOptions(download_seconds=60))
    assert 60 >= left[0] > left[1] > left[2] > 0


# Decoded size


def picture(width: int, height: int, kind: str, frames: int = 1) -> bytes:
    file = io.BytesIO()
    first, *others = (Image.new("L", (width, height), 90 * number) for number in range(frames))
    first.save(file, kind, **({"save_all": True, "append_images": others, "duration": 40} if others else {}))
    return file.getvalue()


@pytest.mark.parametrize(("kind", "frames"), [("GIF", 2), ("PNG", 1)])
def test_a_large_frame_is_refused_before_decoding(kind, frames):
    """It is too large and not damaged."""
    data = picture(8000, 5000, kind, frames)
    assert len(data) < 300_000
    with pytest.raises(VideoTooLargeError, match=r"8000 x 5000 = 40,000,000 pixels, .* 36,000,000.*`max_frame_pixels"):
        open_video(data)
    small = picture(WIDTH, HEIGHT, kind, frames)
    with pytest.raises(VideoTooLargeError, match=r"the limit is 6,143"):
        open_video(small, max_frame_pixels=HEIGHT * WIDTH - 1)
    allowed = decode_video(small, [frames - 1], max_frame_pixels=HEIGHT * WIDTH)[0]
    assert allowed.shape == (1, HEIGHT, WIDTH, 3)


def test_a_large_frame_behind_small_ones():
    data = picture(WIDTH, HEIGHT, "JPEG", 1) * 40 + picture(640, 480, "JPEG", 1)
    assert open_video(data).read([40]).shape == (1, 3, HEIGHT, WIDTH)
    with pytest.raises(VideoDecodingError):
        open_video(data, max_frame_pixels=HEIGHT * WIDTH).read([40])


def test_copies_of_frames_count(folder):
    frame = HEIGHT * WIDTH * 3
    assert len(open_video(folder / "secret.mp4", max_bytes=4 * frame).read([1, 2, 5])) == 3
    with pytest.raises(VideoTooLargeError, match="secret.mp4: 6 frames .*`max_bytes`"):  # in another order: 3 more
        open_video(folder / "secret.mp4", max_bytes=5 * frame).read([5, 2, 1])


# Pictures of more than 8 bits


def test_pictures_keep_their_range():
    floats = Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16))
    assert np.allclose(video_from([floats]).read([0])[0], np.linspace(0, 255, 256).reshape(16, 16), atol=1e-3)
    whole = Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16))
    assert whole.mode == "I" and video_from([whole]).read([0])[0, 0, 15, 15] == 255
    sixteen_bits = np.full((4, 4), 257, np.uint16)
    for image, found in ((sixteen_bits, "0 … 255"), (np.full((4, 4), 7, np.float32), "0 … 1")):
        with pytest.raises(ValueError, match=re.escape(found)):
            video_from([Image.fromarray(image)])


def test_photographs_are_turned_as_they_are_displayed(tmp_path):
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    stored.save(tmp_path / "photograph.png", exif=exif)
    found = video_from([str(tmp_path / "photograph.png")]).read([0])[0].permute(1, 2, 0)
    assert np.array_equal(found, np.asarray(stored.rotate(-90, expand=True)))


# Pictures


def test_frames_that_would_become_gigabytes(tmp_path):
    """The shorter side is resized to 32 pixels: 3.2 million columns. Pillow takes half a minute for 30 million rows."""
    processor = VitaClipVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    thin = np.zeros((4, 1, 60_000, 3), np.uint8)
    for video in (thin, [[picture(1, 60_000, "PNG")]]):
        with pytest.raises(VideoTooLargeError, match="one side over 100 times the other"):
            processor(video)
    with pytest.raises(VideoTooLargeError, match="65,535 of a side"):
        processor([[picture(1, 70_000, "PNG")]])
    (tmp_path / "narrow.gif").write_bytes(picture(4000, 20, "GIF"))
    for read in (processor, lambda path: next(read_windows(VideoReader(processor), path))):
        with pytest.raises(VideoTooLargeError, match=r"narrow\.gif: its frames have 4000 x 20"):
            read(tmp_path / "narrow.gif")
    assert processor(np.zeros((4, 1, 100, 3), np.uint8), return_tensors="pt")["pixel_values_videos"].shape[-1] == 32
    assert processor(thin, do_resize=False, do_center_crop=False)["pixel_values_videos"][0].shape[-1] == 60_000


def test_pictures_of_a_list_are_of_the_formats_on_the_list(tmp_path):
    """Pillow would start Ghostscript for an EPS, and wait for ever for a pipe."""
    (tmp_path / "a.png").write_bytes(picture(8, 6, "EPS"))
    os.mkfifo(tmp_path / "b.png")
    for name, found in (("a.png", "cannot identify"), ("b.png", "it is not a file")):
        with pytest.raises(VideoDecodingError, match=found):
            video_from([tmp_path / name])
    data = picture(8, 6, "PNG")
    frames = [data, {"path": "x.png", "bytes": data}, io.BytesIO(data), {"bytes": data}]
    assert video_from(frames).read([3]).shape == (1, 3, 6, 8)


def test_arrays_of_other_kinds():
    large = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3).astype(">u2")
    assert np.array_equal(video_from(large).read([1])[0].permute(1, 2, 0).numpy(), large[1])
    for array in (large.astype(object), large.astype(str), large.astype("M8[s]")):
        with pytest.raises(TypeError, match="got an array of"):
            video_from(array)


def test_mistakes_of_our_own_calls_are_not_reported_as_damage(monkeypatch, tmp_path):
    def open_(file, *args, container_options):  # an older or newer PyAV than the call was written for
        raise AssertionError

    path = write(tmp_path / "clip.mp4")
    assert open_video(path).metadata.total_num_frames > 1
    monkeypatch.setattr(av, "open", open_)
    with pytest.raises(TypeError, match="unexpected keyword"):
        open_video(path)
    monkeypatch.setattr("builtins.open", lambda file, *args, **_: os.open(f"{file}/none", os.O_RDONLY))
    with pytest.raises(VideoDecodingError, match=r"NotADirectoryError: .*clip.mp4.*\. If it is damaged, fetch"):
        open_video(path)  # a file that the system does not open is not called damaged
