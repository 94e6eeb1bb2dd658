"""Times the loading of a checkpoint from disk, and the start of a process: `benchmark.py load`.

The folders hold random weights in float32, and lie in the cache of the system: what is timed is the work, not the disk.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from benchmark_measurement import (
    PRESETS,
    PROJECTION_DIM,
    comparison,
    comparison_to_markdown,
    load_average,
    time_rounds,
)
from benchmark_pipeline import DEMO, build_pipeline
from transformers import AutoModel, CLIPConfig, CLIPModel, XCLIPConfig, XCLIPModel
from transformers.utils import logging

import vitaclip_hf
from vitaclip_hf import load_checkpoint


OURS, CHECKED = "Vita-CLIP, AutoModel.from_pretrained", "Vita-CLIP, load_checkpoint: processor and checksums too"
XCLIP, CLIP = "X-CLIP, AutoModel.from_pretrained", "plain CLIP, AutoModel.from_pretrained"
CLIP_START = "process: CLIPModel of transformers"
IMPORTS = {
    "process: import vitaclip_hf": "import vitaclip_hf",
    "process: VitaClipModel": "from vitaclip_hf import VitaClipModel",
    CLIP_START: "from transformers import CLIPModel",
    "process: import torch": "import torch",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, to_markdown=comparison_to_markdown)


def write_folders(preset: str, folder: Path) -> dict[str, Path]:
    """A folder of each model."""
    vision, dim = PRESETS[preset], PROJECTION_DIM[preset]
    ours = build_pipeline(preset, torch.float32)
    ours.save_pretrained(folder / "vita-clip")
    text = ours.model.config.text_config.to_dict()
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    text = {name: text[name] for name in (*sizes, "bos_token_id", "eos_token_id")}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=dim)).save_pretrained(folder / "clip")
    video = vision | {"num_frames": 8, "mit_hidden_size": dim}
    XCLIPModel(XCLIPConfig(text_config=text, vision_config=video, projection_dim=dim)).save_pretrained(folder / "xclip")
    return {name: folder / name for name in ("vita-clip", "clip", "xclip")}


def run(arguments: argparse.Namespace) -> dict:
    load = load_average()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        places = write_folders(arguments.preset, Path(folder))
        calls = {
            OURS: lambda: AutoModel.from_pretrained(places["vita-clip"]),
            CHECKED: lambda: load_checkpoint(places["vita-clip"]),
            XCLIP: lambda: AutoModel.from_pretrained(places["xclip"]),
            CLIP: lambda: AutoModel.from_pretrained(places["clip"]),
        }
        seconds = time_rounds(calls, arguments.rounds)
        sizes = {
            name: f"{sum(path.stat().st_size for path in places[key].glob('*.safetensors')) / 2**20:.0f}"
            for name, key in ((OURS, "vita-clip"), (CHECKED, "vita-clip"), (XCLIP, "xclip"), (CLIP, "clip"))
        }
    parent = Path(vitaclip_hf.__file__).parents[1]
    starts = {
        name: (lambda code=code: subprocess.run([sys.executable, "-c", code], check=True, cwd=parent))
        for name, code in IMPORTS.items()
    }
    settings = {"preset": arguments.preset, "rounds": arguments.rounds}
    extra = {name: {"weights, MiB": size} for name, size in sizes.items()}
    loads = comparison("", seconds, {"clip": CLIP}, settings, load, extra=extra)
    imports = comparison("", time_rounds(starts, arguments.rounds), {"clip": CLIP_START}, settings, load)
    title = f"loading, {arguments.preset}, float32, random weights"
    notes = [
        f"The text tower has the vocabulary of {DEMO.name}'s tokenizer for all, so that the folders are smaller than "
        "published ones.",
        "The ratios of processes are by that of CLIPModel of transformers.",
    ]
    whole = {"title": title, "notes": notes, "references": {"clip": "plain CLIP"}, "benchmark": "load"}
    return loads | whole | {"contenders": loads["contenders"] + imports["contenders"]}
