"""`vitaclip info`: what a checkpoint is, or what this installation can do."""

import json
from importlib import import_module
from typing import Annotated, Any

import typer

from ..model.shown_names import shown
from .libraries import dtype_of, loaded_checkpoint
from .options import Revision, TableFormat


def info(
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Folder or Hub id: Vita-CLIP, prompts alone, CLIP, SigLIP, X-CLIP, …"),
    ] = None,
    revision: Revision = None,
    format: TableFormat = "table",
) -> None:
    """Show facts of a checkpoint, or of this installation.

    Without a checkpoint: versions, devices, and the video decoders that can be used.
    """
    facts = describe_installation() if model is None else describe_checkpoint(model, revision)
    if format == "json":
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
    from ..loading.prompts_alone import find_prompts_alone
    from ..model.configuration_vita_clip import PROMPT_FIELDS
    from ..version import __version__

    checkpoint = loaded_checkpoint(name, "cpu", warnings=False, revision=revision)
    model, processor = checkpoint.model, checkpoint.processor.video_processor
    kinds = {"encoder": f"a dual encoder, {type(model).__name__}", "prompts": "prompts alone, on the base model below"}
    facts = {"model": name, "kind": kinds.get(checkpoint.kind, "a whole Vita-CLIP"), "revision": checkpoint.revision}
    facts |= {"frames": processor.num_frames, "sampling": processor.sampling, "parameters": model.num_parameters()}
    if checkpoint.kind == "encoder":
        encoder = checkpoint.encoder()
        facts |= {"scores": encoder.activation, "embed_dim": encoder.embed_dim}
        facts |= {"note": encoder.note or encoder.embedding_note}
    else:
        record = find_prompts_alone(name, {"revision": revision})
        labels = model.config.id2label if model.class_prompts.have_names else {}
        model.freeze_backbone()
        facts |= {
            "base_model": record and record.base_model + (f" @ {record.base_revision}" if record.base_revision else ""),
            "classes": [labels[index] for index in sorted(labels)],
            "image_size": model.config.vision_config.image_size,
            **{
                part.replace("config", "prompts"): {name: getattr(getattr(model.config, part), name) for name in names}
                for part, names in PROMPT_FIELDS.items()
            },
            "trained_parameters": model.num_parameters(only_trainable=True),
        }
    return facts | {"dtype": dtype_of(model), "vitaclip_hf": __version__}


def describe_installation() -> dict[str, Any]:
    """Facts of this installation by name."""
    import torch

    from ..version import package_versions

    devices = ["cpu"]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        kind = accelerator.type
        names = [f"{kind}:{index}" for index in range(torch.accelerator.device_count())]
        devices += [f"{name} ({torch.cuda.get_device_name(name)})" if kind == "cuda" else name for name in names]
    return package_versions() | {"devices": devices, "decoders": usable_decoders()}


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
