"""Loads `vitaclip serve`: requests a second, times, and the share of errors under overload.

It starts a server of its own on this machine, sends requests for so many seconds from so many clients at once, for each
number of clients, and stops the server. Nothing leaves the machine.

    python examples/benchmarks/benchmark_server.py --model examples/demo/checkpoint --clients 1 4 16 64
"""

import argparse
import asyncio
import json
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.utils import httpx


DEMO = Path(__file__).resolve().parents[1] / "demo"
MOST_SECONDS, MOST_CLIENTS, START_SECONDS = 120, 512, 120


class Server:
    """`vitaclip serve` as a process of its own on a free port of the loopback address."""

    def __init__(self, model: str, *options: str):
        command = [sys.executable, "-m", "vitaclip_hf.cli", "serve", "--model", model, "--port", "0", *options]
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115  closed with the server
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.address = self._address()

    def _address(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", self.text()):
                return found[1]
            time.sleep(0.1)
        self.process.kill()
        raise RuntimeError(f"the server did not start:\n{self.text()[-2000:]}")

    def text(self) -> str:
        """What it has written so far."""
        return Path(self.log.name).read_text()

    def stop(self) -> int:
        """Ends it as `docker stop` does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


async def load(address: str, video: bytes, labels: list[str], clients: int, seconds: float) -> dict[str, Any]:
    """Sends requests from `clients` at once; each sends its next one when it has its answer."""
    statuses: Counter[str] = Counter()
    times: list[float] = []
    end = time.perf_counter() + seconds
    pool = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def client(http: Any) -> None:
        while (started := time.perf_counter()) < end:
            try:
                answer = await http.post("/classify", files={"video": ("clip.mp4", video)}, data={"labels": labels})
                status = str(answer.status_code)
            except httpx.HTTPError as error:
                status = type(error).__name__
            statuses[status] += 1
            if status == "200":
                times.append(time.perf_counter() - started)
            elif status == "503":
                await asyncio.sleep(0.1)  # a polite client would wait the second of Retry-After

    async with httpx.AsyncClient(base_url=address, timeout=60, limits=pool, trust_env=False) as http:
        began = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(clients)))
        took = time.perf_counter() - began
    sent = sum(statuses.values())
    return {
        "clients": clients,
        "answered_a_second": len(times) / took,
        "p50_ms": float(np.percentile(times, 50)) * 1000 if times else None,
        "p99_ms": float(np.percentile(times, 99)) * 1000 if times else None,
        "sent": sent,
        "share_503": statuses["503"] / sent,
        "other_errors": sent - statuses["200"] - statuses["503"],
        "statuses": dict(statuses),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or Hub id")
    parser.add_argument("--video", type=Path, default=DEMO / "videos" / "taxi_moving_left.mp4")
    parser.add_argument("--labels", type=int, default=60, help="how many of the demo's labels to score")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64], help=f"at most {MOST_CLIENTS}")
    parser.add_argument("--seconds", type=float, default=10, help=f"of each measurement, at most {MOST_SECONDS}")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments, options = parser.parse_known_args()
    if max(arguments.clients) > MOST_CLIENTS or arguments.seconds > MOST_SECONDS:
        parser.error(f"at most {MOST_CLIENTS} clients and {MOST_SECONDS} seconds")
    labels = (DEMO / "labels.txt").read_text().splitlines()[: arguments.labels]
    video = arguments.video.read_bytes()
    server = Server(arguments.model, *options)
    rows = []
    try:
        asyncio.run(load(server.address, video, labels, 2, 2))  # warm
        print("| clients | answers a second | p50 | p99 | 503 | other errors |\n| --- | --- | --- | --- | --- | --- |")
        for clients in arguments.clients:
            row = asyncio.run(load(server.address, video, labels, clients, arguments.seconds))
            rows.append(row)
            print(
                f"| {clients} | {row['answered_a_second']:.1f} | {row['p50_ms'] or 0:.0f} ms | "
                f"{row['p99_ms'] or 0:.0f} ms | {row['share_503']:.1%} of {row['sent']} | {row['other_errors']} |"
            )
        health = httpx.get(f"{server.address}/health", trust_env=False).status_code
    finally:
        code = server.stop()
    print(f"health afterwards: {health}; exit code on SIGTERM: {code}; {platform.machine()}, {platform.system()}")
    if arguments.output:
        arguments.output.write_text(json.dumps({"options": options, "rows": rows, "exit_code": code}, indent=1) + "\n")


if __name__ == "__main__":
    main()
