"""What every benchmark does alike: interleaved rounds, ratios, the machine, the table."""

import argparse
import os
import platform
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from torch import nn

from vitaclip_hf import __version__


OURS = "Vita-CLIP (this package)"
RELEASED = "released arithmetic"

# Vision towers, in the names of CLIP's configuration; "tiny" is for trying the script out.
PRESETS = {
    "b16": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "patch_size": 16,
        "image_size": 224,
    },
    "tiny": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 8,
        "image_size": 32,
    },
}
PROJECTION_DIM = {"b16": 512, "tiny": 24}

# Load average per core above which the figures are not to be trusted.
BUSY_LOAD = 0.25


def order_of_round(names: list[str], round_index: int) -> list[str]:
    """All of them, starting from the next one each round."""
    start = round_index % len(names)
    return names[start:] + names[:start]


def time_rounds(calls: dict[str, Callable[[], Any]], rounds: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each call in every round; each runs once before, if it is to be warm."""
    if warm_up:
        for call in calls.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in order_of_round(list(calls), number):
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summarize(seconds: dict[str, list[float]], references: dict[str, str]) -> dict[str, dict]:
    """Median, least and most milliseconds by contender, and the median over rounds of its time by each reference's.

    Args:
        seconds: of each round, by contender.
        references: the contender behind each `ratio_to_...`.
    """
    summary = {}
    for name, times in seconds.items():
        ratios = {
            f"ratio_to_{key}": median(own / other for own, other in zip(times, seconds[reference], strict=True))
            for key, reference in references.items()
        }
        summary[name] = {
            "median_ms": median(times) * 1e3,
            "min_ms": min(times) * 1e3,
            "max_ms": max(times) * 1e3,
            **ratios,
        }
    return summary


def processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine() or "unknown processor"


def load_average() -> float | None:
    """Of the last minute; `None` where the system keeps none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def is_busy(load: float | None, cores: int) -> bool:
    return load is not None and load > BUSY_LOAD * cores


def describe_machine(load: float | None, device: str = "cpu") -> dict:
    """What the figures depend on beside the models; `load` is that of before the run."""
    cores = os.cpu_count() or 1
    return {
        "processor": processor_name(),
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load_average": load,
        "busy": is_busy(load, cores),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "vitaclip_hf": __version__,
    }


@torch.no_grad()
def add_to_vectors(module: nn.Module) -> None:
    """So that no vector or bias stays at the zeros and ones it starts from, and comparisons see every one of them."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.05)


def table_with_conditions(rows: list[list[str]], results: dict) -> str:
    """Rows as a Markdown table, and below it what it was measured with."""
    machine = results["machine"]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    load = "unknown" if machine["load_average"] is None else f"{machine['load_average']:.2f}"
    conditions = [
        f"`{results['command']}`",
        results["date"],
        machine["processor"],
        f"{machine['threads']} threads",
        f"torch {machine['torch']}",
        f"transformers {machine['transformers']}",
        f"load average before the run {load} on {machine['cores']} cores",
    ]
    lines = [table, "", "; ".join(conditions)]
    if machine["busy"]:
        lines += ["", "**Warning: the machine was busy before the run; these figures are not to be relied on.**"]
    return "\n".join(lines)


def comparison(
    title: str,
    seconds: dict[str, list[float]],
    references: dict[str, str],
    settings: dict[str, Any],
    load: float | None,
    notes: list[str] | None = None,
    extra: dict[str, dict[str, Any]] | None = None,
) -> dict:
    """What a benchmark of named calls measured, as it goes into the JSON and into [`comparison_to_markdown`].

    Args:
        title: what is compared; the head of the first column.
        seconds: of `time_rounds`.
        references: the name behind each `ratio_to_...`; of those that were measured.
        settings, load: what it was measured with, and the load before it.
        notes: lines below the table, such as who is missing and why.
        extra: more columns by name.
    """
    references = {key: name for key, name in references.items() if name in seconds}
    summary = summarize(seconds, references)
    return {
        "title": title,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": settings,
        "machine": describe_machine(load),
        "references": references,
        "notes": notes or [],
        "contenders": [
            {"name": name, **row, "seconds": seconds[name], "extra": (extra or {}).get(name, {})}
            for name, row in summary.items()
        ],
    }


def comparison_to_markdown(results: dict) -> str:
    """The table of a `comparison`."""
    extras = list(dict.fromkeys(key for entry in results["contenders"] for key in entry["extra"]))
    ratios = [f"÷ {name}" for name in results["references"].values()]
    rows = [[results["title"], "median", "min–max", *extras, *ratios]]
    rows.append(["---", *["---:"] * (len(rows[0]) - 1)])
    for entry in results["contenders"]:
        unit, scale = ("s", 1e3) if entry["median_ms"] >= 1e3 else ("ms", 1)
        rows.append(
            [
                entry["name"],
                f"{entry['median_ms'] / scale:.3g} {unit}",
                f"{entry['min_ms'] / scale:.3g}–{entry['max_ms'] / scale:.3g}",
                *(str(entry["extra"].get(key, "")) for key in extras),
                *(f"{entry[f'ratio_to_{key}']:.3g}" for key in results["references"]),
            ]
        )
    lines = [table_with_conditions(rows, results)]
    if results["notes"]:
        lines += ["", *(f"- {note}" for note in results["notes"])]
    return "\n".join(lines)


def check_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float, what: str) -> float:
    """The largest difference as a share of the largest entry, before anything is timed.

    Raises:
        ValueError: it is above the tolerance, or not a number.
    """
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= tolerance:
        raise ValueError(f"{what} differ by {difference:.1e} of the largest entry (expected at most {tolerance:.0e}).")
    return difference


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
