"""Builds the Hub folder of a checkpoint: weights, configurations, processor, tokenizer, code and licence."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files

import vitaclip_hf.model
from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor
from vitaclip_hf.conversion.sentence_transformers_files import write_sentence_transformers_files
from vitaclip_hf.loading.checkpoint import load_checkpoint, save_checkpoint
from vitaclip_hf.loading.guards import kind_problems
from vitaclip_hf.loading.prompts_alone import PROMPT_CONFIG_FILE, find_prompts_alone
from vitaclip_hf.loading.prompts_alone import WEIGHTS_FILE as PROMPTS
from vitaclip_hf.model.shown_names import check_utf8


CODE = Path(vitaclip_hf.model.__file__).parent
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

# What the libraries raise for files and arguments that do not fit.
EXPECTED = (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, StrictDataclassError)
SAFETENSORS_TYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32}
SAFETENSORS_TYPES |= {"I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
SAFETENSORS_TYPES |= {"F64": torch.float64}

# What each entry point of transformers loads, as "module.Class" of the folder's own code.
AUTO_MAP = {
    "AutoConfig": "configuration_vita_clip.VitaClipConfig",
    "AutoModel": "modeling_vita_clip.VitaClipModel",
    "AutoModelForVideoClassification": "modeling_vita_clip.VitaClipForVideoClassification",
    "AutoProcessor": "processing_vita_clip.VitaClipProcessor",
    "AutoVideoProcessor": "video_processing_vita_clip.VitaClipVideoProcessor",
}
CUSTOM_PIPELINES = {
    "zero-shot-video-classification": {
        "impl": "pipeline_zero_shot_video_classification.ZeroShotVideoClassificationPipeline",
        "pt": ["AutoModel"],
        "type": "multimodal",
    },
    "video-classification": {
        "impl": "pipeline_video_classification.VitaClipVideoClassificationPipeline",
        "pt": ["AutoModelForVideoClassification"],
        "type": "video",
    },
}


class PublishError(ValueError):
    """The checkpoint cannot be published as it is; the message says what to change. Nothing was uploaded."""


@contextmanager
def expected_errors(what: str) -> Iterator[None]:
    """Turns the libraries' errors about bad files and arguments into one line that begins with `what`."""
    try:
        yield
    except PublishError:
        raise
    except EXPECTED as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise PublishError(f"{what} ({type(error).__name__}: {reason}).") from error


def weight_files(checkpoint: Path) -> list[Path]:
    """The safetensors files of a checkpoint. As in transformers, one whole file goes before an index of shards.

    Pickles are not read: they could execute code.
    """
    if (checkpoint / WEIGHTS).is_file():
        return [checkpoint / WEIGHTS]
    index = checkpoint / INDEX
    if index.is_file():
        with expected_errors(f"{index}: no index of shards"):
            names = sorted(set(read_json(index)["weight_map"].values()))
            files = [checkpoint / Path(name).name for name in names]
        missing = [file.name for file in files if not file.is_file()]
        if missing or not files:
            raise PublishError(f"{index}: these shards are missing: {', '.join(missing) or 'all'}.")
        return files
    if (checkpoint / PROMPTS).is_file():
        raise PublishError(
            f"`checkpoint` {checkpoint}: {PROMPTS} without {PROMPT_CONFIG_FILE}, so its CLIP is unknown. "
            "Fetch or save both."
        )
    pickles = sorted(file.name for file in checkpoint.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".pkl"))
    reason = f"; {', '.join(pickles)} may execute code and is not read, save it as safetensors" if pickles else ""
    raise PublishError(f"`checkpoint` {checkpoint}: there is no {WEIGHTS}{reason}.")


def read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise PublishError(f"{file}: not readable as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise PublishError(f"{file}: expected a JSON object, found {type(content).__name__}.")
    return content


def _stored_tensors(files: list[Path]) -> Iterator[tuple[str, list[int], str, str]]:
    """Name, shape, type and file of every stored tensor. Opening a safetensors file checks that it is complete."""
    for file in files:
        check_utf8(file, "safetensors", error=PublishError)
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (no mapping)
                    stored = tensors.get_slice(name)
                    yield name, stored.get_shape(), stored.get_dtype(), file.name
        except SafetensorError as error:
            raise PublishError(f"{file}: damaged or cut short, no valid safetensors file ({error}).") from error


def check_weights(checkpoint: Path, config: VitaClipConfig) -> None:
    """Checks that the files hold exactly the model's weights, in its shapes and kinds of types.

    Raises:
        PublishError: some tensors do not fit; the message names them and their file.
    """
    with torch.device("meta"):
        expected = VitaClipModel(config).state_dict()
    problems, found = [], {}
    for name, shape, kind, file in _stored_tensors(weight_files(checkpoint)):
        found[name] = SAFETENSORS_TYPES.get(kind, torch.uint8)
        if name not in expected:
            problems.append(f"{file}: {name} has no place in the model")
        elif shape != list(expected[name].shape):
            asked = list(expected[name].shape)
            problems.append(f"{file}: {name} has the shape {shape}, config.json asks for {asked}")
    problems += [f"{name} is missing" for name in sorted(expected.keys() - found)]
    problems += kind_problems(found, expected)
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise PublishError(f"`checkpoint` {checkpoint}: {'; '.join(problems[:3])}{more}.")


def load_checked(checkpoint: Path) -> tuple[PreTrainedModel, VitaClipProcessor]:
    """
    Loads a checkpoint folder, a whole model or prompts alone, and checks every weight.

    Args:
        checkpoint (`Path`): folder with model, processor and tokenizer.

    Returns:
        The model and its processor.

    Raises:
        PublishError: the folder or a file is missing or damaged, the model is no Vita-CLIP, or weights do not fit.
    """
    if not checkpoint.is_dir():
        raise PublishError(f"`checkpoint` {checkpoint}: no such folder.")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        if not (checkpoint / name).is_file():
            raise PublishError(f"`checkpoint` {checkpoint}: there is no {name}; save model and processor there first.")
        read_json(checkpoint / name)
    model_type = read_json(checkpoint / "config.json").get("model_type")
    if model_type != VitaClipConfig.model_type:
        raise PublishError(f"`checkpoint` {checkpoint}: its model_type is {model_type!r}, not 'vita_clip'.")
    with expected_errors(f"`checkpoint` {checkpoint}: cannot be loaded"):
        with expected_errors(f"{checkpoint / 'config.json'}: no configuration of a Vita-CLIP"):
            config = VitaClipConfig.from_pretrained(checkpoint)
        if find_prompts_alone(checkpoint, {}) is None:
            check_weights(checkpoint, config)
        loaded = load_checkpoint(checkpoint)
    return loaded.model, loaded.processor


def is_whole(checkpoint: Path) -> bool:
    """Whether the folder holds a whole model, not prompts alone."""
    return find_prompts_alone(checkpoint, {}) is None


def remote_code() -> list[Path]:
    """The modules that the entry points need, found as transformers finds them: by their relative imports."""
    classes = [*AUTO_MAP.values(), *(str(task["impl"]) for task in CUSTOM_PIPELINES.values())]
    roots = {CODE / f"{name.split('.')[0]}.py" for name in classes}
    files = roots.union(*(map(Path, get_relative_import_files(root)) for root in roots))
    outside = sorted(file.name for file in files if file.parent != CODE or not file.is_file())
    if outside:
        raise PublishError(f"the remote code cannot be flattened: {', '.join(outside)} is no module of the package.")
    return sorted(files)


def build(checkpoint: Path, folder: Path, max_shard_size: str) -> tuple[PreTrainedModel, VitaClipProcessor]:
    """
    Writes everything but the model card.

    Args:
        checkpoint (`Path`): folder with model, processor and tokenizer.
        folder (`Path`): an empty folder to write into.
        max_shard_size (`str`): largest size of a weights file, such as `"5GB"`.

    Returns:
        The model and the processor of the checkpoint.

    Raises:
        PublishError: the checkpoint is incomplete or damaged.
    """
    model, processor = load_checked(checkpoint)
    model.config.architectures = [VitaClipModel.__name__]
    save_checkpoint(model, processor, folder, max_shard_size=max_shard_size)
    write_sentence_transformers_files(folder, model.config)
    for module in remote_code():
        shutil.copyfile(module, folder / module.name)
    (folder / "LICENSE").write_text(read_licence(), encoding="utf-8")
    _point_to_code(folder)
    return model, processor


def read_licence() -> str:
    """The package's licence, from its installed metadata. A source tree's egg-info has none, so all are searched."""
    for distribution in metadata.distributions(name="vitaclip_hf"):
        licence = distribution.read_text("licenses/LICENSE")
        if licence:
            return licence
    raise PublishError("the installed vitaclip_hf has lost its LICENSE file; install it again.")


def _point_to_code(folder: Path) -> None:
    config = read_json(folder / "config.json")
    write_config(folder / "config.json", config | {"auto_map": AUTO_MAP, "custom_pipelines": CUSTOM_PIPELINES})
    processor = read_json(folder / "processor_config.json")
    processor["auto_map"] = {"AutoProcessor": AUTO_MAP["AutoProcessor"]}
    processor["video_processor"]["auto_map"] = {"AutoVideoProcessor": AUTO_MAP["AutoVideoProcessor"]}
    write_config(folder / "processor_config.json", processor)
    tokenizer = read_json(folder / "tokenizer_config.json")
    # transformers also writes how the tokenizer was loaded here; that would make others' loading local.
    local = ("is_local", "local_files_only", "name_or_path")
    write_config(folder / "tokenizer_config.json", {name: v for name, v in tokenizer.items() if name not in local})


def write_config(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
