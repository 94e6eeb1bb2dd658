"""The one loader of checkpoints: Vita-CLIP, prompts saved alone, CLIP with new prompts, other dual encoders."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoProcessor, PreTrainedConfig
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import extract_commit_hash

from ..model.configuration_vita_clip import VitaClipConfig
from ..model.encoder import VideoEncoder
from ..model.modeling_vita_clip import VitaClipModel
from ..model.pipeline_zero_shot_video_classification import ZeroShotVideoClassificationPipeline
from ..model.processing_vita_clip import VitaClipProcessor
from ..model.shown_names import one_line, shown
from .checksums import CHECKSUMS_FILE, check_checksums, write_checksums
from .clip_backbones import BACKBONES, add_prompts, clip_processor
from .families import check_methods, own_parts
from .guards import (
    INDEX,
    LOADING_ERRORS,
    MAX_NEW,
    WEIGHTS,
    CheckpointError,
    check_amount,
    check_complete,
    check_files,
    check_processor,
    check_utf8,
    find_file,
    hub_answers,
    hub_arguments,
    number_type,
    prompt_names,
    quietly,
)
from .prompts_alone import find_prompts_alone, fingerprint_of_tensors, load_prompts


MAX_LABELS = 1_000_000


@dataclass
class Checkpoint:
    """
    A model with what belongs to it.

    Attributes:
        name (`str`): folder or Hub id, as given.
        kind (`str`): `"vita-clip"`, a whole model; `"prompts"`, prompts saved alone; `"clip"`, a stock CLIP with new
            prompts; or `"encoder"`, another dual encoder.
        model ([`VitaClipModel`] or `PreTrainedModel`): in evaluation.
        processor ([`VitaClipProcessor`] or an object with the same two attributes): `video_processor`, `tokenizer`.
        revision (`str`, *optional*): commit of the Hub, if it comes from there.
    """

    name: str
    kind: str
    model: Any
    processor: Any
    revision: str | None

    def encoder(self, **settings: Any) -> VideoEncoder:
        """What scorers and tools take: the model with its tokenizer and processor; `settings` such as `blend`."""
        make = VideoEncoder.families.get(self.model.config.model_type, VideoEncoder.families["*"])
        return make(self.model, self.processor.tokenizer, self.processor.video_processor, **settings)

    def classifier(self, **kwargs: Any) -> ZeroShotVideoClassificationPipeline:
        """The zero-shot pipeline of this checkpoint, where and as the model is; `kwargs` as for its class."""
        parts = {"tokenizer": self.processor.tokenizer, "video_processor": self.processor.video_processor}
        if not hasattr(self.model, "hf_device_map"):  # else accelerate has spread it
            parts["device"] = self.model.device
        return ZeroShotVideoClassificationPipeline(self.model, **(parts | kwargs))

    def fingerprint(self) -> str:
        """SHA-256 of all weights, whatever files they came in."""
        return fingerprint_of_tensors(self.model.state_dict())


def load_checkpoint(
    name: str | Path,
    revision: str | None = None,
    *,
    model_class: type[VitaClipModel] | None = None,
    accept_clip: bool = False,
    prompt_settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **kwargs: Any,
) -> Checkpoint:
    """
    Loads a checkpoint with its processor.

    Args:
        name: folder or Hub id of a whole Vita-CLIP, of prompts saved alone, or of another dual encoder of transformers.
        revision (`str`, *optional*): of the id on the Hub.
        model_class (`type`, *optional*):
            [`VitaClipModel`] or [`VitaClipForVideoClassification`], which refuse other models; by default the model's.
        accept_clip (`bool`, defaults to `False`): make a Vita-CLIP of a stock CLIP; its prompts are new and untrained.
        prompt_settings (`dict`, *optional*): `vision_config` and `text_config` values of a stock CLIP's new prompts.
        device (*optional*): of the model; by default where it is loaded.
        dtype (`torch.dtype` or `str`, *optional*): a type or its name; `"auto"`, the default, is that of the weights.
        kwargs:
            For `from_pretrained`, such as `attn_implementation`. Of a Vita-CLIP no pickle is read unless
            `use_safetensors=False` asks for it, of other models only where there are no safetensors; of a pickle, only
            tensors are loaded.

    Returns:
        [`Checkpoint`]

    Raises:
        ValueError: no such `dtype`.
        CheckpointError: no such folder and no Hub id, another kind of model, weights or processor that do not fit.
        OSError: files that cannot be fetched or read.

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint

    >>> checkpoint = load_checkpoint("examples/demo/checkpoint")  # doctest: +SKIP
    >>> checkpoint.model, checkpoint.processor  # doctest: +SKIP

    ```
    """
    name = str(name)
    if kwargs.get("subfolder") and os.path.isdir(name):
        name = os.path.join(name, kwargs.pop("subfolder"))
    dtype = kwargs.pop("torch_dtype", None) if dtype is None else dtype  # transformers' former name of it
    if (dtype := number_type(dtype)) is not None:
        kwargs["dtype"] = dtype
    any_model = model_class is None and not accept_clip
    model_class = model_class or VitaClipModel
    asked = kwargs.get("use_safetensors")
    kwargs = {"use_safetensors": True, "revision": revision} | kwargs
    if not _is_folder(name) and not kwargs.get("local_files_only") and not hub_answers():
        kwargs["local_files_only"] = True
    hub = hub_arguments(kwargs)
    config = _read_config(name, accept_clip, any_model, **hub)
    try:
        if any_model and not isinstance(config, VitaClipConfig):
            kind = "encoder"
            kwargs["use_safetensors"] = asked  # those of 2022 have PyTorch's file alone, of which only tensors are read
            check_amount(name, config, AutoModel.from_config, hub)
            kwargs |= {"output_loading_info": True, "adapter_kwargs": dict(hub)}  # AutoModel loses them there
            model, info = AutoModel.from_pretrained(name, config=config, **kwargs)
            check_complete(name, info, unexpected=False)
        elif not isinstance(config, VitaClipConfig):
            kind = "clip"
            kwargs["use_safetensors"] = asked
            settings = {field: kwargs.pop(field) for field in (*kwargs,) if hasattr(config, field) and field != "dtype"}
            config = add_prompts(config, settings | dict(prompt_settings or {}))
            model = _load_whole(name, config, model_class, hub, kwargs, stock=True)
        elif find_prompts_alone(name, hub) is None:
            kind = "vita-clip"
            attention = {field: kwargs.pop(field) for field in ("attn_implementation",) if field in kwargs}
            config, kwargs = VitaClipConfig.from_pretrained(name, return_unused_kwargs=True, **kwargs)
            model = _load_whole(name, config, model_class, hub, hub | kwargs | attention)
        else:
            kind = "prompts"
            model = load_prompts(name, model_class=model_class, **kwargs)
        processor = _load_processor(name, model, kind, hub)
    except (CheckpointError, torch.OutOfMemoryError):
        raise
    except (SafetensorError, UnpicklingError, *LOADING_ERRORS) as error:
        raise CheckpointError(
            f"{name}: damaged or incomplete, of another kind, or loaded with an argument that does not fit "
            f"({one_line(error)}); fetch or save it again, or mend the argument."
        ) from error
    commit = extract_commit_hash(find_file(name, CONFIG_NAME, hub), None)
    if kind != "prompts":  # the model of those has the commit of their base
        model.config._commit_hash = commit
    model = (model if device is None else model.to(device)).eval()  # one that is quantized or spread cannot be moved
    return Checkpoint(name, kind, model, processor, commit)


def _load_whole(
    name: str,
    config: VitaClipConfig,
    model_class: Any,
    hub: dict[str, Any],
    kwargs: dict[str, Any],
    stock: bool = False,
) -> VitaClipModel:
    """A whole Vita-CLIP, or a stock CLIP with new prompts; complete, or a CheckpointError."""
    if kwargs.get("use_safetensors") is not False:
        check_amount(name, config, model_class, hub, MAX_NEW if stock else 0)
    # check_complete names weights of another shape, which transformers' own error does not do.
    kwargs = {"output_loading_info": True, "ignore_mismatched_sizes": True} | kwargs
    with quietly():  # what transformers reports, the error names
        model, info = model_class.from_pretrained(name, config=config, **kwargs)
    check_complete(name, info, prompt_names(model) if stock else (), unexpected=not stock)
    listing = find_file(name, CHECKSUMS_FILE, hub)
    if listing is not None:
        check_checksums(Path(listing).parent)
    return model


def _load_processor(name: str, model: Any, kind: str, hub: dict[str, Any]) -> Any:
    """What was saved beside a model; for a stock CLIP one that is made of its files."""
    config = model.config
    try:
        if kind == "encoder":
            processor: Any = Checkpoint(name, kind, model, own_parts(name, hub), None).encoder()
        elif kind == "clip":
            processor = clip_processor(name, config, hub)
        else:
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=False, **hub)
    except Exception as error:  # tokenizers raises `Exception` itself
        raise CheckpointError(
            f"{name}: no processor beside the model ({one_line(error)}); save the processor there too."
        ) from error
    if kind == "encoder":
        check_processor(name, processor)
        return processor
    if not isinstance(processor, VitaClipProcessor) or None in (processor.video_processor, processor.tokenizer):
        raise CheckpointError(f"{name}: no complete VitaClipProcessor beside the model; save the processor there too.")
    check_processor(name, processor, config.vision_config.image_size)
    tokens, vocabulary = max(processor.tokenizer.get_vocab().values()) + 1, config.text_config.vocab_size
    if not vocabulary / 2 <= tokens <= vocabulary:  # transformers makes one of a few tokens for a folder without any
        raise CheckpointError(
            f"{name}: the tokenizer has {tokens:,} tokens, the text tower {vocabulary:,}. Save the tokenizer that "
            "belongs to the model beside it."
        )
    return processor


def save_checkpoint(
    model: VitaClipModel, processor: VitaClipProcessor | None, folder: str | Path, max_shard_size: str = "50GB"
) -> None:
    """
    Saves a model with its processor, and the checksums of the weights.

    Args:
        model: as for `save_pretrained`.
        processor (*optional*): saved beside it.
        folder: where to.
        max_shard_size: of the weights, as for `save_pretrained`.
    """
    for file in (CHECKSUMS_FILE, INDEX):  # a stopped save leaves none, not a wrong one
        Path(folder, file).unlink(missing_ok=True)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    if Path(folder, INDEX).exists():  # shards, in whose place a whole file of an earlier save would be loaded
        Path(folder, WEIGHTS).unlink(missing_ok=True)
    if processor is not None:
        processor.save_pretrained(folder)
    write_checksums(folder)


def _is_folder(name: str) -> bool:
    """Whether this is a folder of a checkpoint or an id on the Hub; a CheckpointError if it is neither."""
    if name and os.path.isdir(name):
        check_utf8(name, "safetensors", error=CheckpointError)
        check_files(name)
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise CheckpointError(f"{shown(name)}: there is no config.json in this folder; give that of a saved model.")
        return True
    try:
        if os.path.isfile(name) or os.path.isdir(os.path.dirname(name)):  # a path: its last part is missing
            raise HFValidationError(name)
        validate_repo_id(name)
    except HFValidationError as error:
        raise CheckpointError(
            f"{shown(name[:200]) or 'an empty name'}: no such folder, and not an id on the Hub (those are "
            "ORG/NAME, where ORG is no folder here); give one of the two."
        ) from error
    return False


def _read_config(name: str, accept_clip: bool, any_model: bool, **hub: Any) -> Any:
    """The configuration of a checkpoint, checked to be one that [`load_checkpoint`] can load."""
    try:
        labels = PreTrainedConfig.get_config_dict(name, **hub)[0].get("num_labels", 0)
        if isinstance(labels, int) and labels > MAX_LABELS:  # transformers makes a name of each
            raise ValueError(f"`num_labels` is {labels:,}; at most {MAX_LABELS:,} are read")
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **hub)
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{name}: its configuration does not load ({one_line(error)}).") from error
    except OSError as error:
        if Path(name).is_dir() or name in str(error):
            raise
        reason = str(error).partition(".\n")[0]  # of a connection; it names no model
        raise CheckpointError(
            f"{name}: no such folder, and as an id on the Hub it cannot be had ({one_line(reason)})."
        ) from error
    if getattr(config, "quantization_config", None) is not None:
        raise CheckpointError(
            f"{name}: saved in a quantized form; give the checkpoint that it was made of. `quantization_config` of "
            "`from_pretrained` quantizes it while it is loaded."
        )
    if isinstance(config, VitaClipConfig) or (accept_clip and config.model_type in BACKBONES):
        return config
    if any_model:
        try:
            check_methods(MODEL_MAPPING[type(config)], config.model_type)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{name}: {one_line(error)}") from error
        return config
    needed = "a CLIP or a Vita-CLIP" if accept_clip else "a Vita-CLIP"
    raise CheckpointError(f"{name}: this is a {config.model_type!r:.100} model; give {needed} checkpoint.")


__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]
