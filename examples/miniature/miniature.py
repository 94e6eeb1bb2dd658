"""The paper's claims in miniature: Vita-CLIP's parts and its rivals, trained on the same generated clips.

    python examples/miniature/miniature.py --output examples/miniature

Every system starts from the same tiny CLIP (the frozen part of the demo's checkpoint), sees the same clips of
`motion_shapes` for the same number of steps, and is tested on the same new clips: supervised, 300 trained scenes, and
zero-shot, 60 scenes whose objects never moved in training. Learning rates are chosen first, by supervised accuracy on
clips of their own, from three for each system, with a seed of its own.

Each finished run is added to OUTPUT/results.json at once; what is there is not run again, so an interrupted set goes
on where it was. Tables and plots are made from that file at the end (and alone, with `--report`). Two processes may
share an output folder, each with its own `--only`.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import torch
import transformers
from filelock import FileLock
from miniature_report import write_report
from miniature_systems import NUM_FRAMES, SYSTEMS, World, build, count_trained, extract_clip
from torch import nn
from tqdm import tqdm
from transformers import CLIPModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vitaclip_hf import __version__
from vitaclip_hf.data.motion_shapes import all_scenes, draw_videos
from vitaclip_hf.model.frame_sampling import sample_clips


ROOT = Path(__file__).resolve().parents[2]
IMAGE_SIZE = 48
VIDEO_FRAMES = 32
TEST_FRAMES = (1, 2, 4, 8, 16, 32)
SEARCH_SEED = 99
# Seeds of the drawn clips.
TRAIN_CLIPS, VALIDATION_CLIPS, TEST_CLIPS = 1, 2, 3
EVALUATION_BATCH = 60


class MiniatureError(ValueError):
    """What was asked for cannot be run, in one line."""


@dataclass(frozen=True)
class Setting:
    """What all runs of a results file have in common."""

    steps: int = 800
    batch: int = 8
    weight_decay: float = 0.01
    precision: str = "bfloat16"  # autocast of systems that run the image tower; the others are float32
    train_copies: int = 24  # clips of each of the 300 trained scenes
    validation_copies: int = 2
    supervised_copies: int = 3
    zero_shot_copies: int = 20  # clips of each of the 60 held-out scenes

    @property
    def search_steps(self) -> int:
        """Learning rates are chosen on a third of the steps."""
        return max(1, self.steps // 3)


def normalize_pixels(clips: torch.Tensor) -> torch.Tensor:
    """`[B, T, S, S, 3]` uint8 to `[B, T, 3, S, S]`, with CLIP's mean and standard deviation."""
    mean, std = (torch.tensor(value, device=clips.device) for value in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return ((clips.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)


def draw(held_out: bool, copies: int, seed: int, times: Callable) -> tuple[torch.Tensor, torch.Tensor]:
    """`copies` videos of each scene, `[N, T, S, S, 3]` uint8, and their labels; `times` is asked for each batch."""
    scenes, generator = all_scenes(held_out=held_out), torch.Generator().manual_seed(seed)
    labels = torch.arange(copies * len(scenes)) % len(scenes)
    parts = [
        draw_videos([scenes[row] for row in rows], generator, size=IMAGE_SIZE, times=times(generator))
        for rows in labels.split(EVALUATION_BATCH)
    ]
    return torch.cat(parts), labels


def random_moments(generator: torch.Generator) -> torch.Tensor:
    """A moment in each segment of the video, as training wants them: `[T]`."""
    return (torch.arange(NUM_FRAMES) + 0.2 + 0.6 * torch.rand(1, generator=generator)) / NUM_FRAMES


def even_moments(generator: torch.Generator) -> torch.Tensor:
    """Those of a whole video's frames."""
    return (torch.arange(VIDEO_FRAMES) + 0.5) / VIDEO_FRAMES


class Clips:
    """Clips `[N, T, S, S, 3]` uint8 and labels, given out as normalised pixels or as the frozen CLIP's features."""

    def __init__(self, world: World, split: str, pixels: torch.Tensor, labels: torch.Tensor):
        self.world, self.split, self.pixels, self.labels = world, split, pixels, labels

    @cached_property
    def features(self) -> torch.Tensor:
        """`[N, T, D]`: class tokens after the frozen tower's last LayerNorm."""
        clip = CLIPModel.from_pretrained(self.world.clip).to(self.world.device)
        with torch.no_grad():
            return torch.cat(
                [
                    clip.vision_model(normalize_pixels(part.to(clip.device)).flatten(0, 1))
                    .pooler_output.unflatten(0, part.shape[:2])
                    .cpu()
                    for part in self.pixels.split(EVALUATION_BATCH)
                ]
            )

    def batch(self, rows: torch.Tensor, on_features: bool) -> torch.Tensor:
        if on_features:
            return self.features[rows].to(self.world.device)
        return normalize_pixels(self.pixels[rows].to(self.world.device))


def draw_order(count: int, needed: int, seed: int) -> torch.Tensor:
    """`needed` clip numbers: all `count` clips in random order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-needed // count))])[:needed]


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, times a cosine to zero."""
    return min(1.0, (step + 1) / max(1, steps // 10)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def score(system: nn.Module, clips: Clips, rows: torch.Tensor, precision: str) -> torch.Tensor | None:
    """Logits `[B, C]` of some clips."""
    reduced = precision == "bfloat16" and not system.on_features
    with torch.autocast(clips.world.device.split(":")[0], torch.bfloat16, enabled=reduced):
        return system(clips.batch(rows, system.on_features), clips.split)


def train(system: nn.Module, clips: Clips, setting: Setting, steps: int, lr: float, seed: int, title: str) -> float:
    """The one training loop; returns the mean loss of the last tenth."""
    parameters = [parameter for parameter in system.parameters() if parameter.requires_grad]
    groups = getattr(system, "parameter_groups", lambda lr: [{"params": parameters, "lr": lr}])(lr)
    optimizer = torch.optim.AdamW(groups, weight_decay=setting.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
    scales = [parameter for name, parameter in system.named_parameters() if name.endswith("logit_scale")]
    losses = []
    order = draw_order(len(clips.labels), steps * setting.batch, seed)
    for rows in tqdm(order.split(setting.batch), desc=title, unit="step", mininterval=5, leave=False):
        logits = score(system, clips, rows, setting.precision)
        loss = nn.functional.cross_entropy(logits.float(), clips.labels[rows].to(logits.device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        for scale in scales:
            scale.data.clamp_(max=math.log(100))
        losses.append(loss.item())
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)


@torch.no_grad()
def accuracy(system: nn.Module, clips: Clips, precision: str) -> float | None:
    """Top-1, or `None` for a system that cannot name these classes."""
    right = 0
    for rows in torch.arange(len(clips.labels)).split(EVALUATION_BATCH):
        logits = score(system, clips, rows, precision)
        if logits is None:
            return None
        right += int((logits.argmax(-1).cpu() == clips.labels[rows]).sum())
    return right / len(clips.labels)


class Draws:
    """The clips of all runs, drawn when first asked for. Tests are whole videos, whose frames are then sampled."""

    def __init__(self, world: World, setting: Setting):
        self.world, self.setting, self.sampled = world, setting, {}

    @cached_property
    def train(self) -> Clips:
        return Clips(self.world, "trained", *draw(False, self.setting.train_copies, TRAIN_CLIPS, random_moments))

    @cached_property
    def validation(self) -> Clips:
        videos = draw(False, self.setting.validation_copies, VALIDATION_CLIPS, even_moments)
        return self.sample("trained", *videos, NUM_FRAMES)

    @cached_property
    def test_videos(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        copies = {"trained": self.setting.supervised_copies, "held_out": self.setting.zero_shot_copies}
        return {split: draw(split == "held_out", copies[split], TEST_CLIPS, even_moments) for split in copies}

    def sample(self, split: str, videos: torch.Tensor, labels: torch.Tensor, num_frames: int) -> Clips:
        [frames] = sample_clips(VIDEO_FRAMES, num_frames, "uniform")
        return Clips(self.world, split, videos[:, frames], labels)

    def test(self, num_frames: int = NUM_FRAMES) -> tuple[Clips, Clips]:
        """Supervised and zero-shot."""
        if num_frames not in self.sampled:
            self.sampled[num_frames] = tuple(
                self.sample(split, *videos, num_frames) for split, videos in self.test_videos.items()
            )
        return self.sampled[num_frames]


class Results:
    """`results.json`: the setting and a record for each finished run; every write replaces the file whole."""

    def __init__(self, folder: Path, setting: Setting):
        self.path, self.lock = folder / "results.json", FileLock(folder / ".lock")
        self.setting = asdict(setting)
        folder.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[dict]:
        if not self.path.exists():
            return []
        try:
            content = json.loads(self.path.read_text())
            records, setting = content["records"], content["setting"]
        except (ValueError, KeyError, TypeError) as error:
            raise MiniatureError(
                f"{self.path} is not a results file of this script ({error}); move it away."
            ) from error
        changed = [name for name, value in self.setting.items() if setting.get(name) != value]
        if changed:
            raise MiniatureError(
                f"{self.path} was made with "
                + ", ".join(f"{name} {setting.get(name)} (now {self.setting[name]})" for name in changed)
                + "; runs of different settings do not mix: choose another --output."
            )
        return records

    def find(self, **key) -> list[dict]:
        return [record for record in self.read() if all(record[name] == value for name, value in key.items())]

    def add(self, record: dict) -> None:
        with self.lock:
            key = {name: record.get(name) for name in ("phase", "system", "seed")}
            # A run with another learning rate takes the place of the old one.
            old = [r for r in self.read() if record.get("phase") != "run" or any(r[k] != v for k, v in key.items())]
            records = [*old, record]
            draft = self.path.with_suffix(".tmp")
            draft.write_text(json.dumps({"setting": self.setting, "records": records}, indent=1) + "\n")
            os.replace(draft, self.path)


def describe_machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores of {processor}, {platform.system()}"


def describe_origin(device: str) -> dict:
    """Where the records of this process come from; the code is what was read at its start."""

    def git(*command: str) -> str:
        if shutil.which("git") is None:
            return ""
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "vitaclip_hf", "examples/miniature/*.py")
    revision = git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    return {
        "revision": revision or None,
        "versions": {"vitaclip_hf": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "machine": describe_machine(device),
    }


class Study:
    """Runs what is missing."""

    def __init__(self, world: World, setting: Setting, results: Results):
        self.world, self.setting, self.results, self.draws = world, setting, results, Draws(world, setting)
        self.origin = describe_origin(world.device)
        self.draws.train  # noqa: B018  drawn now, so that no run's time includes it

    def trained_system(self, name: str, steps: int, lr: float | None, seed: int, title: str) -> tuple[nn.Module, dict]:
        """A system after its training, and what there is to say about that."""
        system = build(name, self.world, seed)
        record = {"system": name, "seed": seed, "steps": steps, "lr": lr}
        record |= {"trained_parameters": count_trained(system), "loss": None}
        if steps:
            record["loss"] = train(system, self.draws.train, self.setting, steps, lr, seed, title)
        return system, record

    def search(self, name: str) -> float:
        """The learning rate with the best supervised accuracy on the validation clips (the first of equals)."""
        tuned = SYSTEMS[name].lrs if isinstance(SYSTEMS[name].lrs, str) else name
        lrs = SYSTEMS[tuned].lrs
        for lr in lrs:
            if not self.results.find(phase="search", system=tuned, lr=lr):
                validation = self.draws.validation
                started, cpu = time.perf_counter(), time.process_time()
                title, steps = f"search {tuned}, lr {lr:g}", self.setting.search_steps
                system, record = self.trained_system(tuned, steps, lr, SEARCH_SEED, title)
                record |= {"phase": "search", "validation": accuracy(system, validation, self.setting.precision)}
                self.finish(record, started, cpu)
        found = {record["lr"]: record["validation"] for record in self.results.find(phase="search", system=tuned)}
        return max(lrs, key=found.__getitem__)

    def run(self, name: str, seed: int) -> None:
        """Trains and tests one system, unless its record is there."""
        steps = self.setting.steps if SYSTEMS[name].trained else 0
        lr = self.search(name) if steps else None
        if self.results.find(phase="run", system=name, seed=seed, lr=lr):
            return
        self.draws.test()
        started, cpu = time.perf_counter(), time.process_time()
        system, record = self.trained_system(name, steps, lr, seed, f"{name}, seed {seed}")
        record |= {"phase": "run"} | self.test(system, NUM_FRAMES)
        if SYSTEMS[name].frames:
            record["frames"] = {str(count): self.test(system, count) for count in TEST_FRAMES}
        self.finish(record, started, cpu)

    def test(self, system: nn.Module, num_frames: int) -> dict[str, float | None]:
        clips = zip(("supervised", "zero_shot"), self.draws.test(num_frames), strict=True)
        return {name: accuracy(system, part, self.setting.precision) for name, part in clips}

    def finish(self, record: dict, started: float, cpu: float) -> None:
        record |= {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
        record |= {"date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        self.results.add(record | self.origin)
        told = ("phase", "system", "seed", "lr", "loss", "validation", "supervised", "zero_shot", "seconds")
        values = {key: record[key] for key in told if key in record}
        tqdm.write("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    standard = Setting()
    parser.add_argument("--output", type=Path, default=ROOT / "examples" / "miniature")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", default=list(SYSTEMS), help=", ".join(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=standard.steps)
    parser.add_argument("--batch", type=int, default=standard.batch, help="clips of a step")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default=standard.precision, help="of training")
    parser.add_argument("--train-copies", type=int, default=standard.train_copies, help="clips of each trained scene")
    parser.add_argument("--validation-copies", type=int, default=standard.validation_copies, help="to choose lr on")
    parser.add_argument("--supervised-copies", type=int, default=standard.supervised_copies, help="tests of each one")
    parser.add_argument("--zero-shot-copies", type=int, default=standard.zero_shot_copies, help="of each held-out one")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "examples" / "demo" / "checkpoint")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--report", action="store_true", help="run nothing, only write tables and plots")
    parsed = parser.parse_args(arguments)
    parsed.setting = Setting(
        **{name: getattr(parsed, name) for name in vars(standard) if hasattr(parsed, name)},
    )
    return parsed


def check(arguments: argparse.Namespace) -> None:
    unknown = [name for name in arguments.only if name not in SYSTEMS]
    if unknown:
        raise MiniatureError(f"--only: there is no system {unknown[0]!r}; choose from {', '.join(SYSTEMS)}.")
    for name, value in asdict(arguments.setting).items():
        if not isinstance(value, str) and value <= 0:
            raise MiniatureError(f"--{name.replace('_', '-')} must be positive, got {value}.")
    if SEARCH_SEED in arguments.seeds or min(arguments.seeds) < 0:
        raise MiniatureError(f"--seeds must be 0 or more and not {SEARCH_SEED}, which chooses the learning rates.")
    if not (arguments.checkpoint / "config.json").is_file():
        raise MiniatureError(f"--checkpoint: {arguments.checkpoint} is not a checkpoint folder (no config.json).")
    if importlib.util.find_spec("matplotlib") is None:
        raise MiniatureError("the plots need matplotlib: pip install matplotlib.")
    try:
        torch.zeros(1, device=arguments.device)
    except (RuntimeError, AssertionError) as error:
        raise MiniatureError(f"--device {arguments.device}: {str(error).splitlines()[0]}") from error


def main(arguments: list[str] | None = None) -> None:
    parsed = parse_arguments(arguments)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    check(parsed)
    results = Results(parsed.output, parsed.setting)
    if not parsed.report:
        results.read()
        with tempfile.TemporaryDirectory() as folder:
            study = Study(World(extract_clip(parsed.checkpoint, Path(folder)), parsed.device), parsed.setting, results)
            for name in parsed.only:
                for seed in parsed.seeds if SYSTEMS[name].trained else [0]:
                    study.run(name, seed)
    write_report(parsed.output, results.read(), asdict(parsed.setting))


if __name__ == "__main__":
    try:
        main()
    except MiniatureError as error:
        print(f"miniature.py: {error}", file=sys.stderr)
        sys.exit(2)
