"""Files in the format of the released code, damaged: all of them convert or end in the converter's one error."""

import functools
import io
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from attack.mutations import damaged
from attack.outcomes import Attack
from tiny_models import GoldenCase

from vitaclip_hf.conversion.convert_vita_clip_original import convert_original


KINDS = (
    *(torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool),
    *(torch.complex64, torch.float8_e4m3fn),
)


def changed_tensor(tensor: torch.Tensor, draw: random.Random) -> Any:
    """The tensor with other values, another type, layout or shape; or something that is no tensor."""
    flat = tensor.clone().reshape(-1)
    if flat.numel():
        flat[draw.randrange(flat.numel())] = draw.choice((float("nan"), float("inf"), -float("inf"), 1e38))
    changes = (
        lambda: flat.reshape(tensor.shape),
        lambda: tensor.to(draw.choice(KINDS)),
        lambda: tensor[..., :-1] if tensor.ndim else tensor.reshape(1),
        lambda: tensor[:0] if tensor.ndim else tensor.reshape(1, 1),
        lambda: tensor[None],
        lambda: tensor.T.contiguous() if tensor.ndim == 2 else tensor * 2,
        lambda: torch.zeros(10**9, 0),
        lambda: torch.zeros(1).expand(10**10),
        lambda: torch.zeros(0, 10**12),
        lambda: tensor.to_sparse() if tensor.ndim else tensor,
        lambda: torch.empty(tensor.shape, device="meta"),
        lambda: tensor.double() * 1e300,
        lambda: torch.nn.Parameter(tensor),
        lambda: draw.choice((None, 3, "text", [1, 2], {"a": tensor}, (tensor,), 2.5)),
    )
    return draw.choice(changes)()


def changed_content(weights: dict[str, Any], draw: random.Random) -> Any:
    """The state dictionary with other entries."""
    changed = dict(weights)
    for _ in range(draw.choice((1, 1, 2, 5))):
        name = draw.choice(sorted(changed, key=str))
        change = draw.randrange(6)
        if change <= 2 and torch.is_tensor(changed[name]):
            changed[name] = changed_tensor(changed[name], draw)
        elif change == 3:
            del changed[name]
        elif change == 4:
            text = str(name)  # an earlier change may have made a name that is no text
            other = text.replace("0", draw.choice(("1", "9", "x", "-1", "")))
            changed[draw.choice((other, text + "x" * 10_000, "", "module.", "model", text.upper()))] = changed[name]
        else:
            changed[draw.choice((3, None, ("a",), b"bytes"))] = changed[name]
    return draw.choice(({"model": changed}, changed, {"state_dict": changed}, {"model": {"model": changed}}, [changed]))


def variants(content: bytes, weights: dict[str, Any], seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files: half of them with damaged bytes, half with other entries."""
    for number in range(count):
        draw = random.Random(f"{seed}-{number}")
        if number % 2:
            yield (f"released-{seed}-{number}-bytes", damaged(content, f"{seed}-{number}")[0])
            continue
        file = io.BytesIO()
        try:
            torch.save(changed_content(weights, draw), file, _use_new_zipfile_serialization=draw.random() < 0.8)
        except (NotImplementedError, RuntimeError):  # torch itself cannot write it
            continue
        yield f"released-{seed}-{number}-entries", file.getvalue()


def attacks(case: GoldenCase, tokenizer: Path, seed: int, count: int) -> Iterator[Attack]:
    """Converts damaged variants of a released checkpoint."""
    content = case.checkpoint.read_bytes()
    weights = torch.load(case.checkpoint, weights_only=True)["model"]
    with tempfile.TemporaryDirectory() as scratch:
        file, output = Path(scratch, "hostile.pth"), Path(scratch, "out")
        for name, data in variants(content, weights, seed, count):
            file.write_bytes(data)
            shutil.rmtree(output, ignore_errors=True)
            action = functools.partial(convert_original, **case.options(output, tokenizer, checkpoint=file))
            yield Attack(name, action, (ValueError,), "converted")
