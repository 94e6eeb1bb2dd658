"""Damage to bytes and to JSON, drawn from a seed: the same number gives the same damage on every machine."""

import random
from collections.abc import Callable
from typing import Any


def flip_bits(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 4, 32))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def cut_end(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def cut_middle(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    del data[start : start + draw.randrange(1, 4096)]


def insert(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data))
    data[at:at] = draw.randbytes(draw.randrange(1, 4096))


def zero_block(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    length = min(draw.randrange(1, 4096), len(data) - start)
    data[start : start + length] = bytes(length)


def repeat_block(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    data[start:start] = data[start : start + draw.randrange(1, 4096)]


def set_header_number(data: bytearray, draw: random.Random) -> None:
    """A number of four bytes within the first or the last kilobyte, where containers keep sizes and counts."""
    end = min(1024, len(data) - 4)
    at = max(draw.randrange(max(end, 1)), 0)
    at = len(data) - 4 - at if draw.random() < 0.3 else at
    value = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, draw.getrandbits(32)))
    data[at : at + 4] = value.to_bytes(4, draw.choice(("little", "big")))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    cut_end,
    cut_middle,
    insert,
    zero_block,
    repeat_block,
    set_header_number,
)


def damaged(data: bytes, seed: str) -> tuple[bytes, str]:
    """The bytes with one kind of damage, and its name."""
    draw = random.Random(seed)
    damage = draw.choice(DAMAGES)
    changed = bytearray(data)
    damage(changed, draw)
    return bytes(changed), damage.__name__


def deep(levels: int = 100_000) -> str:
    """JSON of lists within lists."""
    return "[" * levels + "]" * levels


HOSTILE_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**9, 10**30, -(10**9), 1.5, float("nan"), float("inf")),
    *("", "x" * 10_000_000, "../../etc/passwd", "\ud800", [], {}, [[]], {"a": {"b": {}}}, [10**9] * 3),
)
