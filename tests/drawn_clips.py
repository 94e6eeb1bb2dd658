"""Clips for tests of decoding: every picture shows its own number, so that a decoded frame says which one it is."""

import functools
from fractions import Fraction

import av
import numpy as np
import torch


NUM_FRAMES, HEIGHT, WIDTH = 48, 64, 96


@functools.cache
def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """The number as 8 white blocks on blue, below an orange bar that tells top from bottom and red from blue."""
    drawn = np.full((height, width, 3), (30, 30, 150), np.uint8)
    drawn[: height // 5] = (230, 120, 20)
    for bit in range(8):
        if number >> bit & 1:
            row, column = divmod(bit, 4)
            top, left = height // 4 + row * height * 3 // 8, 3 + column * width // 4
            drawn[top : top + height // 4, left : left + width // 5] = 235
    return drawn


def numbers(frames: np.ndarray | torch.Tensor) -> list[int]:
    """Which picture each frame `[H, W, 3]` shows, or `[3, H, W]` of a tensor; fails if one is not clearly of ours."""
    if isinstance(frames, torch.Tensor):
        frames = frames.permute(0, 2, 3, 1).numpy()
    drawn = np.stack([picture(number, *frames.shape[1:3]) for number in range(64)]).astype(np.int16)
    found = []
    for frame in frames:
        distances = np.abs(drawn - frame).mean((1, 2, 3))
        assert distances.min() < 12, f"no picture of ours, distance {distances.min():.1f}"
        found.append(int(distances.argmin()))
    return found


def mux_silence(container, sound, blocks: int = 1) -> None:
    """Blocks of 1024 samples for a stream of sound at 16 kHz."""
    for number in range(blocks):
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        block.sample_rate, block.pts = 16000, number * 1024
        container.mux(sound.encode(block))
    container.mux(sound.encode())


def remux(source, target, from_keyframe: int = 1, **options) -> int:
    """Copies the packets of a video to another container, from some keyframe on; returns their number."""
    with av.open(source) as container, av.open(target, "w", **options) as copy:
        stream = container.streams.video[0]
        copied, keyframes, packets = copy.add_stream_from_template(stream), 0, 0
        for packet in container.demux(stream):
            keyframes += packet.is_keyframe
            if packet.size and keyframes >= from_keyframe:
                packet.stream = copied
                copy.mux(packet)
                packets += 1
    return packets


def write(
    path,
    codec="libx264",
    count=NUM_FRAMES,
    size=(HEIGHT, WIDTH),
    times=None,
    audio=False,
    rotation=None,
    aspect=None,
    rate=Fraction(25),
    first=0,
    pixels="yuv420p",
    **options,
):
    """Writes `count` pictures from `first` on, at a rate or at `times` (in frames). `movflags` is the container's."""
    flags = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(path), "w", options=flags) as container:
        if audio:  # before the video
            sound = container.add_stream(audio if isinstance(audio, str) else "aac", rate=16000, layout="mono")
        stream = container.add_stream(codec, rate=rate, options={key: str(value) for key, value in options.items()})
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = 1 / rate
        if aspect:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        if audio:
            mux_silence(container, sound, -(-count * 640 // 1024))
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(first + number, *size), "rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


X265 = "log-level=none:pools=1:frame-threads=1:"
RECIPES = {
    "sparse_keyframes.mp4": {"g": 250, "bf": 3},
    "dense_keyframes.mp4": {"g": 6, "bf": 2},
    "open_gop.mp4": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"},
    "open_gop_hevc.mp4": {
        "codec": "libx265",
        "x265-params": X265 + "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0",
    },
    "vp9.webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "g": 20, "b": "400k"},
    "av1.mp4": {"codec": "libsvtav1", "preset": 12, "g": 20},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "bf": 2, "g": 12, "b": "900k"},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "bf": 2, "g": 12, "b": "900k"},
    "transport_stream.ts": {"g": 12, "bf": 2},
    "audio_first.mp4": {"g": 12, "bf": 2, "audio": True},
    "one_frame.mp4": {"count": 1},
    "odd_size.webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "size": (65, 99), "b": "400k"},
    "variable_rate.mp4": {"times": [n + n // 3 + 7 * (n > 20) for n in range(NUM_FRAMES)], "g": 12, "bf": 2},
}
CODECS_WANTED = {name: recipe.get("codec", "libx264") for name, recipe in RECIPES.items()}


def patched(data: bytes, find: bytes, offset: int, value: bytes) -> bytes:
    at = data.index(find) + offset
    return data[:at] + value + data[at + len(value) :]


def smooth_pictures(count: int = 2, height: int = 48, width: int = 64) -> torch.Tensor:
    """Random coloured frames `[T, 3, H, W]`, channels last as decoders give them."""
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255)
    return smooth.round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
