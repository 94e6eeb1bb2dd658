"""The model that a training starts from: any CLIP or Vita-CLIP, with the classes of the data and its processor."""

from itertools import zip_longest
from typing import Any

from ..loading.checkpoint import CheckpointError, load_checkpoint
from ..loading.guards import quietly
from ..loading.prompts_alone import split_tensors
from ..model.configuration_vita_clip import PROMPT_FIELDS, VitaClipConfig
from ..model.modeling_vita_clip import VitaClipForVideoClassification
from ..model.processing_vita_clip import VitaClipProcessor
from .arguments import ModelArguments


def load_starting_point(
    arguments: ModelArguments, class_names: list[str]
) -> tuple[VitaClipForVideoClassification, VitaClipProcessor]:
    """
    Loads the model to train, with its CLIP frozen, and its processor.

    A CLIP gets new prompts and the classes of the data. A Vita-CLIP, whole or prompts alone, keeps its prompts and must
    have the classes of the data, unless `fresh_prompts` or `reset_classes` is set.

    Args:
        arguments (`ModelArguments`): the model and the settings of its prompts.
        class_names (`list[str]`): of the data, in the order of the labels.

    Returns:
        `tuple`: the [`VitaClipForVideoClassification`] and its [`VitaClipProcessor`].

    Raises:
        ValueError: no model is named, or it has other prompts or other classes than asked for.
        CheckpointError: the model cannot be loaded.
    """
    name = arguments.model
    if name is None:
        raise ValueError("no model to start from; pass `model` with a CLIP, such as openai/clip-vit-base-patch16")
    settings = {part: {field: getattr(arguments, field) for field in names} for part, names in PROMPT_FIELDS.items()}
    with quietly():  # transformers warns that the prompts of a stock CLIP are new
        checkpoint = load_checkpoint(
            name,
            arguments.revision,
            model_class=VitaClipForVideoClassification,
            accept_clip=True,
            prompt_settings=settings,
            vision_config={"train_cls_projection": arguments.train_cls_projection},
            attn_implementation=arguments.attn_implementation,
        )
    model: Any = checkpoint.model
    processor = checkpoint.processor
    processor.video_processor.num_frames = arguments.num_frames
    new_prompts = arguments.fresh_prompts or checkpoint.kind == "clip"
    if arguments.fresh_prompts and checkpoint.kind != "clip":
        model = _with_fresh_prompts(model, name, settings)
    _check_layout(model.config, name, settings)
    own = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if new_prompts or arguments.reset_classes:
        model.set_classes(class_names, **processor.tokenize_classes(class_names, model.config.text_config))
    elif own != list(class_names):
        first = next(index for index, pair in enumerate(zip_longest(own, class_names)) if pair[0] != pair[1])
        raise ValueError(
            f"`model` {name} has {len(own)} classes, the data {len(class_names)}; class {first} is "
            f"{own[first : first + 1]} there and {class_names[first : first + 1]} here; pass `reset_classes` to train "
            "the classes of the data, or the model's own class list with `classes`"
        )
    model.float()  # whatever the weights are stored in; `bf16` and `fp16` compute in less
    model.freeze_backbone()
    return model, processor


def _with_fresh_prompts(
    model: VitaClipForVideoClassification, name: str, settings: dict[str, dict[str, Any]]
) -> VitaClipForVideoClassification:
    """The CLIP of a checkpoint, with new prompts."""
    values = model.config.to_dict()
    parts = {part: values[part] | wanted for part, wanted in settings.items()}
    config = VitaClipConfig.from_dict(values | parts | {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}})
    fresh = VitaClipForVideoClassification._from_config(config, attn_implementation=model.config._attn_implementation)
    outcome = fresh.load_state_dict(split_tensors(model)[1], strict=False)
    if outcome.unexpected_keys or set(outcome.missing_keys) != set(split_tensors(fresh)[0]):
        raise CheckpointError(f"{name}: the weights of its CLIP do not fit: {str(outcome)[:300]}")
    return fresh


def _check_layout(config: VitaClipConfig, name: str, settings: dict[str, dict[str, Any]]) -> None:
    """Further training cannot change the layout of prompts. `context_init` only matters for new ones."""
    for part, wanted in settings.items():
        for field, value in wanted.items():
            own = getattr(getattr(config, part), field)
            if own != value and field != "context_init":
                raise ValueError(
                    f"`model` {name} has {field}={own}, the recipe asks for {value}; pass `{field}` {own} to "
                    "continue with its prompts, or `fresh_prompts` to start with new ones"
                )
