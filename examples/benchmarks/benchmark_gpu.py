"""Measures everything of Vita-CLIP that needs a GPU, in one run of about four minutes.

    python examples/benchmarks/benchmark_gpu.py --output gpu.json
    python examples/benchmarks/benchmark_gpu.py --smoke    # every step that needs no GPU, on tiny towers on the CPU

Weights and frames are random: nothing is downloaded and no video is read. Contenders are timed interleaved, in one
process; ratios are taken within each round. The JSON is written after every measurement, so that a part that fails or
runs out of time loses nothing of the others.

Exit code: 0 if everything was measured and every check passed, 1 if not, 2 where torch finds no GPU.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path

import torch
from gpu_record import START, Record, TimeIsUpError, time_limit


# Parts in their order, and the most seconds that each may take; the last has what is left.
PARTS = {
    "agreement": 40,
    "synchronization": 20,
    "vision": 75,
    "text": 20,
    "train": 45,
    "graph": 20,
    "compiled": 150,
}


def describe_gpu() -> dict:
    """What `nvidia-smi` says of the GPU: driver, power limit and clocks, where it is installed."""
    fields = ["driver_version", "power.limit", "clocks.max.sm", "clocks.current.sm", "memory.used"]
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    try:
        found = subprocess.run(query, check=True, capture_output=True, text=True, timeout=10).stdout
    except (subprocess.SubprocessError, OSError) as error:
        return {"error": str(error)[:200]}
    return dict(zip(fields, (value.strip() for value in found.split(",")), strict=False))


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def to_markdown(results: dict) -> str:
    """All timings as one table, all checks as a second, and what failed."""
    timings = [
        ["measurement", "contender", "median ms", "min–max ms", "÷ released", "÷ plain CLIP", "videos/s", "peak MiB"],
        ["---", "---"] + ["---:"] * 6,
    ]
    checks = [["check", "passed", "figures"], ["---", "---", "---"]]
    failures = []
    for name, part in results["parts"].items():
        if part["error"]:
            failures.append(f"**{name}: {part['error']}**")
        for measured in part["measurements"]:
            for entry in measured["contenders"]:
                if "error" in entry:
                    timings.append([measured["name"], entry["name"], entry["error"], *[""] * 5])
                    continue
                peak, videos = entry.get("peak_memory_bytes"), measured.get("videos")
                timings.append(
                    [
                        measured["name"],
                        entry["name"],
                        f"{entry['median_ms']:.2f}",
                        f"{entry['min_ms']:.2f}–{entry['max_ms']:.2f}",
                        number(entry.get("ratio_to_released"), 3),
                        number(entry.get("ratio_to_clip"), 3),
                        "" if videos is None else f"{videos / entry['median_ms'] * 1e3:.4g}",
                        "" if peak is None else f"{peak / 2**20:.0f}",
                    ]
                )
        for check in part["checks"]:
            figures = {key: value for key, value in check.items() if key not in ("name", "passed")}
            passed = {True: "yes", False: "**NO**", None: ""}[check["passed"]]
            checks.append([check["name"], passed, ", ".join(f"{key} {shown(value)}" for key, value in figures.items())])
    tables = ["\n".join(f"| {' | '.join(row)} |" for row in rows) for rows in (timings, checks)]
    machine = results["machine"]
    names = ("accelerator", "processor", "cores", "torch", "transformers", "vitaclip_hf", "load_average", "gpu")
    conditions = "; ".join(f"{name} {machine.get(name)}" for name in names)
    return "\n\n".join([*tables, *failures, f"`{results['command']}`; {results['date']}; {conditions}"])


def shown(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def succeeded(results: dict) -> bool:
    parts = results["parts"].values()
    return not any(part["error"] or any(c["passed"] is False for c in part["checks"]) for part in parts)


def run_parts(limits: dict[str, float], scale, record: Record, seconds: float) -> None:
    """Each part within its limit and the whole within `seconds`; an error ends its part alone."""
    import gpu_parts

    for name, most in limits.items():
        record.begin(name)
        start = time.monotonic()
        limit = min(most, seconds - (start - START))
        try:
            with time_limit(limit):
                if limit <= 0:
                    raise TimeIsUpError
                getattr(gpu_parts, name)(scale, record)
        except TimeIsUpError:
            record.part["error"] = f"stopped after {max(limit, 0):.0f} s; what it had measured by then is kept"
        except Exception as error:  # an error of one part must not lose the others
            record.part["error"] = f"{type(error).__name__}: {str(error)[:500]}"
            record.part["traceback"] = traceback.format_exc()[-4000:]
        finally:
            record.part["seconds"] = round(time.monotonic() - start, 1)
            record.write(f"{name}: {record.part['seconds']} s {record.part['error'] or ''}")
        gpu_parts.free_memory()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="also write the results there, as JSON, while measuring")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="(default: all)")
    parser.add_argument("--seconds", type=float, default=225, help="most seconds of the whole (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="tiny towers on the CPU: tries the script, not the speed")
    return parser


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.output is not None and not arguments.output.parent.is_dir():
        parser.error(f"--output {arguments.output}: there is no folder {arguments.output.parent}; make it first.")
    if not arguments.smoke and not torch.cuda.is_available():
        print(
            "There is no GPU here (torch finds no CUDA device): nothing was measured. "
            "Run it on a machine with one, or try the script with --smoke.",
            file=sys.stderr,
        )
        return 2
    import gpu_parts
    from benchmark_measurement import describe_machine, load_average

    scale = gpu_parts.SMOKE if arguments.smoke else gpu_parts.FULL
    results = {
        "command": shlex.join(["python", "examples/benchmarks/benchmark_gpu.py", *argv]),
        "benchmark": "gpu",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": scale.settings(),
        "machine": describe_machine(load_average(), scale.device) | {"gpu": describe_gpu()},
        "parts": {},
    }
    # A busy machine without a GPU may take its time to try the script.
    limits = {name: 600 if arguments.smoke else PARTS[name] for name in arguments.parts}
    seconds = 1200 if arguments.smoke else arguments.seconds
    run_parts(limits, scale, Record(results, arguments.output), seconds)
    print(to_markdown(results))
    return 0 if succeeded(results) else 1


if __name__ == "__main__":
    sys.exit(main())
