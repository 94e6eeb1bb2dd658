"""What this machine has: number types that it multiplies fast, and cores."""

import os
from contextlib import suppress
from pathlib import Path

import torch


CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux: "microseconds period", such as "200000 100000" for two cores


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """
    `torch.bfloat16` where the hardware multiplies it fast, else `torch.float32`.

    These are CPUs with AVX512-BF16 or AMX, and GPUs with bfloat16 units. Elsewhere bfloat16 is slower than float32.
    """
    device = torch.device(device)
    if device.type == "cpu":
        # Not in torch before 2.10; without it, float32 is never wrong.
        capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
        fast = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    elif device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def usable_cores() -> int:
    """CPU cores that this process may use; containers and `taskset` allow fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, max(int(quota) // int(period), 1))
    return cores


def reading_threads(device: torch.device | str) -> int:
    """How many threads read videos beside the model: few where it computes on the CPU, which needs most of the time."""
    taken = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    return min(max(usable_cores() - taken, 1), 8)
