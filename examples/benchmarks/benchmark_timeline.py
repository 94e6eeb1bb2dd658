"""How long `vitaclip timeline` takes for long videos, and how much memory: a minute of drawn scenes, joined many times.

    python examples/benchmarks/benchmark_timeline.py --minutes 6 60

The video is 640 x 360, H.264, 25 frames a second. If memory does not grow with the length, both peaks are alike.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import torch
from benchmark_measurement import load_average, positive, processor_name


DEMO = Path(__file__).resolve().parents[1] / "demo"
sys.path.insert(0, str(DEMO))

from evaluate_timeline import joined_scenes  # noqa: E402


WIDTH, HEIGHT, FPS = 640, 360, 25


def write_minute(path: Path) -> None:
    """Scenes with a little noise, as cameras have it."""
    frames = joined_scenes(60, seed=5)[0][: 60 * FPS]
    noise = np.random.default_rng(5).integers(-6, 7, (8, HEIGHT, WIDTH, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, frame in enumerate(frames):
            large = av.VideoFrame.from_ndarray(frame).reformat(WIDTH, HEIGHT).to_ndarray(format="rgb24")
            noisy = (large + noise[number % len(noise)]).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy)))
        container.mux(stream.encode())


def join(minute: Path, times: int, path: Path) -> None:
    """The packets of the minute, again and again, without encoding them anew."""
    with av.open(str(path), "w") as output:
        stream = None
        for number in range(times):
            with av.open(str(minute)) as source:
                video = source.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is not None:
                        shift = int(60 * number / Fraction(packet.time_base))
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        output.mux(packet)


def measure(model: str, video: Path, folder: Path, options: list[str]) -> dict[str, float]:
    """Seconds by the clock and of the CPU, and the most memory of the process."""
    files = [word for ending in ("json", "vtt", "png") for word in ("--output", str(folder / f"timeline.{ending}"))]
    command = [sys.executable, "-m", "vitaclip_hf.cli", "timeline", str(video), "--model", model, *files, *options]
    command += ["--labels-file", str(DEMO / "labels.txt"), "--scores", str(folder / "scores.csv")]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"`vitaclip timeline` ended with exit code {process.returncode}")
    windows = len((folder / "scores.csv").read_text().splitlines()) - 1
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    return {"windows": windows, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or Hub id")
    parser.add_argument("--minutes", type=positive, nargs="+", default=[6, 60], help="lengths of the video")
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # In a process of its own: on Linux the most memory of a process begins with that of the one that started it.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(write_minute, folder / "minute.mp4").result()
        print("| minutes | windows | seconds | CPU seconds | peak memory |\n| ---: | ---: | ---: | ---: | ---: |")
        for minutes in arguments.minutes:
            video = folder / f"{minutes}.mp4"
            join(folder / "minute.mp4", minutes, video)
            before = load_average()
            row = measure(arguments.model, video, folder, options)
            print(
                f"| {minutes} | {row['windows']} | {row['seconds']:.0f} | {row['cpu_seconds']:.0f} | "
                f"{row['peak_mib']:.0f} MiB |",
                flush=True,
            )
            print(f"load average before and after: {before}, {load_average()}", file=sys.stderr)
    about = f"{processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}; {about}")


if __name__ == "__main__":
    main()
