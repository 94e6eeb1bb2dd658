"""`vitaclip info`: what a checkpoint is, or what this installation can do."""

import json
from enum import Enum
from importlib import import_module
from typing import Annotated, Any

import typer

from ..model.shown_names import shown
from .errors import reported
from .libraries import load_libraries


class Format(str, Enum):
    table = "table"
    json = "json"


def info(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Folder or Hub id of a Vita-CLIP, of prompts alone, or of a CLIP."),
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of the Hub id.")] = None,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.table,
) -> None:
    """Show facts of a checkpoint, or of this installation.

    Without a checkpoint: versions, devices, and the video decoders that can be used.
    """
    facts = describe_installation() if model is None else describe_checkpoint(model, revision)
    if format is Format.json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {shown(as_text(value))}")


def as_text(value: Any) -> str:
    """One line for a value of the table; of a long list, the beginning."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, list):
        more = f", … ({len(value):,} in all)" if len(value) > 5 else ""
        return ", ".join(map(str, value[:5])) + more if value else "none"
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def describe_checkpoint(name: str, revision: str | None) -> dict[str, Any]:
    """Facts of a checkpoint by name."""
    load_libraries(warnings=False)
    from ..loading.checkpoint import CheckpointError, load_checkpoint
    from ..loading.prompts_alone import find_prompts_alone
    from ..model.version import __version__

    with reported(CheckpointError, OSError, about=name):
        checkpoint = load_checkpoint(name, revision, accept_clip=True)
        record = find_prompts_alone(name, {"revision": revision})
    model, sampling = checkpoint.model, checkpoint.processor.video_processor
    model.freeze_backbone()
    trained, parameters = model.get_nb_trainable_parameters()
    vision, text = model.config.vision_config, model.config.text_config
    named = model.class_prompts.have_names
    kinds = {
        "vita-clip": "a whole Vita-CLIP",
        "prompts": "prompts alone, on the base model below",
        "clip": "a stock CLIP, without prompts (those described here would be new)",
    }
    return {
        "model": name,
        "kind": kinds[checkpoint.kind],
        "revision": checkpoint.revision,
        "base_model": None if record is None else base_of_prompts(record),
        "classes": [model.config.id2label[index] for index in range(model.config.num_labels)] if named else [],
        "frames": vision.num_frames,
        "sampling": sampling.sampling,
        "image_size": vision.image_size,
        "vision_prompts": {
            "summary": vision.use_summary_prompt,
            "local": vision.use_local_prompts,
            "global": vision.num_global_prompts,
        },
        "context_tokens": text.num_context_tokens,
        "parameters": parameters,
        "trained_parameters": trained,
        "dtype": str(model.dtype).removeprefix("torch."),
        "vitaclip_hf": __version__,
    }


def base_of_prompts(record: Any) -> str:
    """The CLIP that prompts alone belong to, with its revision on the Hub."""
    return record.base_model + (f" @ {record.base_revision}" if record.base_revision else "")


def describe_installation() -> dict[str, Any]:
    """Facts of this installation by name."""
    import torch

    from ..model.version import package_versions

    devices = ["cpu"]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        kind = accelerator.type
        devices += [device_name(kind, index) for index in range(torch.accelerator.device_count())]
    return package_versions() | {"devices": devices, "decoders": usable_decoders()}


def device_name(kind: str, index: int) -> str:
    """Such as `cuda:0 (NVIDIA H100)`."""
    import torch

    return f"cuda:{index} ({torch.cuda.get_device_name(index)})" if kind == "cuda" else f"{kind}:{index}"


def usable_decoders() -> list[str]:
    """The decoders that can be imported here. PyAV is always installed."""
    usable = ["pyav"]
    for name in ("torchcodec.decoders", "decord"):
        try:
            import_module(name)
        except (ImportError, RuntimeError, OSError):  # the last two: FFmpeg's libraries are missing
            continue
        usable.append(name.partition(".")[0])
    return usable
