"""The one loader of checkpoints: a whole Vita-CLIP, prompts saved alone, or a stock CLIP with new prompts."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError
from transformers import AutoConfig, AutoProcessor, CLIPConfig

from ..model.configuration_vita_clip import BACKBONES, VitaClipConfig
from ..model.encoder import VitaClipEncoder
from ..model.modeling_vita_clip import VitaClipModel
from ..model.pipeline_zero_shot_video_classification import ZeroShotVideoClassificationPipeline
from ..model.processing_vita_clip import VitaClipProcessor, check_tokenizer
from ..model.shown_names import check_utf8, shown
from .checksums import CHECKSUMS_FILE, check_checksums, write_checksums
from .guards import (
    HUB_ARGUMENTS,
    UNFIT,
    CheckpointError,
    check_complete,
    check_config_file,
    check_sizes,
    check_video_processor,
    find_file,
)
from .prompts_alone import find_prompts_alone, fingerprint_of_tensors, load_prompts


# Arguments of `from_pretrained` by which the sizes are no longer those of the folder's configuration.
OTHER_SIZES = {
    "config",
    "state_dict",
    "variant",
    "vision_config",
    "text_config",
    "num_frames",
    "id2label",
    "num_labels",
}


@dataclass
class Checkpoint:
    """
    A model with what belongs to it.

    Attributes:
        name (`str`): folder or Hub id, as given.
        kind (`str`): `"vita-clip"`, a whole model; `"prompts"`, prompts saved alone; or `"clip"`, a stock CLIP.
        model ([`VitaClipModel`]): in evaluation; the prompts of a stock CLIP are new.
        processor ([`VitaClipProcessor`]): video processor and tokenizer.
        revision (`str`, *optional*): commit of the Hub, if it comes from there.
    """

    name: str
    kind: str
    model: VitaClipModel
    processor: VitaClipProcessor
    revision: str | None

    def encoder(self, **settings: Any) -> VitaClipEncoder:
        """What scorers and tools take: the model with its tokenizer and processor; `settings` such as `blend`."""
        return VitaClipEncoder(self.model, self.processor.tokenizer, self.processor.video_processor, **settings)

    def classifier(self, **kwargs: Any) -> ZeroShotVideoClassificationPipeline:
        """The zero-shot pipeline of this checkpoint, where the model is; `kwargs` as for `pipeline`."""
        parts = {"tokenizer": self.processor.tokenizer, "video_processor": self.processor.video_processor}
        return ZeroShotVideoClassificationPipeline(self.model, device=self.model.device, **parts, **kwargs)

    def fingerprint(self) -> str:
        """SHA-256 of all weights, whatever files they came in."""
        return fingerprint_of_tensors(self.model.state_dict())


def load_checkpoint(
    name: str | Path,
    revision: str | None = None,
    *,
    model_class: type[VitaClipModel] = VitaClipModel,
    accept_clip: bool = False,
    prompt_settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> Checkpoint:
    """
    Loads a checkpoint with its processor.

    Args:
        name: folder or Hub id of a whole Vita-CLIP, of prompts saved alone, or (with `accept_clip`) of a stock CLIP.
        revision (`str`, *optional*): of the id on the Hub.
        model_class (`type`, defaults to [`VitaClipModel`]): or [`VitaClipForVideoClassification`].
        accept_clip (`bool`, defaults to `False`): load a stock CLIP too; its prompts are new and untrained.
        prompt_settings (`dict`, *optional*): `vision_config` and `text_config` values of a stock CLIP's new prompts.
        device, dtype (*optional*): of the model; by default where and as it is loaded.
        kwargs:
            For `from_pretrained`, such as `attn_implementation`. No pickle is read unless `use_safetensors=False` asks
            for it; from a pickle, only tensors are loaded.

    Returns:
        [`Checkpoint`]

    Raises:
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
    config = read_config(name, revision, accept_clip)
    kwargs.setdefault("use_safetensors", True)
    hub = {"revision": revision} | {argument: kwargs[argument] for argument in HUB_ARGUMENTS if argument in kwargs}
    try:
        load: Any = model_class.from_pretrained
        if not isinstance(config, VitaClipConfig):
            kind = "clip"
            kwargs |= prompt_settings or {}
        elif find_prompts_alone(name, {"revision": revision}) is None:
            kind = "vita-clip"
        else:
            kind = "prompts"
        if kind == "prompts":
            model = load_prompts(name, model_class=model_class, revision=revision, **kwargs)
        else:
            if kwargs["use_safetensors"] and not kwargs.keys() & OTHER_SIZES - (prompt_settings or {}).keys():
                if kind == "clip":
                    config = VitaClipConfig.from_pretrained(name, **hub, **(prompt_settings or {}))
                check_sizes(name, config, model_class, hub, stock=kind == "clip")
            # Weights of another shape are named by check_complete, which transformers' own error does not do.
            kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, info = load(name, revision=revision, **kwargs)
            check_complete(name, model, info, stock=kind == "clip")
            listing = find_file(name, CHECKSUMS_FILE, hub)
            if listing is not None:
                check_checksums(Path(listing).parent)
        if not model.logit_scale.isfinite():
            raise CheckpointError(f"{name}: its logit_scale is {model.logit_scale.item()}; fetch or save it again.")
    except (CheckpointError, torch.OutOfMemoryError):
        raise
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{name}: a weights file is damaged or incomplete ({reason}); fetch it again.") from error
    except UNFIT as error:
        raise CheckpointError(_about(name, error)) from error
    processor = _load_processor(name, revision, kind)
    try:
        check_tokenizer(processor.tokenizer, model.config.text_config, name)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    model = model.to(device=device, dtype=dtype).eval()
    return Checkpoint(name, kind, model, processor, getattr(model.config, "_commit_hash", None))


def save_checkpoint(
    model: VitaClipModel, processor: VitaClipProcessor | None, folder: str | Path, **kwargs: Any
) -> None:
    """
    Saves a model with its processor, and the checksums of the weights.

    Args:
        model: as for `save_pretrained`.
        processor (*optional*): saved beside it.
        folder: where to.
        kwargs: for the model's `save_pretrained`, such as `max_shard_size`.
    """
    Path(folder, CHECKSUMS_FILE).unlink(missing_ok=True)  # a stopped save leaves none, not a wrong one
    model.save_pretrained(folder, **kwargs)
    if processor is not None:
        processor.save_pretrained(folder)
    write_checksums(folder)


def read_config(name: str | Path, revision: str | None = None, accept_clip: bool = False) -> CLIPConfig:
    """
    The configuration of a checkpoint, checked to be one that [`load_checkpoint`] can load.

    Raises:
        CheckpointError: no such folder and no Hub id, or another kind of model.
        OSError: files that cannot be fetched or read.
    """
    name = str(name)
    if name and os.path.isdir(name):
        check_utf8(name, "safetensors", error=CheckpointError)
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise CheckpointError(f"{shown(name)}: there is no config.json in this folder; give that of a saved model.")
    else:
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise CheckpointError(
                f"{shown(name[:200]) or 'an empty name'}: no such folder, and not an id on the Hub (those are "
                "ORG/NAME); give one of the two."
            ) from error
    try:
        check_config_file(name, {"revision": revision})
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except CheckpointError:
        raise
    except UNFIT as error:
        raise CheckpointError(_about(name, error)) from error
    except OSError as error:
        if Path(name).is_dir() or name in str(error):
            raise
        reason = " ".join(str(error).split())[:300]  # of a connection; it names no model
        raise CheckpointError(f"{name}: no such folder, and it cannot be fetched from the Hub ({reason})") from error
    if isinstance(config, VitaClipConfig) or (accept_clip and config.model_type in BACKBONES):
        return config
    needed = "a CLIP or a Vita-CLIP" if accept_clip else "a Vita-CLIP"
    raise CheckpointError(f"{name}: this is a {config.model_type!r:.100} model; give {needed} checkpoint.")


def _about(name: str, error: Exception) -> str:
    reason = " ".join(str(error)[:5000].split())[:300] or type(error).__name__
    return reason if name in reason else f"{name}: {reason}"


def _load_processor(name: str, revision: str | None, kind: str) -> VitaClipProcessor:
    """What was saved beside a Vita-CLIP; for a stock CLIP one that is made of its files."""
    try:
        if kind == "clip":
            processor = VitaClipProcessor.from_pretrained(name, revision=revision)
        else:
            processor = AutoProcessor.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # tokenizers raises `Exception` itself
        reason = " ".join(str(error)[:5000].split())[:200]
        raise CheckpointError(
            f"{name}: no processor beside the model ({reason}); save the processor there too."
        ) from error
    if not isinstance(processor, VitaClipProcessor) or None in (processor.video_processor, processor.tokenizer):
        raise CheckpointError(f"{name}: no complete VitaClipProcessor beside the model; save the processor there too.")
    check_video_processor(name, processor.video_processor)
    return processor


__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "read_config", "save_checkpoint"]
