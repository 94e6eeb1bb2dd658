"""What a training starts from: any CLIP or Vita-CLIP as a model with the data's classes, and its processor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import CLIPConfig
from transformers.utils import logging

from ..model.checkpoint import load_checkpoint, read_config
from ..model.configuration_vita_clip import VitaClipConfig
from ..model.modeling_vita_clip import VitaClipForVideoClassification
from ..model.processing_vita_clip import VitaClipProcessor
from ..model.prompt_checkpoint import split_tensors
from .arguments import ModelArguments
from .recipes import RecipeError


VISION_FIELDS = ("num_frames", "use_summary_prompt", "use_local_prompts", "num_global_prompts", "train_cls_projection")
TEXT_FIELDS = ("num_context_tokens", "context_position", "class_specific_context", "context_init")


def load_starting_point(
    arguments: ModelArguments, class_names: list[str]
) -> tuple[VitaClipForVideoClassification, VitaClipProcessor]:
    """The model to train, its CLIP frozen, and the processor that belongs to it.

    A CLIP gains fresh prompts and the data's classes. A Vita-CLIP, whole or prompts alone, goes on with its own prompts
    and must have the data's classes, unless `fresh_prompts` or `reset_classes` say otherwise.

    Raises:
        RecipeError: no model named, one of another kind, without its processor, or another class list than the data's.
        CheckpointError: the model cannot be loaded.
    """
    if arguments.model is None:
        raise RecipeError("no model to start from; pass --model with a CLIP, such as openai/clip-vit-base-patch16")
    # What a stock CLIP's new prompts are; of a Vita-CLIP only what trains can be chosen.
    new = {
        "vision_config": {name: getattr(arguments, name) for name in VISION_FIELDS},
        "text_config": {name: getattr(arguments, name) for name in TEXT_FIELDS},
    }
    settings: dict[str, Any] = {"vision_config": {"train_cls_projection": arguments.train_cls_projection}}
    if arguments.attn_implementation is not None:
        settings["attn_implementation"] = arguments.attn_implementation
    with quietly():  # a stock CLIP's prompts are new, as they should be
        checkpoint = load_checkpoint(
            arguments.model,
            arguments.revision,
            model_class=VitaClipForVideoClassification,
            accept_clip=True,
            prompt_settings=new,
            **settings,
        )
    model: Any = checkpoint.model
    processor = checkpoint.processor
    processor.video_processor.num_frames = arguments.num_frames
    new_prompts = arguments.fresh_prompts or checkpoint.kind == "clip"
    if arguments.fresh_prompts and checkpoint.kind != "clip":
        model = _with_fresh_prompts(model, arguments)
    _check_layout(model.config, arguments)
    own = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if new_prompts or arguments.reset_classes:
        model.set_classes(class_names, processor.tokenizer)
    elif own != list(class_names):
        raise RecipeError(_class_difference(str(arguments.model), own, list(class_names)))
    model.freeze_backbone()
    return model, processor


def read_base_config(arguments: ModelArguments) -> CLIPConfig:
    """The configuration of what a training starts from.

    Raises:
        RecipeError: no model named.
        CheckpointError: no such model, or one of another kind.
    """
    if arguments.model is None:
        raise RecipeError("no model to start from; pass --model with a CLIP, such as openai/clip-vit-base-patch16")
    return read_config(arguments.model, arguments.revision, accept_clip=True)


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' warnings."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _with_fresh_prompts(
    model: VitaClipForVideoClassification, arguments: ModelArguments
) -> VitaClipForVideoClassification:
    """A checkpoint's CLIP with new prompts in the wanted layout."""
    config = VitaClipConfig.from_dict(model.config.to_dict())
    for part, names in ((config.vision_config, VISION_FIELDS), (config.text_config, TEXT_FIELDS)):
        for name in names:
            setattr(part, name, getattr(arguments, name))
    config.id2label = {0: "LABEL_0"}
    fresh = VitaClipForVideoClassification._from_config(config)
    outcome = fresh.load_state_dict(split_tensors(model)[1], strict=False)
    if outcome.unexpected_keys or set(outcome.missing_keys) != set(split_tensors(fresh)[0]):
        raise RecipeError(f"--model {arguments.model}: its CLIP does not fit: {outcome}")
    return fresh


def _check_layout(config: VitaClipConfig, arguments: ModelArguments) -> None:
    """What a checkpoint's prompts are cannot be changed by training them further."""
    for part, names in ((config.vision_config, VISION_FIELDS), (config.text_config, TEXT_FIELDS)):
        for name in names:
            found, wanted = getattr(part, name), getattr(arguments, name)
            if found != wanted and name != "context_init":
                raise RecipeError(
                    f"--model {arguments.model} has {name}={found}, the recipe asks for {wanted}; pass "
                    f"--{name} {found} to go on with its prompts, or --fresh_prompts to start them anew"
                )


def _class_difference(model: str, own: list[str], given: list[str]) -> str:
    if len(own) != len(given):
        return (
            f"--model {model} has {len(own)} classes, the data {len(given)}; pass --reset_classes to train it for the "
            "data's classes, or give the class list it was trained with (--classes)"
        )
    index = next(index for index, pair in enumerate(zip(own, given, strict=True)) if pair[0] != pair[1])
    return (
        f"--model {model} calls class {index} {own[index]!r}, the data {given[index]!r}; pass --reset_classes to train "
        "it for the data's classes, or give the class list it was trained with (--classes)"
    )
