"""Prompts saved alone: what Vita-CLIP adds to a CLIP, in a small folder that names its CLIP.

    prompts.safetensors   the prompts, the time embedding, the class prompts and the trained logit scale
    prompt_config.json    name, revision and fingerprint of the CLIP, and the version that wrote the folder
    config.json           the model's configuration with its classes
    processor files       if a processor was given

transformers looks for weights under other names, so it never loads half of such a folder by mistake.
"""

import copy
import dataclasses
import hashlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file, extract_commit_hash

from ..data.text_files import content_errors, read_json
from ..model.configuration_vita_clip import REMOTE_CODE_FIELDS
from ..model.modeling_vita_clip import VitaClipModel
from ..model.shown_names import one_line
from ..version import __version__
from .guards import (
    INDEX,
    LOADING_ERRORS,
    MAX_NEW,
    WEIGHTS,
    CheckpointError,
    check_amount,
    check_complete,
    compare_shapes,
    find_file,
    hub_arguments,
    number_type,
    prompt_names,
    quietly,
)


WEIGHTS_FILE = "prompts.safetensors"
PROMPT_CONFIG_FILE = "prompt_config.json"
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class PromptRecord:
    """`prompt_config.json`.

    Args:
        base_model: Hub id of the CLIP, or its folder. In the file, a folder is relative to the prompts' own folder.
        base_revision: its commit on the Hub, if it comes from there.
        base_dtype: type of its weights when the fingerprint was taken.
        base_fingerprint: of all its weights but the logit scale, in that type. It is taken from the tensors by name:
            the number of files and the file type do not matter.
        prompts_fingerprint: of the tensors in `prompts.safetensors`.
        format_version: of the folder.
        package_version: what wrote it.
    """

    base_model: str
    base_revision: str | None
    base_dtype: str
    base_fingerprint: str
    prompts_fingerprint: str
    format_version: int = FORMAT_VERSION
    package_version: str = __version__

    def write(self, folder: Path) -> None:
        content = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        (folder / PROMPT_CONFIG_FILE).write_text(content + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> "PromptRecord":
        """The record, with the base's folder as it can be opened from here.

        Raises:
            CheckpointError: the file is damaged or of a newer format.
        """
        with content_errors(f"{path}: damaged or not written by `save_prompts`", CheckpointError):
            content = read_json(path)
            version = int(content["format_version"])
            record = cls(**{field.name: content[field.name] for field in dataclasses.fields(cls)})
            fingerprints = f"{record.base_fingerprint} {record.prompts_fingerprint}"
            if not re.fullmatch("[0-9a-f]{64} [0-9a-f]{64}", fingerprints) or not record.base_model:
                raise ValueError("wrong fingerprints or no base")
            if not getattr(torch, record.base_dtype).is_floating_point:
                raise ValueError("wrong base_dtype")
            # A folder is seen from the prompts' own, else (older records) from the current one.
            places = (Path(path).parent / record.base_model, Path(record.base_model))
            folder = next((place for place in places if record.base_revision is None and place.is_dir()), None)
        if version > FORMAT_VERSION:
            writer = f"written by vitaclip_hf {record.package_version!s:.50}"
            raise CheckpointError(f"{path}: format {version}, {writer}; this is {__version__}. Update the package.")
        return record if folder is None else dataclasses.replace(record, base_model=os.path.abspath(folder))


def fingerprint_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, whatever the order of the tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def split_tensors(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The model's tensors by name: those that are saved with the prompts, and those of the frozen CLIP."""
    ours, tensors = prompt_names(model) | {"logit_scale"}, model.state_dict()
    return {n: t for n, t in tensors.items() if n in ours}, {n: t for n, t in tensors.items() if n not in ours}


def save_prompts(
    model: Any,
    directory: str | os.PathLike,
    base: str | os.PathLike | None = None,
    revision: str | None = None,
    processor: Any = None,
    **hub: Any,
) -> None:
    """Saves what the model adds to its frozen CLIP.

    Args:
        model: a `VitaClipModel` (or its classifier) whose backbone was frozen.
        directory: folder to write.
        base: folder or Hub id of the CLIP beneath, whole Vita-CLIP folders included; prompts saved alone stand for
            the base that they name; by default what the model was loaded from. `load_prompts` compares its weights.
        revision: the base's on the Hub; by default the commit that `load_checkpoint` or `load_prompts` found, else that
            of `main`. transformers keeps none: pass it for a model that `from_pretrained` loaded at another one.
        processor: saved beside the prompts, so that `AutoProcessor.from_pretrained(directory)` works.
        hub: how the base is found, as for `from_pretrained`: `cache_dir`, `local_files_only`, `token`.

    Raises:
        CheckpointError: no base is known, the backbone has several types, or the folder holds a whole model.
    """
    folder = Path(directory)
    whole = any((folder / name).exists() for name in (WEIGHTS, INDEX))
    if whole or ((folder / CONFIG_NAME).exists() and not (folder / PROMPT_CONFIG_FILE).exists()):
        raise CheckpointError(f"{folder} holds a whole model; save the prompts to a folder of their own.")
    base = os.fspath(base or model.config.name_or_path)
    if not base:
        raise CheckpointError("Pass `base`, the CLIP beneath the prompts: this model was not loaded from one.")
    if revision is None and base == model.config.name_or_path:
        revision = getattr(model.config, "_commit_hash", None)
    beneath = find_prompts_alone(base, hub | {"revision": revision}) if base != model.config.name_or_path else None
    if beneath is not None:
        base, revision = beneath.base_model, beneath.base_revision
    revision = extract_commit_hash(find_file(base, CONFIG_NAME, hub | {"revision": revision}), None) or revision
    if Path(base).is_dir():  # as seen from the prompts, so that both can be moved together
        revision = None  # not even of a folder of the Hub's cache
        relative = Path(os.path.relpath(Path(base).resolve(), folder.resolve())).as_posix()
        base = relative if relative.startswith("..") else f"./{relative}"
    prompts, backbone = split_tensors(model)
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in backbone.values()})
    if len(types) > 1:
        raise CheckpointError(f"The backbone's weights are of several types ({', '.join(types)}); make them one.")
    prompts = {name: tensor.detach().cpu().contiguous() for name, tensor in prompts.items()}
    record = PromptRecord(base, revision, types[0], fingerprint_of_tensors(backbone), fingerprint_of_tensors(prompts))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(prompts, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    record.write(folder)
    config = copy.deepcopy(model.config)
    for field in REMOTE_CODE_FIELDS:  # the folder holds no code
        config.__dict__.pop(field, None)
    config.architectures, config.dtype = [type(model).__name__], types[0]
    config.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)


def load_prompts(
    directory: str | os.PathLike,
    base: str | os.PathLike | None = None,
    *,
    model_class: Any = VitaClipModel,
    base_revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    use_safetensors: bool = True,
    **kwargs: Any,
) -> Any:
    """The whole model: prompts that `save_prompts` wrote, on their CLIP. Bit-equal to the model that was saved.

    Args:
        directory: folder or Hub id of the prompts.
        base: folder or Hub id of the CLIP beneath, whole Vita-CLIP folders included; by default what the prompts name.
        model_class: `VitaClipModel` or `VitaClipForVideoClassification`.
        base_revision: the base's on the Hub; by default the one that the prompts name.
        dtype: of the weights; by default as they were saved.
        use_safetensors: False to read a base whose weights are pickled; only tensors are ever taken out.
        kwargs: as `from_pretrained` takes them; `revision` and `subfolder` are those of the prompts.

    Raises:
        ValueError: no such `dtype`.
        CheckpointError: files that are missing, damaged, of a newer format or do not fit the configuration; or another
            base than the one beneath the prompts.
    """
    dtype = kwargs.pop("torch_dtype", None) if dtype is None else dtype  # transformers' former name of it
    hub, dtype = hub_arguments(kwargs), number_type(dtype)
    kwargs = {name: value for name, value in kwargs.items() if name not in hub}
    attention = {name: kwargs.pop(name) for name in ("attn_implementation",) if name in kwargs}  # for the model itself
    try:
        record = PromptRecord.read(cached_file(os.fspath(directory), PROMPT_CONFIG_FILE, **hub))
        config, kwargs = model_class.config_class.from_pretrained(directory, return_unused_kwargs=True, **hub, **kwargs)
        file = cached_file(os.fspath(directory), WEIGHTS_FILE, **hub)
        prompts = load_file(file)
    except CheckpointError:
        raise
    except (OSError, SafetensorError, *LOADING_ERRORS) as error:
        raise CheckpointError(f"{directory}: no prompts of their own, or damaged ones ({one_line(error)}).") from error
    if fingerprint_of_tensors(prompts) != record.prompts_fingerprint:
        raise CheckpointError(f"{file}: not the values that {PROMPT_CONFIG_FILE} describes; fetch it again.")
    base = record.base_model if base is None else os.fspath(base)
    if base_revision is None and base == record.base_model:
        base_revision = record.base_revision
    hub = {name: value for name, value in hub.items() if name != "subfolder"} | {"revision": base_revision}
    advice = f"pass `base`, or write the right folder or id as `base_model` into {PROMPT_CONFIG_FILE}"
    try:
        if use_safetensors:
            check_amount(base, config, model_class, hub, MAX_NEW)
        with quietly():  # transformers warns that the prompts are new
            model, info = model_class.from_pretrained(
                base,
                config=config,
                dtype=getattr(torch, record.base_dtype),
                use_safetensors=use_safetensors,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # check_complete names them
                **(hub | attention | kwargs),
            )
        own = prompt_names(model) | {"logit_scale"}
        info["mismatched_keys"] = [entry for entry in info["mismatched_keys"] if entry[0] not in own]
        check_complete(base, info, own, unexpected=False)
        commit = extract_commit_hash(cached_file(base, CONFIG_NAME, **hub), None)
    except (OSError, SafetensorError, pickle.UnpicklingError, *LOADING_ERRORS) as error:
        raise CheckpointError(f"The base model {base} cannot be loaded ({one_line(error)}); {advice}.") from error
    if getattr(model, "hf_quantizer", None) or any(tensor.is_meta for tensor in model.state_dict().values()):
        raise CheckpointError(
            f"{directory}: prompts saved alone are put on the whole CLIP as it is stored. To quantize it or to keep "
            "parts of it on the disk, `save_checkpoint` what `load_prompts` gives, and load that folder."
        )
    expected, backbone = split_tensors(model)
    if fingerprint_of_tensors(backbone) != record.base_fingerprint:
        recorded = record.base_model + (f" at {record.base_revision}" if record.base_revision else "")
        raise CheckpointError(f"Wrong base model: the prompts belong to {recorded}, not to {base}; {advice}.")
    check_complete(file, compare_shapes({name: list(tensor.shape) for name, tensor in prompts.items()}, expected))
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, stored in prompts.items():  # the prompts may be of another type than the backbone
        tensors[name].data = stored.to(tensors[name].device)
    if dtype is not None:
        model = model.to(dtype)
    model.config.name_or_path, model.config._commit_hash = base, commit  # what the next `save_prompts` names
    return model


def find_prompts_alone(source: str | os.PathLike, arguments: Mapping[str, Any]) -> PromptRecord | None:
    """The record of a folder or Hub id that holds prompts and no whole model; None for any other."""
    hub = hub_arguments(arguments)
    try:
        file = find_file(os.fspath(source), PROMPT_CONFIG_FILE, hub)
        if file is None or any(find_file(os.fspath(source), name, hub) for name in (WEIGHTS, INDEX)):
            return None
    except OSError:  # no such folder or repository: whoever loads it has the error that says so
        return None
    return PromptRecord.read(file)
