"""Hostile checkpoint folders: each ends in the documented error, quickly, and none of their code runs."""

import json
import os
import pickle
import resource
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from attack.mutations import HOSTILE_VALUES, deep
from attack.outcomes import Outcomes
from safetensors.torch import load_file, save_file

from vitaclip_hf import CheckpointError, VideoDecodingError, load_checkpoint
from vitaclip_hf.model.scorer import ScoreError, Scorer


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
MAX_MEMORY = 3 << 30  # of one attack; the model is tiny
TRAP = "import os\nopen(os.environ['VITACLIP_TRAP'], 'w').close()\n"


class Trap:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return os.system, (f"touch {os.environ['VITACLIP_TRAP']}",)


def _set(file: str, path: tuple[str, ...], value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        place = content
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
        (folder / file).write_text(json.dumps(content))

    return change


def _write(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None


def _tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def _header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return changed


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"a": Trap()}, file)


def _code(folder: Path) -> None:
    for name in ("configuration_vita_clip", "modeling_vita_clip", "processing_vita_clip", "tokenizer", "conftest"):
        (folder / f"{name}.py").write_text(TRAP)
    (folder / "__init__.py").write_text(TRAP)
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        content = json.loads((folder / file).read_text())
        content["auto_map"] = {
            "AutoConfig": "configuration_vita_clip.VitaClipConfig",
            "AutoModel": "modeling_vita_clip.VitaClipModel",
            "AutoProcessor": "processing_vita_clip.VitaClipProcessor",
            "AutoTokenizer": ["tokenizer.Evil", "tokenizer.Evil"],
            "AutoVideoProcessor": "processing_vita_clip.Evil",
        }
        (folder / file).write_text(json.dumps(content))


def _unknown_type_with_code(folder: Path) -> None:
    _code(folder)
    _set("config.json", ("model_type",), "something_new")(folder)


def _shards(*names: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        keys = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder / "elsewhere.safetensors")
        weight_map = {key: names[place % len(names)] for place, key in enumerate(keys)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return change


def _link(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def folder_attacks() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Names and changes of a good folder."""
    for value_number, value in enumerate(HOSTILE_VALUES):
        for file, paths in (
            ("config.json", [(field,) for field in CONFIG_FIELDS]),
            ("config.json", [("vision_config", field) for field in VISION_FIELDS]),
            ("config.json", [("text_config", field) for field in TEXT_FIELDS]),
            ("processor_config.json", [("video_processor", field) for field in PROCESSOR_FIELDS]),
            ("processor_config.json", [("processor_class",), ("video_processor",)]),
            ("tokenizer_config.json", [(n,) for n in ("tokenizer_class", "model_max_length", "pad_token", "backend")]),
        ):
            for path in paths:
                yield f"{file}:{'.'.join(path)}={value_number}", _set(file, path, value)
    files = ("config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json", "checksums.json")
    for name in (*files, "model.safetensors"):
        contents = {
            "deep": deep(), "deep_object": '{"a":' * 50_000 + "1" + "}" * 50_000, "empty": "", "null": "null",
            "list": "[]", "number": "9" * 5000, "object": "{}", "latin": b"\xff\xfe{}", "zeros": bytes(4096),
        }  # fmt: skip
        for kind, content in contents.items():
            yield f"{name}:{kind}", _write(name, content)
        yield f"{name}:gone", lambda folder, name=name: (folder / name).unlink()
        yield f"{name}:folder", lambda folder, name=name: ((folder / name).unlink(), (folder / name).mkdir())[0]
        yield f"{name}:link to nothing", _link(name, "/nonexistent/file")
        yield f"{name}:link to /proc/self/environ", _link(name, "/proc/self/environ")
    yield "labels:1,000,000", _set("config.json", ("id2label",), {str(n): f"class {n}" for n in range(1_000_000)})
    yield "labels:gap", _set("config.json", ("id2label",), {"0": "a", "5": "b"})
    yield "pickle", _pickled
    yield "code", _code
    yield "code of an unknown type", _unknown_type_with_code
    yield "kernel of the hub", _set("config.json", ("attn_implementation",), "evil-org/evil-kernel")
    yield "adapter", _write("adapter_config.json", json.dumps({"base_model_name_or_path": "/etc", "peft_type": "LORA"}))
    for target in (
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        "",
        3,
        None,
        "a\x00b",
        "x" * 5000,
        "missing.safetensors",
    ):
        yield f"index:{str(target)[:30]}", _shards(target)
    for kind in ("deep", "list"):
        yield (
            f"index:{kind}",
            lambda folder, kind=kind: (
                (folder / "model.safetensors").unlink(),
                (folder / "model.safetensors.index.json").write_text(deep() if kind == "deep" else "[]"),
            )[0],
        )
    first = "visual_projection.weight"
    yield "header:huge tensor", _header(lambda h: h[first].update(shape=[10**9, 10**9]))
    yield "header:negative", _header(lambda h: h[first].update(shape=[-1, 48]))
    yield "header:offsets", _header(lambda h: h[first].update(data_offsets=[0, 2**63 - 1]))
    yield "header:dtype", _header(lambda h: h[first].update(dtype="OBJECT"))
    yield "header:name", _header(lambda h: h.update({"x" * 1_000_000: h.pop(first)}))
    yield "header:empty tensor", _header(lambda h: h[first].update(shape=[0, 10**12]))
    yield "header:length", lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62)) and None
    yield "weights:shape", _tensors(lambda t: t.update({first: torch.zeros(3, 5)}))
    yield "weights:missing", _tensors(lambda t: t.pop(first))
    yield "weights:more", _tensors(lambda t: t.update(evil=torch.zeros(1)))
    for kind in (torch.int64, torch.bool, torch.complex64):
        yield f"weights:{kind}", _tensors(lambda t, kind=kind: t.update({first: t[first].to(kind)}))
    for value in (float("nan"), float("inf"), -float("inf")):
        yield f"weights:{value}", _tensors(lambda t, value=value: t.update({first: t[first] * value}))
        yield f"scale:{value}", _tensors(lambda t, value=value: t.update(logit_scale=torch.tensor(value)))
    yield "scale:1000", _tensors(lambda t: t.update(logit_scale=torch.tensor(1000.0)))
    yield "weights:flipped bit", _flip
    yield "ids:outside", _tensors(lambda t: t["class_prompts.class_input_ids"].fill_(10**6))


def _flip(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(data)


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
    scores = Scorer(checkpoint.encoder(), ("a red star", "juggling")).score(pixels[:, None]).check().scores
    if not torch.isfinite(scores).all():
        raise AssertionError("scores that are no numbers")
    return "loaded"


def copied(source: Path, target: Path) -> Path:
    """A copy whose large files are links, so that thousands of folders are cheap; changed files are replaced."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Whatever takes more than `MAX_MEMORY` gets a MemoryError, instead of the machine that runs the attacks."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MAX_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def attack_hostile_folders(good: Path, only: Callable[[int, str], bool] = lambda number, name: True) -> Outcomes:
    """
    Loads hostile variants of a folder.

    Args:
        good (`Path`): a whole model that loads.
        only (`Callable`): chooses attacks by number and name.
    """
    outcomes = Outcomes("hostile checkpoint folders")
    with tempfile.TemporaryDirectory() as scratch:
        trap = Path(scratch, "code ran")
        os.environ["VITACLIP_TRAP"] = str(trap)
        for number, (name, change) in enumerate(folder_attacks()):
            if not only(number, name):
                continue
            folder = copied(good, Path(scratch, "folder"))
            change(folder)
            if name != "weights:flipped bit" and not name.startswith("checksums"):
                (folder / "checksums.json").unlink(missing_ok=True)  # whoever changes the weights can change it too
            expected = (CheckpointError, OSError, ScoreError, VideoDecodingError, ValueError, TypeError)
            with bounded_memory():
                outcomes.attack(name, lambda folder=folder: use(folder), expected)
            if trap.exists():
                outcomes.defect(name, "code of the folder ran")
                trap.unlink()
    return outcomes
