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
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel, MetaClip2Config, MetaClip2Model, PreTrainedConfig
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file, extract_commit_hash

from ..model.configuration_vita_clip import REMOTE_CODE_FIELDS
from ..model.modeling_vita_clip import VitaClipModel
from ..model.prompts import ClassPrompts, TimeEmbedding, VisionPrompts
from ..model.version import __version__
from .guards import HUB_ARGUMENTS, UNFIT, CheckpointError, check_config_file, check_sizes, check_towers, kind_problems


WEIGHTS_FILE = "prompts.safetensors"
PROMPT_CONFIG_FILE = "prompt_config.json"
FORMAT_VERSION = 1
# Arguments of `from_pretrained` that prompts alone do not take: they fit their configuration and base, or are refused.
NO_ARGUMENTS = ("config", "state_dict", "ignore_mismatched_sizes", "output_loading_info")
WHOLE_MODEL_FILES = ("model.safetensors", "model.safetensors.index.json")


class PromptCheckpointError(CheckpointError):
    """Prompts, their folder or their base model do not fit; the message says what to do."""


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
            PromptCheckpointError: the file is damaged or of a newer format.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            version = int(content["format_version"])
            if version <= FORMAT_VERSION:
                record = cls(**{field.name: content[field.name] for field in dataclasses.fields(cls)})
                record.check()
                return dataclasses.replace(record, base_model=record.find_base(Path(path).parent))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError) as error:
            raise PromptCheckpointError(
                f"{path}: damaged or not written by `save_prompts` ({type(error).__name__}: {_first_line(error)})."
            ) from error
        raise PromptCheckpointError(
            f"{path}: format {version:.6g}, written by vitaclip_hf {content.get('package_version')!s:.50}; vitaclip_hf "
            f"{__version__} reads up to format {FORMAT_VERSION}. Update the package."
        )

    def check(self) -> None:
        """Raises ValueError for a value that `save_prompts` does not write."""
        kind = getattr(torch, str(self.base_dtype), None)
        fingerprints = (self.base_fingerprint, self.prompts_fingerprint)
        right = {
            "base_model": isinstance(self.base_model, str) and self.base_model,
            "base_revision": self.base_revision is None or isinstance(self.base_revision, str),
            "base_dtype": isinstance(kind, torch.dtype) and kind.is_floating_point,
            "fingerprints": all(isinstance(f, str) and re.fullmatch("[0-9a-f]{64}", f) for f in fingerprints),
        }
        wrong = [name for name, is_right in right.items() if not is_right]
        if wrong:
            raise ValueError(f"wrong {', '.join(wrong)}")

    def find_base(self, folder: Path) -> str:
        """The base's id, or its folder: seen from the prompts' folder, else (older records) from the current one."""
        if self.base_revision is not None:
            return self.base_model
        places = (folder / self.base_model, Path(self.base_model))
        found = next((place for place in places if place.is_dir()), places[0] if _is_path(self.base_model) else None)
        return self.base_model if found is None else os.path.abspath(found)


def _is_path(name: str) -> bool:
    """Whether it can be no id of the Hub."""
    return name.startswith((".", "~")) or Path(name).is_absolute() or name.count("/") > 1


def _relative_to(folder: Path, base: str) -> str:
    """How the record names the base: a folder as seen from the prompts', so that both can be moved together."""
    if not Path(base).is_dir():
        return base
    relative = Path(os.path.relpath(Path(base).resolve(), folder.resolve())).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"


class CheckpointSizes(NamedTuple):
    """Bytes of tensors; a file's header adds a few kilobytes."""

    whole: int
    prompts: int


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
    ours = tuple(
        f"{prefix}."
        for prefix, module in model.named_modules()
        if isinstance(module, (TimeEmbedding, VisionPrompts, ClassPrompts))
    )
    tensors = model.state_dict()
    prompts = {name: t for name, t in tensors.items() if name.startswith(ours) or name == "logit_scale"}
    return prompts, {name: t for name, t in tensors.items() if name not in prompts}


def checkpoint_sizes(model: nn.Module) -> CheckpointSizes:
    """How large the model is as a whole, and how large its prompts are alone."""
    prompts, backbone = ({n: t.numel() * t.element_size() for n, t in part.items()} for part in split_tensors(model))
    return CheckpointSizes(sum(prompts.values()) + sum(backbone.values()), sum(prompts.values()))


def save_prompts(
    model: Any,
    directory: str | os.PathLike,
    base: str | os.PathLike | None = None,
    revision: str | None = None,
    processor: Any = None,
    verify: bool = True,
    use_safetensors: bool = True,
    **hub: Any,
) -> None:
    """Saves what the model adds to its frozen CLIP.

    Args:
        model: a `VitaClipModel` (or its classifier) whose backbone was frozen.
        directory: folder to write.
        base: folder or Hub id of the CLIP beneath, whole Vita-CLIP folders included; prompts saved alone stand for
            the base that they name; by default what the model was loaded from.
        revision: the base's on the Hub; by default the commit it was loaded from.
        processor: saved beside the prompts, so that `AutoProcessor.from_pretrained(directory)` works.
        verify: load the base and make sure that it is the one beneath these prompts.
        use_safetensors: False to read a base whose weights are pickled; only tensors are ever taken out.
        hub: how the base is found, as for `from_pretrained`: `cache_dir`, `local_files_only`, `token`.

    Raises:
        PromptCheckpointError: no base is known, it is another one or cannot be loaded, the backbone has several
            types, or the folder holds a whole model.
    """
    folder = Path(directory)
    if folder.is_file():
        raise PromptCheckpointError(f"{folder}: a file is there; give the name of a folder.")
    if any((folder / name).exists() for name in WHOLE_MODEL_FILES) or (
        (folder / CONFIG_NAME).exists() and not (folder / PROMPT_CONFIG_FILE).exists()
    ):
        raise PromptCheckpointError(
            f"{folder} holds a whole model or its configuration; save the prompts to a folder of their own."
        )
    loaded_from, commit = model.config.name_or_path, getattr(model.config, "_commit_hash", None)
    base = os.fspath(base or loaded_from)
    if not base:
        raise PromptCheckpointError("Pass `base`, the CLIP beneath the prompts: this model was not loaded from one.")
    prompts, backbone = split_tensors(model)
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in backbone.values()})
    if len(types) > 1:
        raise PromptCheckpointError(f"The backbone's weights are of several types ({', '.join(types)}); make them one.")
    if revision is None and base == loaded_from:
        revision = commit
    beneath = find_prompts_alone(base, {**hub, "revision": revision})
    if beneath is not None:
        base, revision = beneath.base_model, beneath.base_revision
    prompts = {name: tensor.detach().cpu().contiguous() for name, tensor in prompts.items()}
    record = PromptRecord(base, revision, types[0], fingerprint_of_tensors(backbone), fingerprint_of_tensors(prompts))
    if verify:
        _, commit = _load_backbone(record, base, revision, type(model), use_safetensors, hub)
        record = dataclasses.replace(record, base_revision=commit or revision)
    record = dataclasses.replace(record, base_model=_relative_to(folder, base))
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
        PromptCheckpointError: files that are missing, damaged, of a newer format or do not fit the configuration; or
            another base than the one beneath the prompts.
    """
    refused = [name for name in NO_ARGUMENTS if name in kwargs]
    if refused:
        raise PromptCheckpointError(f"`load_prompts` takes no {', '.join(refused)}: prompts fit or do not.")
    dtype = kwargs.pop("torch_dtype", None) if dtype is None else dtype
    hub = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if name in kwargs}
    record = PromptRecord.read(_find(directory, PROMPT_CONFIG_FILE, hub))
    base = record.base_model if base is None else os.fspath(base)
    if base_revision is None and base == record.base_model:
        base_revision = record.base_revision
    # The attention reaches both towers only through the model's own loading.
    attention = {"attn_implementation": kwargs.pop("attn_implementation")} if "attn_implementation" in kwargs else {}
    try:
        check_config_file(os.fspath(directory), hub)
        config, kwargs = model_class.config_class.from_pretrained(directory, return_unused_kwargs=True, **hub, **kwargs)
        check_towers(str(directory), config)
        with torch.device("meta"):
            expected, beneath = split_tensors(model_class(config))
    except (OSError, *UNFIT) as error:
        raise PromptCheckpointError(
            f"{directory}: its {CONFIG_NAME} is missing, damaged or no Vita-CLIP's ({_first_line(error)})."
        ) from error
    prompts = _read_prompts(_find(directory, WEIGHTS_FILE, hub), expected, record)
    backbone, commit = _load_backbone(record, base, base_revision, model_class, use_safetensors, hub)
    _compare_shapes(backbone, beneath, f"{base}, the base of {directory},")  # before memory is taken
    model = model_class.from_pretrained(
        None, config=config, state_dict=backbone | prompts, dtype=dtype or record.base_dtype, **attention, **kwargs
    )
    if dtype is None:  # the prompts may be of another type than the backbone
        for name, parameter in model.named_parameters():
            if name in prompts and parameter.dtype != prompts[name].dtype:
                parameter.data = prompts[name].to(parameter.device)
    model.config.name_or_path = base  # what the next `save_prompts` names
    model.config._commit_hash = commit
    return model


def find_prompts_alone(source: str | os.PathLike, arguments: Mapping[str, Any]) -> PromptRecord | None:
    """The record of a folder or Hub id that holds prompts and no whole model; None for any other.

    Args:
        source: folder or Hub id.
        arguments: of `from_pretrained`; those that say where files are found are used.
    """
    hub = {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}
    quiet = {f"_raise_exceptions_for_{case}": False for case in ("missing_entries", "connection_errors", "gated_repo")}
    try:
        found = cached_file(source, PROMPT_CONFIG_FILE, **quiet, **hub)
        if found is None or any(cached_file(source, name, **quiet, **hub) for name in WHOLE_MODEL_FILES):
            return None
    except OSError:  # no such folder or repository: whoever loads it has the error that says so
        return None
    return PromptRecord.read(found)


def _find(directory: str | os.PathLike, name: str, hub: Mapping[str, Any]) -> str:
    try:
        return cached_file(os.fspath(directory), name, **hub)
    except OSError as error:
        raise PromptCheckpointError(
            f"{directory}: no {name} there, so no prompts of their own; a whole model is loaded with `from_pretrained` "
            f"({_first_line(error)})."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _compare_shapes(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], source: str) -> None:
    """One error for everything that is missing, has no place or another shape."""
    problems = [f"lacks {name}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"has no place for {name}" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} is {list(found[name].shape)} and must be {list(expected[name].shape)}"
        for name in sorted(found.keys() & expected.keys())
        if found[name].shape != expected[name].shape
    ]
    problems += kind_problems({name: tensor.dtype for name, tensor in found.items()}, expected)
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise PromptCheckpointError(f"{source} does not fit its config.json: {'; '.join(problems[:5])}{more}.")


def _read_prompts(path: str, expected: Mapping[str, torch.Tensor], record: PromptRecord) -> dict[str, torch.Tensor]:
    try:
        prompts = load_file(path)
    except (SafetensorError, OSError) as error:
        raise PromptCheckpointError(f"{path}: damaged ({_first_line(error)}); fetch or save it again.") from error
    _compare_shapes(prompts, expected, path)
    if fingerprint_of_tensors(prompts) != record.prompts_fingerprint:
        raise PromptCheckpointError(
            f"{path}: these are not the values that {PROMPT_CONFIG_FILE} describes; fetch it again."
        )
    return prompts


def _load_backbone(
    record: PromptRecord,
    base: str,
    revision: str | None,
    model_class: Any,
    use_safetensors: bool,
    hub: Mapping[str, Any],
) -> tuple[dict[str, torch.Tensor], str | None]:
    """The base's tensors in the recorded type, proven to be the recorded ones; and its commit, if it has one."""
    hub = {name: value for name, value in hub.items() if name not in ("revision", "subfolder")} | {"revision": revision}
    advice = f"pass `base`, or write the right folder or id as `base_model` into {PROMPT_CONFIG_FILE}"
    try:
        if _is_path(base) and not Path(base).is_dir():
            raise PromptCheckpointError("no such folder")
        check_config_file(base, hub)
        model_type = PreTrainedConfig.get_config_dict(base, **hub)[0].get("model_type")
        loader = {
            CLIPConfig.model_type: CLIPModel,
            MetaClip2Config.model_type: MetaClip2Model,
            model_class.config_class.model_type: model_class,
        }.get(model_type)
        if loader is None:
            raise PromptCheckpointError(f"it is of type {model_type!r:.100}, not a CLIP")
        if use_safetensors:
            check_sizes(base, loader.config_class.from_pretrained(base, **hub), loader, hub, stock=True)
        model, info = loader.from_pretrained(
            base,
            dtype=getattr(torch, record.base_dtype),
            output_loading_info=True,
            use_safetensors=use_safetensors,
            **hub,
        )
    except (OSError, SafetensorError, pickle.UnpicklingError, *UNFIT) as error:
        raise PromptCheckpointError(
            f"The base model {base} cannot be loaded ({_first_line(error)}); {advice}."
        ) from error
    missing = sorted(info["missing_keys"] - split_tensors(model)[0].keys())
    if missing:
        raise PromptCheckpointError(f"The base model {base} lacks weights: {', '.join(missing[:5])}; {advice}.")
    backbone = split_tensors(model)[1]
    found = fingerprint_of_tensors(backbone)
    if found != record.base_fingerprint:
        recorded = record.base_model + (f" at {record.base_revision}" if record.base_revision else "")
        raise PromptCheckpointError(
            f"Wrong base model: the prompts belong to {recorded} (weights {record.base_fingerprint[:12]}…), and {base} "
            f"has other weights ({found[:12]}…); {advice}."
        )
    return backbone, extract_commit_hash(cached_file(base, CONFIG_NAME, **hub), None)
