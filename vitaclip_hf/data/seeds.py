"""Seeds derived from numbers and words."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """
    A seed of 63 bits from numbers and words, such as (seed, epoch, index).

    It is the same on every machine and with every version of a library. Neighbouring numbers give unrelated seeds.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def draw_order(seed: int, name: str) -> str:
    """A key that sorts names at random: it depends on seed and name alone, not on the other names."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).hexdigest()
