"""Damaged and hostile media files: frames or the documented error, within time, and never another local file."""

import functools
import io
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attack.mutations import damaged
from attack.outcomes import Attack
from drawn_clips import RECIPES, write
from PIL import Image

from vitaclip_hf import VideoDecodingError, VitaClipVideoProcessor, decode_video


EXPECTED = (VideoDecodingError,)
SECONDS = 30.0  # of one file; the clips have 48 small frames
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nsecret.ts\n"
FFCONCAT = "ffconcat version 1.0\nfile secret.mp4\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45678 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)

# Texts by which FFmpeg would open another file or wait for a network.
SCRIPTS = {
    "list.ffconcat": FFCONCAT,
    "concat_bom.mp4": "\ufeff" + FFCONCAT,
    "concat_of_files.txt": "file 'secret.mp4'\n",
    "playlist.mp4": HLS + "#EXT-X-ENDLIST\n",
    "playlist_bom.mp4": "\ufeff" + HLS,
    "stream.sdp": SDP,
    "manifest.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>secret.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "show.smil": '<smil><body><video src="secret.mp4"/></body></smil>',
    "list.xspf": '<?xml version="1.0"?><playlist><trackList><track><location>secret.mp4</location></track></trackList>'
    "</playlist>",
    "list.pls": "[playlist]\nFile1=secret.mp4\nNumberOfEntries=1\n",
    "old.asx": '<asx version="3.0"><entry><ref href="secret.mp4"/></entry></asx>',
    "reference.mov": "[Reference]\nRef1=secret.mp4\n",
    "rtsp.mp4": "rtsptext\nrtsp://127.0.0.1:9/x\n",
    "graph.txt": "movie=secret.mp4",
    "text.mp4": "this is not a video\n" * 200,
    "subtitles.mp4": "1\n00:00:00,000 --> 00:00:10,000\ntext\n",
    "drawing.svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="secret.mp4"/></svg>',
    "page.mp4": "<!doctype html><html><body>404</body></html>",
}


@functools.cache
def clip(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        return write(Path(scratch, name), **RECIPES[name]).read_bytes()


def read(data: bytes, name: str, on_damage: str) -> str:
    """Reads frames of a file in a process of its own, so that a crash or a hang is seen for what it is."""
    try:
        frames, _ = decode_video(data, [0, 3, 20], max_seconds=SECONDS, on_damage=on_damage)
    except IndexError:
        return "fewer frames"
    except VideoDecodingError as error:
        if "LostProcessError" in str(error) or "is not decoded after" in str(error):
            raise AssertionError(f"{name}: {error}") from error
        raise
    if frames.dtype != np.uint8 or len(frames) != 3:
        raise AssertionError(f"{name}: {frames.dtype} {frames.shape}")
    return "frames"


def damaged_clips(seed: int, count: int, recipes: tuple[str, ...] = tuple(RECIPES)) -> Iterator[Attack]:
    """Clips of all containers and codecs, each with one kind of damage."""
    for number in range(count):
        recipe = recipes[number % len(recipes)]
        data, damage = damaged(clip(recipe), f"{seed}-{number}")
        on_damage = "skip" if number // len(recipes) % 3 == 2 else "error"
        name = f"{recipe}-{seed}-{number}-{damage}-{on_damage}"
        yield Attack(name, functools.partial(read, data, name, on_damage), (VideoDecodingError,))


def gif(width: int, height: int, frames: int) -> bytes:
    """An animation whose frames say nothing and are as large as they want."""
    picture = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + picture * frames + b"\x3b"


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


BOMB = png(Image.new("1", (20_000, 20_000)))
NOISE = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)


def hostile_files(secret: str) -> Iterator[tuple[str, bytes]]:
    """Bombs, and files that name other files. `secret` is the path of a readable video."""
    yield "gif of 65535 x 65535", gif(65535, 65535, 1)
    yield "gif of 8192 x 8192, 500 frames", gif(8192, 8192, 500)
    yield "y4m of 100000 x 100000", b"YUV4MPEG2 W100000 H100000 F25:1 C420\nFRAME\n" + bytes(100)
    yield "y4m of negative size", b"YUV4MPEG2 W-1 H-1 F25:1 C420\nFRAME\n" + bytes(100)
    yield "png of 20000 x 20000", BOMB
    yield from ((name, text.encode()) for name, text in SCRIPTS.items())
    boxes = struct.pack(">I4s", 16, b"ftyp") + b"isom" + bytes(4)
    yield "mp4 with a box of 2**63 bytes", boxes + struct.pack(">I4sQ", 1, b"moov", 2**63)
    yield "mp4 with a box of no bytes", boxes + struct.pack(">I4s", 0, b"moov") * 1000
    deep = b""
    for _ in range(5000):
        deep = struct.pack(">I4s", len(deep) + 8, b"moov") + deep
    yield "mp4 of 5,000 nested boxes", boxes + deep
    mp4 = clip("sparse_keyframes.mp4")
    at = mp4.find(b"stsz")
    yield "mp4 that counts 4 billion frames", mp4[: at + 12] + b"\xff\xff\xff\xff" + mp4[at + 16 :]
    at = mp4.find(b"avc1", mp4.find(b"stsd"))
    yield "mp4 that says 65535 x 65535", mp4[: at + 28] + b"\xff\xff\xff\xff" + mp4[at + 32 :]
    dref = mp4.find(b"url ")
    yield "mp4 that refers to a file", mp4[: dref + 4] + bytes(4) + f"file://{secret}".encode() + mp4[dref + 8 :]
    yield "nothing", b""
    yield "zeros", bytes(1_000_000)
    yield "noise", random.Random(0).randbytes(1_000_000)


def bombs() -> Iterator[Attack]:
    """Decompression bombs, and files by which FFmpeg would open another file or wait for a network."""
    processor = VitaClipVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with tempfile.TemporaryDirectory() as scratch:
        secret = Path(scratch, "secret.mp4")
        secret.write_bytes(clip("one_frame.mp4"))
        for name, data in hostile_files(str(secret)):
            # The frames of "mp4 that …" are there; what the file claims or names is not used.
            success = "frames" if name.startswith("mp4 that") else None
            yield Attack(name, lambda data=data, name=name: read(data, name, "error") and None, EXPECTED, success)
        for source in (
            *("http://[::1", "http://", "http://a b/", "https://\x00/x", "ftp://a/b"),
            *("a\x00b", "\ud800", "x" * 10_000, "", ".", "/proc/self/mem"),
        ):
            action = functools.partial(decode_video, source, [0], download_seconds=5)
            yield Attack(f"source {source[:20]!r}", action, EXPECTED, None)
        for name, data in (("bomb", BOMB), ("cut", png(Image.fromarray(NOISE))[:900]), ("text", b"text" * 9)):
            file = Path(scratch, f"{name}.png")
            file.write_bytes(data)
            yield Attack(
                f"png: {name}", functools.partial(processor, [[str(file)]], return_tensors="pt"), EXPECTED, None
            )
