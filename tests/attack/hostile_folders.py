"""Hostile checkpoint folders: each ends in the documented error, quickly, and none of their code runs."""

import functools
import json
import os
import pickle
import resource
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from attack.mutations import HOSTILE_VALUES, deep
from attack.outcomes import Attack
from safetensors.torch import load_file, save_file

from vitaclip_hf import CheckpointError, VideoDecodingError, load_checkpoint
from vitaclip_hf.model.scorer import Scorer, checked


# Nearly every field of the files at once would hide one defect behind another: one field at a time.
CONFIG_FIELDS = (
    *("model_type", "architectures", "dtype", "projection_dim", "logit_scale_init_value", "id2label", "label2id"),
    *("initializer_factor", "transformers_version", "auto_map", "custom_pipelines", "quantization_config"),
    *("attn_implementation", "_attn_implementation", "text_config", "vision_config", "num_frames"),
    *("tie_word_embeddings", "problem_type", "name_or_path"),
)
TOWER_FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("layer_norm_eps", "projection_dim", "attention_dropout", "model_type"),
)
VISION_FIELDS = (*TOWER_FIELDS, "image_size", "patch_size", "num_channels", "num_frames", "num_global_prompts")
TEXT_FIELDS = (
    *(*TOWER_FIELDS, "vocab_size", "max_position_embeddings", "num_context_tokens", "context_position"),
    *("class_specific_context", "context_init", "eos_token_id", "bos_token_id", "pad_token_id"),
)
PROCESSOR_FIELDS = (
    *("num_frames", "num_views", "num_spatial_views", "sampling", "frame_stride", "size", "crop_size"),
    *("image_mean", "image_std", "resample", "decoder", "seed", "max_seconds", "rescale_factor", "do_resize"),
)
FILES = (
    *("config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json", "checksums.json"),
    "model.safetensors",
)
CONTENTS: dict[str, str | bytes] = {
    "deep": deep(), "deep_object": '{"a":' * 50_000 + "1" + "}" * 50_000, "empty": "", "null": "null",
    "list": "[]", "number": "9" * 5000, "object": "{}", "latin": b"\xff\xfe{}", "zeros": bytes(4096),
}  # fmt: skip
SHARDS = ("../../../etc/passwd", "/etc/passwd", "..", "", 3, None, "a\x00b", "x" * 5000, "missing.safetensors")
FIRST = "visual_projection.weight"
Change = Callable[[Path], Any]
MAX_MEMORY = 3 << 30  # of one attack; what takes more gets a MemoryError. The model is tiny
TRAP = "import os\nopen(os.environ['VITACLIP_TRAP'], 'w').close()\n"


class Trap:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return os.system, (f"touch {os.environ['VITACLIP_TRAP']}",)


def set_field(file: str, path: tuple[str, ...], value: Any) -> Change:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        place = content
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
        (folder / file).write_text(json.dumps(content))

    return change


def write(name: str, content: str | bytes) -> Change:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def link(name: str, target: str) -> Change:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to(target))


def tensors(change: Callable[[dict[str, torch.Tensor]], Any], file: str = "model.safetensors") -> Change:
    def changed(folder: Path) -> None:
        weights = load_file(folder / file)
        change(weights)
        save_file(weights, folder / file, metadata={"format": "pt"})

    return changed


def header(change: Callable[[dict[str, Any]], Any]) -> Change:
    def changed(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        content = json.loads(data[8 : 8 + length])
        change(content)
        text = json.dumps(content).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return changed


def index(content: Callable[[list[str]], Any]) -> Change:
    """Weights in shards, by an index of the tensors' names."""

    def change(folder: Path) -> None:
        keys = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder / "elsewhere.safetensors")
        (folder / "model.safetensors.index.json").write_text(content(keys))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"a": Trap()}, file)


def code(folder: Path) -> None:
    modules = ("configuration_vita_clip", "modeling_vita_clip", "processing_vita_clip", "tokenizer", "conftest")
    for name in (*modules, "__init__"):
        (folder / f"{name}.py").write_text(TRAP)
    classes = {
        "AutoConfig": "configuration_vita_clip.VitaClipConfig",
        "AutoModel": "modeling_vita_clip.VitaClipModel",
        "AutoProcessor": "processing_vita_clip.VitaClipProcessor",
        "AutoTokenizer": ["tokenizer.Evil", "tokenizer.Evil"],
        "AutoVideoProcessor": "processing_vita_clip.Evil",
    }
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        set_field(file, ("auto_map",), classes)(folder)


def unknown_type_with_code(folder: Path) -> None:
    code(folder)
    set_field("config.json", ("model_type",), "something_new")(folder)


def flip_bit(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def field_changes() -> Iterator[tuple[str, Change]]:
    """Each value in each field."""
    for number, value in enumerate(HOSTILE_VALUES):
        for file, paths in (
            ("config.json", [(field,) for field in CONFIG_FIELDS]),
            ("config.json", [("vision_config", field) for field in VISION_FIELDS]),
            ("config.json", [("text_config", field) for field in TEXT_FIELDS]),
            ("processor_config.json", [("video_processor", field) for field in PROCESSOR_FIELDS]),
            ("processor_config.json", [("processor_class",), ("video_processor",)]),
            ("tokenizer_config.json", [(n,) for n in ("tokenizer_class", "model_max_length", "pad_token", "backend")]),
        ):
            for path in paths:
                yield f"{file}:{'.'.join(path)}={number}", set_field(file, path, value)


def file_changes() -> Iterator[tuple[str, Change]]:
    """Other contents of each file, or something else in its place."""
    for name in FILES:
        for kind, content in CONTENTS.items():
            yield f"{name}:{kind}", write(name, content)
        yield f"{name}:gone", lambda folder, name=name: (folder / name).unlink()
        yield f"{name}:folder", lambda folder, name=name: ((folder / name).unlink(), (folder / name).mkdir())
        for target in ("/nonexistent/file", "/proc/self/environ"):
            yield f"{name}:link to {target}", link(name, target)


def weight_changes() -> Iterator[tuple[str, Change]]:
    """Shards, headers and tensors that do not fit, and numbers that are none."""
    for target in SHARDS:
        yield (
            f"index:{str(target)[:30]}",
            index(lambda keys, target=target: json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, target)})),
        )
    yield "index:deep", index(lambda keys: deep())
    yield "index:list", index(lambda keys: "[]")
    yield "header:huge tensor", header(lambda h: h[FIRST].update(shape=[10**9, 10**9]))
    yield "header:negative", header(lambda h: h[FIRST].update(shape=[-1, 48]))
    yield "header:offsets", header(lambda h: h[FIRST].update(data_offsets=[0, 2**63 - 1]))
    yield "header:dtype", header(lambda h: h[FIRST].update(dtype="OBJECT"))
    yield "header:name", header(lambda h: h.update({"x" * 1_000_000: h.pop(FIRST)}))
    yield "header:empty tensor", header(lambda h: h[FIRST].update(shape=[0, 10**12]))
    yield "header:length", write("model.safetensors", struct.pack("<Q", 2**62))
    yield "weights:shape", tensors(lambda t: t.update({FIRST: torch.zeros(3, 5)}))
    yield "weights:missing", tensors(lambda t: t.pop(FIRST))
    yield "weights:more", tensors(lambda t: t.update(evil=torch.zeros(1)))
    for kind in (torch.int64, torch.bool, torch.complex64):
        yield f"weights:{kind}", tensors(lambda t, kind=kind: t.update({FIRST: t[FIRST].to(kind)}))
    for value in (float("nan"), float("inf"), -float("inf")):
        yield f"weights:{value}", tensors(lambda t, value=value: t.update({FIRST: t[FIRST] * value}))
    for value in (float("nan"), float("inf"), -float("inf"), 1000.0):
        yield f"scale:{value}", tensors(lambda t, value=value: t.update(logit_scale=torch.tensor(value)))
    yield "weights:flipped bit", flip_bit
    yield "ids:outside", tensors(lambda t: t["class_prompts.class_input_ids"].fill_(10**6))


def processor_changes() -> Iterator[tuple[str, Change]]:
    """Pixels that are no numbers, or no clips."""
    for field, value in (
        *(("image_mean", [0.5, float("nan"), 0.5]), ("image_std", [1.0, 0.0, 1.0]), ("image_mean", [0.5] * 5)),
        *(("image_std", "wide"), ("crop_size", {"height": 1, "width": 100_000}), ("do_center_crop", False)),
    ):
        yield f"pixels:{field}={value}", set_field("processor_config.json", ("video_processor", field), value)


@functools.cache
def changes() -> tuple[tuple[str, Change], ...]:
    """Names and changes of a good folder."""
    labels = {str(number): f"class {number}" for number in range(1_000_000)}
    adapter = json.dumps({"base_model_name_or_path": "/etc", "peft_type": "LORA"})
    return (
        *(*field_changes(), *file_changes(), *weight_changes(), *processor_changes()),
        ("labels:1,000,000", set_field("config.json", ("id2label",), labels)),
        ("labels:gap", set_field("config.json", ("id2label",), {"0": "a", "5": "b"})),
        ("pickle", pickled),
        ("code", code),
        ("code of an unknown type", unknown_type_with_code),
        ("kernel of the hub", set_field("config.json", ("attn_implementation",), "evil-org/evil-kernel")),
        ("adapter", write("adapter_config.json", adapter)),
    )


def use(folder: Path) -> str:
    """Loads the folder as our commands do, and scores one clip."""
    try:
        checkpoint = load_checkpoint(folder)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # a ValueError of the scoring below is documented, one of the loading is not
        raise AssertionError(f"loading: {type(error).__name__}: {error!s:.300}") from error
    pixels = checkpoint.processor.video_processor(
        np.full((8, 40, 60, 3), 127, np.uint8), num_views=1, num_spatial_views=1, return_tensors="pt"
    )["pixel_values_videos"]
    checked(Scorer(checkpoint.encoder(), ("a taxi", "juggling")).score(pixels[:, None]).scores)
    return "loaded"


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)


def attacks(good: Path, names: Iterable[str]) -> Iterator[Attack]:
    """
    Loads hostile variants of a folder.

    Args:
        good (`Path`): a whole model that loads.
        names (`Iterable[str]`): of the changes.
    """
    expected = (CheckpointError, OSError, VideoDecodingError, ValueError, TypeError)
    chosen = dict(changes())
    with tempfile.TemporaryDirectory() as scratch:
        trap = Path(scratch, "code ran")
        os.environ["VITACLIP_TRAP"] = str(trap)

        def attack(name: str) -> str:
            folder = copied(good, Path(scratch, "folder"))
            chosen[name](folder)
            if name != "weights:flipped bit" and not name.startswith("checksums"):
                (folder / "checksums.json").unlink(missing_ok=True)  # whoever changes the weights can change it too
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MAX_MEMORY, before[1]))
            try:
                return use(folder)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
                if trap.exists():
                    trap.unlink()
                    raise AssertionError("code of the folder ran")

        for name in names:
            yield Attack(name, functools.partial(attack, name), expected)
