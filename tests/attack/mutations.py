"""Damage to bytes and to JSON, drawn from a seed: the same number gives the same damage on every machine."""

import random
from typing import Any


DAMAGES = ("flip bits", "cut end", "cut middle", "insert", "zero block", "repeat block", "set number")
HOSTILE_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**9, 10**30, -(10**9), 1.5, float("nan"), float("inf")),
    *("", "x" * 10_000_000, "../../etc/passwd", "\ud800", [], {}, [[]], {"a": {"b": {}}}, [10**9] * 3),
)


def damaged(data: bytes, seed: str) -> tuple[bytes, str]:
    """The bytes with one kind of damage, and its name."""
    draw = random.Random(seed)
    damage, start = draw.choice(DAMAGES), draw.randrange(len(data))
    end = min(start + draw.randrange(1, 4096), len(data))
    changed = bytearray(data)
    if damage == "flip bits":
        for _ in range(draw.choice((1, 1, 4, 32))):
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif damage == "cut end":
        del changed[start:]
    elif damage == "cut middle":
        del changed[start:end]
    elif damage == "insert":
        changed[start:start] = draw.randbytes(end - start)
    elif damage == "zero block":
        changed[start:end] = bytes(end - start)
    elif damage == "repeat block":
        changed[start:start] = data[start:end]
    else:  # of four bytes within the first or the last kilobyte, where containers keep sizes and counts
        at = draw.randrange(max(min(1024, len(data) - 4), 1))
        at = len(data) - 4 - at if draw.random() < 0.3 else at
        value = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, draw.getrandbits(32)))
        changed[at : at + 4] = value.to_bytes(4, draw.choice(("little", "big")))
    return bytes(changed), damage


def deep(levels: int = 100_000) -> str:
    """JSON of lists within lists."""
    return "[" * levels + "]" * levels
