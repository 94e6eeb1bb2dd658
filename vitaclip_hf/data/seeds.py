"""Seeds that depend on nothing but what they are made of."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed of 63 bits for a thing named by numbers and words, such as (seed, epoch, index).

    The same on every machine and under every version; neighbouring numbers give unrelated seeds.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
