"""`checksums.json`: the SHA-256 of the weights beside them, so that a flipped bit is found before it is used.

Folders of other makers have no such file; nothing is compared there.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from ..data.text_files import content_errors, read_json
from .guards import INDEX, CheckpointError


CHECKSUMS_FILE = "checksums.json"
BLOCK = 1 << 20


def sha256_of(file: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def weight_files(folder: str | os.PathLike) -> list[Path]:
    """The files of weights that transformers or this package would load from a folder, and the index of shards."""
    patterns = ("model*.safetensors", "prompts.safetensors", INDEX)
    return sorted(path for pattern in patterns for path in Path(folder).glob(pattern) if path.is_file())


def write_checksums(folder: str | os.PathLike, files: Iterable[Path] | None = None) -> None:
    """Writes `checksums.json` of a folder's files; by default of those of weights."""
    chosen = weight_files(folder) if files is None else files
    sums = {path.name: sha256_of(path) for path in chosen if path.name != CHECKSUMS_FILE}
    content = json.dumps({"sha256": sums}, indent=2, sort_keys=True)
    Path(folder, CHECKSUMS_FILE).write_text(content + "\n", encoding="utf-8")


def check_checksums(folder: str | os.PathLike, files: Iterable[Path] | None = None) -> None:
    """
    Compares files, by default those of weights, with `checksums.json` beside them, if that exists and lists them.

    Raises:
        CheckpointError: a file has other bytes, or `checksums.json` itself is damaged.
    """
    listing = Path(folder, CHECKSUMS_FILE)
    if not listing.is_file():
        return
    with content_errors(f"{listing}: damaged; fetch it again, or delete it", CheckpointError):
        sums = dict(read_json(listing)["sha256"])
    for path in weight_files(folder) if files is None else files:
        if path.name in sums and sha256_of(path) != sums[path.name]:
            advice = f"fetch it again or, if it was saved again by `save_pretrained`, delete {CHECKSUMS_FILE}"
            raise CheckpointError(f"{path}: these are not the bytes that {CHECKSUMS_FILE} states; {advice}.")
