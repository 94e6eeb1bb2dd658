"""Times the text side: learned class prompts beside the released arithmetic, and labels beside plain CLIP.

`benchmark.py text`. Class prompts are padded to the longest of them here, to all 77 positions in the released
code. Labels are padded to the longest of them here, to 77 tokens in CLIP's examples.
"""

import argparse

import torch
from benchmark_measurement import (
    PRESETS,
    PROJECTION_DIM,
    check_close,
    comparison,
    comparison_to_markdown,
    load_average,
    positive,
    time_rounds,
)
from benchmark_training import BOS, EOS, TEXT_TOWERS, build_ours, class_rows
from released_arithmetic import ReleasedTextTower
from transformers import CLIPConfig, CLIPModel


PROMPTS, RELEASED_PROMPTS = "class prompts, this package", "class prompts, released arithmetic"
LABELS, CLIP_LABELS = "labels, this package", "labels, plain CLIP at 77 tokens"
TOLERANCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, to_markdown=comparison_to_markdown)
    parser.add_argument("--classes", type=positive, default=400, help="(default: %(default)s)")
    parser.add_argument("--context-tokens", type=positive, default=16, help="M_c (default: %(default)s)")


def label_ids(num_labels: int, length: int) -> torch.Tensor:
    """Token ids of labels as long as the names of Kinetics-400, padded by the end token to `length` or the longest."""
    rows = class_rows(num_labels, 0)
    rows = rows[:, : int((rows >= 0).sum(1).max())] if length == 0 else rows[:, :length]
    return torch.where(rows < 0, EOS, rows)


@torch.no_grad()
def run(arguments: argparse.Namespace) -> dict:
    load = load_average()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    ours = build_ours(arguments.preset, 2, arguments.classes, arguments.context_tokens).eval()
    released = ReleasedTextTower(ours).eval()
    text = TEXT_TOWERS[arguments.preset] | {"bos_token_id": BOS, "eos_token_id": EOS}
    config = CLIPConfig(
        text_config=text,
        vision_config=PRESETS[arguments.preset] | {"num_hidden_layers": 1},
        projection_dim=PROJECTION_DIM[arguments.preset],
    )
    clip = CLIPModel._from_config(config, attn_implementation="sdpa").eval()
    own = {name: tensor for name, tensor in ours.state_dict().items() if name.startswith(("text_model", "text_proj"))}
    missing, unexpected = clip.load_state_dict(own, strict=False)
    if unexpected or any(name.startswith(("text_model", "text_proj")) for name in missing):
        raise RuntimeError(f"CLIP did not take the text tower: unexpected {unexpected}, missing {missing}.")
    short, long = label_ids(arguments.classes, 0), label_ids(arguments.classes, 77)
    calls = {
        PROMPTS: lambda: ours.get_class_features().pooler_output,
        RELEASED_PROMPTS: released,
        LABELS: lambda: ours.get_text_features(short).pooler_output,
        CLIP_LABELS: lambda: clip.get_text_features(long).pooler_output,
    }
    differences = {
        "prompts": check_close(calls[RELEASED_PROMPTS](), calls[PROMPTS](), TOLERANCE, "features of class prompts"),
        "labels": check_close(calls[CLIP_LABELS](), calls[LABELS](), TOLERANCE, "features of labels"),
    }
    dtype = getattr(torch, arguments.dtype)
    for model in (ours, released, clip):
        model.to(dtype)
    settings = {name: getattr(arguments, name) for name in ("preset", "classes", "context_tokens", "rounds", "dtype")}
    seconds = time_rounds(calls, arguments.rounds)
    references = {"released": RELEASED_PROMPTS, "clip": CLIP_LABELS}
    title = f"{arguments.classes} texts, {arguments.dtype}"
    notes = [f"Largest difference of the features: {max(differences.values()):.0e} of the largest entry, in float32."]
    return comparison(title, seconds, references, settings, load, notes) | {"benchmark": "text"}
