"""What a training starts from: any CLIP or Vita-CLIP as a model with the data's classes, and its processor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoConfig, AutoProcessor, CLIPConfig, CLIPTokenizer
from transformers.utils import logging

from .configuration_vita_clip import VitaClipConfig
from .model_source import require_model_source
from .modeling_vita_clip import VitaClipForVideoClassification
from .processing_vita_clip import VitaClipProcessor
from .prompt_checkpoint import find_prompts_alone, split_tensors
from .recipes import ModelArguments, RecipeError
from .video_processing_vita_clip import VitaClipVideoProcessor


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
        ModelSourceError: no such folder, and no id of the Hub.
        PromptCheckpointError: prompts alone that do not fit, or whose CLIP cannot be loaded.
    """
    config = read_base_config(arguments)
    new_prompts = arguments.fresh_prompts or not isinstance(config, VitaClipConfig)
    processor = _load_processor(arguments, config)
    model = _load_checkpoint(arguments, config)
    if arguments.fresh_prompts and isinstance(config, VitaClipConfig):
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
        RecipeError: no model named, or one of another kind.
        ModelSourceError: no such folder, and no id of the Hub.
    """
    if arguments.model is None:
        raise RecipeError("no model to start from; pass --model with a CLIP, such as openai/clip-vit-base-patch16")
    require_model_source(arguments.model)
    config = AutoConfig.from_pretrained(arguments.model, revision=arguments.revision)
    if not isinstance(config, (CLIPConfig, VitaClipConfig)):
        raise RecipeError(f"--model {arguments.model} is a {config.model_type} model; CLIP or Vita-CLIP is needed")
    return config


def _load_checkpoint(arguments: ModelArguments, config: CLIPConfig) -> VitaClipForVideoClassification:
    """Weights as they are; a CLIP gets its prompts in the wanted layout at once."""
    layout: dict[str, Any] = {"vision_config": {"train_cls_projection": arguments.train_cls_projection}}
    if not isinstance(config, VitaClipConfig):
        layout["vision_config"] = {name: getattr(arguments, name) for name in VISION_FIELDS}
        layout["text_config"] = {name: getattr(arguments, name) for name in TEXT_FIELDS}
    if arguments.attn_implementation is not None:
        layout["attn_implementation"] = arguments.attn_implementation
    alone = find_prompts_alone(str(arguments.model), {"revision": arguments.revision})
    classifier: Any = VitaClipForVideoClassification
    load = classifier.from_pretrained if alone is None else classifier.from_pretrained_prompts
    with quietly():  # that a CLIP's prompts are new is no news here
        return load(arguments.model, revision=arguments.revision, **layout)


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


def _load_processor(arguments: ModelArguments, config: CLIPConfig) -> VitaClipProcessor:
    """The checkpoint's processor; for a plain CLIP one of our own, with its tokenizer."""
    if isinstance(config, VitaClipConfig):
        processor = _own_processor(arguments)
    else:
        side = config.vision_config.image_size
        video_processor = VitaClipVideoProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
        tokenizer = CLIPTokenizer.from_pretrained(arguments.model, revision=arguments.revision)
        processor = VitaClipProcessor(video_processor, tokenizer)
    processor.video_processor.num_frames = arguments.num_frames
    return processor


def _own_processor(arguments: ModelArguments) -> VitaClipProcessor:
    """What was saved beside a Vita-CLIP."""
    try:
        processor = AutoProcessor.from_pretrained(arguments.model, revision=arguments.revision)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"--model {arguments.model}: no processor there ({reason}); save it beside the model"
        ) from error
    if not isinstance(processor, VitaClipProcessor) or None in (processor.video_processor, processor.tokenizer):
        raise RecipeError(f"--model {arguments.model}: no whole VitaClipProcessor there; save it beside the model")
    return processor
