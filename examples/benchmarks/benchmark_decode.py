"""Times the reading of 8 frames of a video file: this package, decoding through, naive seeking, other libraries.

    python examples/benchmarks/benchmark.py decode --rounds 5 --output decode.json
    python examples/benchmarks/benchmark.py decode --minutes 1 --only dense10s sparse10s

The clips are drawn and encoded here, in a temporary folder. The hour is a short encode, repeated: its cost is that of
an hour. Each round times every contender once on every clip, starting from another one each time; the ratios are taken
within each round. Contenders that give other frames than decoding through are marked.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import av
import numpy as np
from benchmark_measurement import (
    describe_machine,
    load_average,
    positive,
    summarize,
    table_with_conditions,
    time_rounds,
)

from vitaclip_hf import decode_video
from vitaclip_hf.model.frame_sampling import ClipSpecification


OURS = "this package"
THROUGH = 'this package (verify="full")'
SEEKING = "naive keyframe seeking (PyAV)"
REFERENCES = {"seeking": SEEKING, "through": THROUGH}
Reader = Callable[[Path, list[int]], np.ndarray]


@dataclass(frozen=True)
class Clip:
    """What to encode: `seconds` of pictures, written `repeats` times one after the other."""

    width: int
    height: int
    seconds: int
    keyframe_distance: int
    codec: str = "libx264"
    repeats: int = 1


def clips(minutes: int) -> dict[str, Clip]:
    """The clips by name; `minutes` of the long one."""
    return {
        "dense10s": Clip(340, 256, 10, 12),
        "sparse10s": Clip(340, 256, 10, 250),
        "minute360p": Clip(640, 360, 10, 250, repeats=6),
        "long1080p": Clip(1920, 1080, 10, 250, repeats=max(minutes * 6, 1)),
    }


RATE = 25


def picture(number: int, clip: Clip) -> np.ndarray:
    """A moving pattern with noise, which costs a decoder about what a film does."""
    rows, columns = np.mgrid[: clip.height, : clip.width]
    noise = np.random.default_rng(number).integers(0, 24, (clip.height, clip.width))
    wave = np.sin((columns + 5 * number) / 37) * np.cos((rows - 3 * number) / 29) * 90 + 110
    return np.stack([wave + noise, wave[::-1] + noise, wave[:, ::-1] + noise], -1).astype(np.uint8)


OPTIONS = {"bf": "2", "preset": "veryfast", "crf": "26", "x264-params": "scenecut=0"}


def add_stream(container: av.container.OutputContainer, clip: Clip) -> av.VideoStream:
    stream = container.add_stream(clip.codec, rate=RATE, options=OPTIONS | {"g": str(clip.keyframe_distance)})
    stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
    return stream


def encode(clip: Clip) -> list[av.Packet]:
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream = add_stream(container, clip)
        packets = []
        for number in range(clip.seconds * RATE):
            packets += stream.encode(av.VideoFrame.from_ndarray(picture(number, clip), "rgb24"))
        return packets + stream.encode()


def write(path: Path, clip: Clip, packets: list[av.Packet], repeats: int) -> None:
    """Writes the packets of one encode `repeats` times, one after the other."""
    with av.open(str(path), "w") as container:
        stream = add_stream(container, clip)
        stream.encode(av.VideoFrame(clip.width, clip.height, "yuv420p"))  # fills in what the header needs
        length = int(clip.seconds / packets[0].time_base)
        for repeat in range(repeats):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = (int(stamp or 0) + repeat * length for stamp in (packet.pts, packet.dts))
                copy.time_base, copy.stream, copy.is_keyframe = packet.time_base, stream, packet.is_keyframe
                copy.duration = packet.duration
                container.mux(copy)


def seek_naively(path: Path, indices: list[int]) -> np.ndarray:
    """Seeks to the keyframe before each frame, by its time at a constant rate, and decodes up to it."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index in indices:
            wanted = (stream.start_time or 0) + int(index / stream.average_rate / stream.time_base)
            container.seek(wanted, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts >= wanted)
            found.append(frame.to_ndarray(format="rgb24"))
    return np.stack(found)


def read_with_torchcodec(mode: str) -> Reader:
    def read(path: Path, indices: list[int]) -> np.ndarray:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=mode)
        return decoder.get_frames_at(indices=indices).data.numpy()

    return read


def read_with_decord(path: Path, indices: list[int]) -> np.ndarray:
    from decord import VideoReader, cpu

    return VideoReader(str(path), ctx=cpu(0), num_threads=1).get_batch(indices).asnumpy()


def read_with_transformers(path: Path, indices: list[int]) -> np.ndarray:
    from transformers.video_utils import load_video

    return load_video(str(path), sample_indices_fn=lambda metadata, **_: np.array(indices), backend="pyav")[0]


READERS: dict[str, Reader] = {
    OURS: lambda path, indices: decode_video(path, indices)[0],
    THROUGH: lambda path, indices: decode_video(path, indices, verify="full")[0],
    SEEKING: seek_naively,
    "transformers load_video (PyAV)": read_with_transformers,
    "decord": read_with_decord,
    "torchcodec exact": read_with_torchcodec("exact"),
    "torchcodec approximate": read_with_torchcodec("approximate"),
}


def usable(readers: dict[str, Reader], path: Path) -> tuple[dict[str, Reader], dict[str, str]]:
    """Those that can read the clip, and why the others cannot."""
    working, missing = {}, {}
    for name, read in readers.items():
        try:
            read(path, [0])
            working[name] = read
        except (ImportError, OSError, RuntimeError) as error:
            missing[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    return working, missing


def measure(
    path: Path, readers: dict[str, Reader], indices: list[int], expected: np.ndarray, rounds: int
) -> dict[str, dict]:
    """Seconds of each round, whether the frames are the expected ones, and the ratios."""
    right = {name: bool(np.array_equal(read(path, indices), expected)) for name, read in readers.items()}  # warms up
    calls = {name: partial(read, path, indices) for name, read in readers.items()}
    seconds = time_rounds(calls, rounds, warm_up=False)
    references = {key: name for key, name in REFERENCES.items() if name in readers}
    summary = summarize(seconds, references)
    return {name: row | {"frames_as_decoding_through": right[name]} for name, row in summary.items()}


def to_markdown(results: dict) -> str:
    """The table, and below it who is missing."""
    measured = next(iter(next(iter(results["clips"].values())).values()))
    keys = [key for key in measured if key.startswith("ratio_to_")]
    names = [f"÷ {REFERENCES[key.removeprefix('ratio_to_')]}" for key in keys]
    rows = [["clip", f"reader of {results['settings']['frames']} frames", "ms", *names, "frames"]]
    rows.append(["---", "---", *["---:"] * (1 + len(keys)), "---"])
    for clip, found in results["clips"].items():
        for name, row in found.items():
            frames = "as decoding through" if row["frames_as_decoding_through"] else "**differ**"
            rows.append([clip, name, f"{row['median_ms']:.1f}", *(f"{row[key]:.3f}" for key in keys), frames])
    missing = [f"- {name} is left out: {reason}" for name, reason in results["missing"].items()]
    return "\n".join([table_with_conditions(rows, results), *([""] if missing else []), *missing])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, to_markdown=to_markdown)
    parser.add_argument("--frames", type=positive, default=8, help="frames to read (default: %(default)s)")
    parser.add_argument("--minutes", type=positive, default=60, help="length of the long clip (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(clips(1)), help="clips to read (default: all)")
    parser.add_argument("--skip", nargs="+", default=[], choices=list(READERS), help="readers to leave out")


def run(arguments: argparse.Namespace) -> dict:
    """Everything that `decode` measures, as it goes into the JSON."""
    load = load_average()
    readers = {name: read for name, read in READERS.items() if name not in arguments.skip}
    found, missing = {}, dict.fromkeys(arguments.skip, "asked for by --skip")
    with tempfile.TemporaryDirectory() as folder:
        for name, clip in clips(arguments.minutes).items():
            if arguments.only and name not in arguments.only:
                continue
            path = Path(folder) / f"{name}.mp4"
            packets = encode(clip)
            write(path, clip, packets, 1)
            once = clip.seconds * RATE
            (indices,) = ClipSpecification(arguments.frames).frame_numbers(once * clip.repeats, None)
            expected = decode_video(path, [index % once for index in indices], verify="full")[0]
            write(path, clip, packets, clip.repeats)
            working, unusable = usable(readers, path)
            missing |= unusable
            found[name] = measure(path, working, indices, expected, arguments.rounds)
            path.unlink()
    return {
        "benchmark": "decode",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {"frames": arguments.frames, "rounds": arguments.rounds},
        "machine": describe_machine(load),
        "missing": missing,
        "clips": found,
    }
