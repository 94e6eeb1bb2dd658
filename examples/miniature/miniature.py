"""The paper's claims in miniature: Vita-CLIP, its parts and its rivals, trained on the same generated clips.

    python examples/miniature/miniature.py --output runs/miniature --processes 2
    python examples/miniature/miniature.py --output examples/miniature --report

Every system starts from the same tiny CLIP (`clip/`, which saw captioned stills of a wider world and no video), sees
the same clips of a narrow part of that world for the same number of steps, and is tested on the same clips of trained
classes, unseen objects, unseen motions and both, and on the captions of stills. `miniature_world.py` says what is
drawn, `miniature_systems.py` what is compared, README.md what is concluded.

Learning rates are chosen first, each at the full number of steps, by accuracy on other clips of the trained kind, with
a seed of its own; where the best one is the lowest or highest tried, the grid grows. Each finished run is added to
OUTPUT/results.json at once; what is there is not run again, so that an interrupted set continues where it was, in any
number of processes.
"""

import argparse
import copy
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from filelock import FileLock, Timeout
from miniature_report import write_report
from miniature_systems import NUM_FRAMES, REWORDED, SYSTEMS, System, VitaClip, World, build, count_trained
from miniature_world import SHORTCUT, SPLITS, UNSEEN_MOTIONS, draw_clips, draw_stills, scenes_of
from torch import nn
from tqdm import tqdm
from transformers import CLIPModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vitaclip_hf import __version__
from vitaclip_hf.data.motion_shapes import MOTIONS


HERE = Path(__file__).resolve().parent
SEARCH_SEED = 99
SEEDS = (0, 1, 2, 3, 4)
# Seeds of the drawn clips.
TRAIN_CLIPS, VALIDATION_CLIPS, TEST_CLIPS, STILLS = 1, 2, 3, 4
DRAWN_AT_ONCE = 36
EVALUATION_BATCH = 48
TEST_FRAMES = (1, 2, 4, 8, 16)
BLENDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
# A grid that grows at an edge stops growing after this many rates.
LARGEST_GRID = 7
ZERO_SHOT = ("objects", "motions", "both")


class MiniatureError(ValueError):
    """What was asked for cannot be run, in one line."""


@dataclass(frozen=True)
class Setting:
    """What all runs of a results file have in common."""

    steps: int = 2400
    batch: int = 8
    points: int = 5  # of a run's curve: at all steps, at half of them, at a quarter …
    weight_decay: float = 0.01
    precision: str = "bfloat16"  # autocast of systems that run the image tower; the others are float32
    train_copies: int = 200  # clips of each of the 36 trained classes
    validation_copies: int = 12
    trained_copies: int = 12  # tests of each trained class
    objects_copies: int = 6
    motions_copies: int = 16
    both_copies: int = 8
    stills: int = 2  # draws of 256

    @property
    def curve(self) -> list[int]:
        return sorted({max(1, self.steps >> halvings) for halvings in range(self.points)})


def normalize_pixels(clips: torch.Tensor) -> torch.Tensor:
    """`[B, T, S, S, 3]` uint8 to `[B, T, 3, S, S]`, with CLIP's mean and standard deviation."""
    mean, std = (torch.tensor(value, device=clips.device) for value in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return ((clips.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)


def even_moments(num_frames: int) -> torch.Tensor:
    return (torch.arange(num_frames) + 0.5) / num_frames


def draw(
    split: str, copies: int, seed: int, *, num_frames: int = NUM_FRAMES, jitter: bool = False, shortcut: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """`copies` clips of each class of a split, `[N, T, S, S, 3]` uint8, and their labels."""
    scenes, generator = scenes_of(split), torch.Generator().manual_seed(seed)
    labels = torch.arange(copies * len(scenes)) % len(scenes)
    parts = []
    for rows in labels.split(DRAWN_AT_ONCE):
        times = even_moments(num_frames)
        if jitter:  # a random moment in each segment, as training wants it
            times = times + (torch.rand(1, generator=generator) - 0.5) * 0.6 / num_frames
        parts.append(draw_clips([scenes[row] for row in rows], generator, times, shortcut=shortcut))
    return torch.cat(parts), labels


class Clips:
    """Clips `[N, T, S, S, 3]` uint8 and labels, given out as normalised pixels or as the frozen CLIP's features."""

    def __init__(self, world: World, texts: str, pixels: torch.Tensor, labels: torch.Tensor):
        self.world, self.texts, self.pixels, self.labels = world, texts, pixels, labels

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


class Draws:
    """The clips of all runs, drawn when first asked for."""

    def __init__(self, world: World, setting: Setting):
        self.world, self.setting = world, setting
        self._tests: dict[int, dict[str, Clips]] = {}

    @cached_property
    def train(self) -> Clips:
        drawn = draw("trained", self.setting.train_copies, TRAIN_CLIPS, jitter=True, shortcut=SHORTCUT)
        return Clips(self.world, "trained", *drawn)

    @cached_property
    def validation(self) -> Clips:
        """Drawn as the training videos are, with their shortcut: nothing of the tests takes part in a choice."""
        drawn = draw("trained", self.setting.validation_copies, VALIDATION_CLIPS, shortcut=SHORTCUT)
        return Clips(self.world, "trained", *drawn)

    def tests(self, num_frames: int = NUM_FRAMES) -> dict[str, Clips]:
        if num_frames not in self._tests:
            self._tests[num_frames] = {
                split: Clips(
                    self.world,
                    split,
                    *draw(split, getattr(self.setting, f"{split}_copies"), TEST_CLIPS, num_frames=num_frames),
                )
                for split in SPLITS
            }
        return self._tests[num_frames]

    @cached_property
    def stills(self) -> list[Clips]:
        """Stills as clips of one picture throughout; each finds its caption among those of its kind in one draw."""
        generator, parts = torch.Generator().manual_seed(STILLS), []
        for number in range(self.setting.stills):
            for kind, drawn in draw_stills(generator).items():
                name = f"stills {number}, {kind}"
                self.world.texts[name] = drawn.captions
                pixels = drawn.pictures[:, None].expand(-1, NUM_FRAMES, -1, -1, -1)
                parts.append(Clips(self.world, name, pixels, torch.arange(len(pixels))))
        return parts


def draw_order(count: int, needed: int, seed: int) -> torch.Tensor:
    """`needed` clip numbers: all `count` clips in random order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-needed // count))])[:needed]


class AveragedWeights:
    """A running average of the trained weights over about the last eighth of the steps; what is tested is this.

    With a constant learning rate it makes each point of a curve what a training of that length would give.
    """

    def __init__(self, system: nn.Module):
        self.system, self.seen = system, 0
        self.average = {n: p.detach().clone() for n, p in system.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self) -> None:
        self.seen += 1
        share = min(1.0, 8 / self.seen)
        for name, parameter in self.system.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter, share)

    def averaged(self) -> nn.Module:
        """A copy of the system with the averaged weights."""
        world, self.system.world = self.system.world, None
        try:
            twin = copy.deepcopy(self.system)
        finally:
            self.system.world = world
        twin.world = world
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                if name in self.average:
                    parameter.copy_(self.average[name])
        return twin.eval()


def reduced_precision(system: System, setting: Setting, device: str):
    reduced = setting.precision == "bfloat16" and not system.on_features
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=reduced)


@torch.no_grad()
def answers(system: System, clips: Clips, setting: Setting, texts: str | None = None) -> torch.Tensor | None:
    """The best of the clips' own texts or of others, `[N]`, or `None` for a system that cannot name them."""
    found = []
    for rows in torch.arange(len(clips.labels)).split(EVALUATION_BATCH):
        with reduced_precision(system, setting, clips.world.device):
            logits = system(clips.batch(rows, system.on_features), texts or clips.texts)
        if logits is None:
            return None
        found.append(logits.argmax(-1).cpu())
    return torch.cat(found)


def accuracy(system: System, parts: list[Clips], setting: Setting, texts: str | None = None) -> float | None:
    """Top-1 over all clips of the parts."""
    found = [answers(system, clips, setting, texts) for clips in parts]
    right = [None if row is None else row == clips.labels for row, clips in zip(found, parts, strict=True)]
    return None if any(row is None for row in right) else torch.cat(right).float().mean().item()


@dataclass
class Study:
    """Trains and tests."""

    world: World
    setting: Setting

    def __post_init__(self):
        self.draws = Draws(self.world, self.setting)
        # Drawn now, so that no run's time includes it.
        self.draws.train.labels, self.draws.validation.labels, self.draws.tests()
        self.draws.stills  # noqa: B018

    @property
    def test_sets(self) -> dict[str, list[Clips]]:
        tests = {split: [clips] for split, clips in self.draws.tests().items()}
        return {"validation": [self.draws.validation], **tests, "retention": self.draws.stills}

    def test(self, system: System) -> dict[str, float | None]:
        """The accuracies of one point of a curve."""
        return {name: accuracy(system, parts, self.setting) for name, parts in self.test_sets.items()}

    def train(self, name: str, lr: float, seed: int, *, tested: bool) -> dict:
        """One run's record. Without `tested` only its last point is there, and only the validation."""
        setting, clips, system = self.setting, self.draws.train, build(name, self.world, seed)
        groups = system.parameter_groups(lr)
        optimizer = torch.optim.AdamW(groups, weight_decay=setting.weight_decay)
        warm_up = max(1, setting.steps // 50)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm_up))
        parameters = [parameter for group in groups for parameter in group["params"]]
        scales = [parameter for name, parameter in system.named_parameters() if name.endswith("logit_scale")]
        average, losses, curve = AveragedWeights(system), [], []
        record = {"trained_parameters": count_trained(system)}
        if system.on_features:
            clips.features, [part.features for part in self.draws.stills]  # noqa: B018  once for all systems
        order = draw_order(len(clips.labels), setting.steps * setting.batch, seed)
        started, cpu, spent = time.perf_counter(), time.process_time(), 0.0
        title = f"{name}, lr {lr:g}, seed {seed}"
        for step, rows in enumerate(tqdm(order.split(setting.batch), desc=title, mininterval=10, leave=False), 1):
            began = time.process_time()
            with reduced_precision(system, setting, self.world.device):
                loss = system.loss(clips.batch(rows, system.on_features), clips.labels[rows].to(self.world.device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            for scale in scales:
                scale.data.clamp_(max=math.log(100))
            average.update()
            losses.append(loss.item())
            spent += time.process_time() - began
            if step == setting.steps or (tested and step in setting.curve):
                twin = average.averaged()
                found = self.test(twin) if tested else {"validation": accuracy(twin, [self.draws.validation], setting)}
                curve.append({"step": step, "train_cpu_seconds": spent, **found})
        last = losses[-max(1, setting.steps // 8) :]
        record |= {"loss": sum(last) / len(last), "curve": curve}
        if tested and SYSTEMS[name].detailed:
            record |= self.details(twin)
        return record | {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}

    def frozen(self) -> dict:
        """The record of the CLIP that nobody trained."""
        started, cpu = time.perf_counter(), time.process_time()
        system = build("frozen", self.world, 0)
        record = {"trained_parameters": 0, "curve": [{"step": 0, "train_cpu_seconds": 0.0, **self.test(system)}]}
        record |= {"wordings": self.reworded(system)} | self.checks(system)
        return record | {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}

    def checks(self, frozen: System) -> dict:
        """Whether the world is one: stills show the words of unseen motions, and averaged frames do not solve them."""
        words: dict[str, list[bool]] = {"trained": [], "unseen": []}
        for stills in self.draws.stills:
            if stills.texts.endswith("motion"):  # objects in all motions, in the order of MOTIONS
                for row, column in enumerate(answers(frozen, stills, self.setting).tolist()):
                    motion, found = (list(MOTIONS)[index % len(MOTIONS)] for index in (row, column))
                    words["unseen" if motion in UNSEEN_MOTIONS else "trained"].append(motion == found)
        motions = {}
        for split, clips in self.draws.tests().items():
            named = [scene.motion for scene in scenes_of(split)]
            pairs = zip(clips.labels.tolist(), answers(frozen, clips, self.setting).tolist(), strict=True)
            motions[split] = [named[label] == named[found] for label, found in pairs]
        shares = [{key: sum(hits) / len(hits) for key, hits in found.items()} for found in (words, motions)]
        return {"motion_words_of_stills": shares[0], "motions_of_videos": shares[1]}

    def reworded(self, system: System) -> dict[str, float | None]:
        """Zero-shot with the average of three wordings of each class in place of its name."""
        tests = self.draws.tests()
        return {split: accuracy(system, [tests[split]], self.setting, split + REWORDED) for split in ZERO_SHOT}

    @torch.no_grad()
    def details(self, system: VitaClip) -> dict:
        """Other numbers of frames, blends with the frozen CLIP's features, and several wordings."""
        frames = {
            str(count): {
                split: accuracy(system, [clips], self.setting) for split, clips in self.draws.tests(count).items()
            }
            for count in TEST_FRAMES
        }
        blends: dict[str, dict[str, float]] = {f"{weight:g}": {} for weight in BLENDS}
        for split, parts in self.test_sets.items():
            right, total = dict.fromkeys(blends, 0), 0
            for clips in parts:
                for rows in torch.arange(len(clips.labels)).split(EVALUATION_BATCH):
                    with reduced_precision(system, self.setting, self.world.device):
                        pixels = clips.batch(rows, False)
                        prompted, plain = system.video_embeds(pixels), system.video_embeds(pixels, plain=True)
                        classes = system.class_embeds(clips.texts)
                    for weight in blends:
                        found = system.scores(
                            nn.functional.normalize(torch.lerp(prompted, plain, float(weight)), dim=-1), classes
                        ).argmax(-1)
                        right[weight] += int((found.cpu() == clips.labels[rows]).sum())
                    total += len(rows)
            for weight in blends:
                blends[weight][split] = right[weight] / total
        return {"frames": frames, "blends": blends, "wordings": self.reworded(system)}


# --- Jobs ------------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """A training to do: one learning rate of a search, or one seed of a system with its chosen rate."""

    phase: str
    system: str
    lr: float | None
    seed: int

    @property
    def key(self) -> str:
        return f"{self.phase}-{self.system}-{'none' if self.lr is None else f'{self.lr:g}'}-{self.seed}"


def search_of(name: str, records: list[dict]) -> tuple[list[float], float | None]:
    """The rates that are still to be tried, and the chosen one once there are none: the first of the best."""
    found = {r["lr"]: r["curve"][-1]["validation"] for r in records if (r["phase"], r["system"]) == ("search", name)}
    rates = SYSTEMS[name].lrs
    grid = sorted({*rates, *found})
    missing = [lr for lr in grid if lr not in found]
    if missing:
        return missing, None
    best = max(grid, key=lambda lr: found[lr])
    if len(grid) < LARGEST_GRID and best in (grid[0], grid[-1]):
        leads_with_one = f"{best:.0e}".startswith("1")  # rates are 1, 3, 10, 30 …
        factor = (3 if leads_with_one else 10 / 3) if best == grid[-1] else (0.3 if leads_with_one else 1 / 3)
        return [float(f"{best * factor:.0e}")], None
    return [], best


def pending(systems: list[str], seeds: list[int], records: list[dict]) -> list[Job]:
    """What can be run now and is not in the records: searches first, then all systems of one seed after the other."""
    done = {Job(r["phase"], r["system"], r["lr"], r["seed"]) for r in records}
    jobs, chosen = [], {}
    for name in systems:
        if not SYSTEMS[name].trained:
            jobs.append(Job("run", name, None, 0))
            continue
        tuned = SYSTEMS[name].lrs if isinstance(SYSTEMS[name].lrs, str) else name
        missing, chosen[name] = search_of(tuned, records)
        jobs += [Job("search", tuned, lr, SEARCH_SEED) for lr in missing]
    for seed in seeds:
        jobs += [Job("run", name, lr, seed) for name, lr in chosen.items() if lr is not None]
    return [job for job in dict.fromkeys(jobs) if job not in done]


def is_open(systems: list[str], records: list[dict]) -> bool:
    """Whether some search has not ended, so that more jobs will come."""
    tuned = {SYSTEMS[n].lrs if isinstance(SYSTEMS[n].lrs, str) else n for n in systems if SYSTEMS[n].trained}
    return any(search_of(name, records)[1] is None for name in tuned)


class Results:
    """`results.json`: the setting and a record for each finished run; every write replaces the file whole."""

    def __init__(self, folder: Path, setting: Setting):
        self.path, self.jobs = folder / "results.json", folder / ".jobs"
        self.setting = asdict(setting)

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

    def claim(self, job: Job) -> FileLock:
        """The lock of a job; who holds it runs it. The system frees it when its process dies."""
        self.jobs.mkdir(parents=True, exist_ok=True)
        return FileLock(self.jobs / f"{job.key}.lock")

    def add(self, record: dict) -> None:
        self.jobs.mkdir(parents=True, exist_ok=True)
        with FileLock(self.jobs / "results.lock"):
            draft = self.path.with_suffix(".tmp")
            records = [*self.read(), record]
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
        return subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", ":/vitaclip_hf", "*.py")
    revision = git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    return {
        "revision": revision or None,
        "versions": {"vitaclip_hf": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "machine": describe_machine(device),
    }


def work(arguments: argparse.Namespace) -> None:
    """One process: takes jobs until there are none."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if arguments.processes > 1:
        torch.set_num_threads(1)
    results = Results(arguments.output, arguments.setting)
    study, origin = None, describe_origin(arguments.device)
    while True:
        jobs = pending(arguments.only, arguments.seeds, results.read())
        taken = None
        for job in jobs:
            lock = results.claim(job)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            if job in pending(arguments.only, arguments.seeds, results.read()):
                taken = job
                break
            lock.release()
        if taken is None:
            if not jobs and not is_open(arguments.only, results.read()):
                return
            time.sleep(2)  # the others' searches decide what comes next
            continue
        with lock:
            study = study or Study(World(arguments.clip, arguments.device), arguments.setting)
            if taken.lr is None:
                record = study.frozen()
            else:
                record = study.train(taken.system, taken.lr, taken.seed, tested=taken.phase == "run")
            date = datetime.now(timezone.utc).isoformat(timespec="seconds")
            results.add({**taken._asdict(), **record, "date": date, **origin})
        last = {k: v for k, v in record["curve"][-1].items() if v is not None}
        tqdm.write(f"{taken.key}  " + "  ".join(f"{k} {v:.4g}" for k, v in last.items()))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of results.json, tables and figures")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", default=list(SYSTEMS), help=", ".join(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; with several, one thread each")
    parser.add_argument("--clip", type=Path, default=HERE / "clip", help="the tiny CLIP")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--report", action="store_true", help="run nothing, only write tables and figures")
    for name, value in asdict(Setting()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parsed = parser.parse_args(arguments)
    parsed.setting = Setting(**{name: getattr(parsed, name) for name in asdict(Setting())})
    return parsed


def check(arguments: argparse.Namespace) -> None:
    unknown = [name for name in arguments.only if name not in SYSTEMS]
    if unknown:
        raise MiniatureError(f"--only: there is no system {unknown[0]!r:.50}; choose from {', '.join(SYSTEMS)}.")
    for name, value in {**asdict(arguments.setting), "processes": arguments.processes}.items():
        if not isinstance(value, str) and not value > 0:
            raise MiniatureError(f"--{name.replace('_', '-')} must be positive, got {value}.")
    if arguments.setting.precision not in ("bfloat16", "float32"):
        raise MiniatureError(f"--precision must be bfloat16 or float32, got {arguments.setting.precision!r:.50}.")
    if SEARCH_SEED in arguments.seeds or min(arguments.seeds) < 0:
        raise MiniatureError(f"--seeds must be 0 or more and not {SEARCH_SEED}, which chooses the learning rates.")
    if not (arguments.clip / "config.json").is_file():
        raise MiniatureError(f"--clip: {arguments.clip} is not a checkpoint folder (no config.json).")
    if importlib.util.find_spec("matplotlib") is None:
        raise MiniatureError("the figures need matplotlib: pip install matplotlib.")
    try:
        torch.zeros(1, device=arguments.device)
    except (RuntimeError, AssertionError) as error:
        raise MiniatureError(f"--device {arguments.device}: {str(error).splitlines()[0]}") from error


def main(arguments: list[str] | None = None) -> None:
    parsed = parse_arguments(arguments)
    check(parsed)
    parsed.output.mkdir(parents=True, exist_ok=True)
    results = Results(parsed.output, parsed.setting)
    results.read()
    if not parsed.report:
        spawning = multiprocessing.get_context("spawn")
        others = [spawning.Process(target=work, args=(parsed,)) for _ in range(parsed.processes - 1)]
        for process in others:
            process.start()
        work(parsed)
        for process in others:
            process.join()
        if any(process.exitcode for process in others):
            raise MiniatureError("a process has failed (see above); the same command runs what is missing.")
    write_report(parsed.output, results.read(), asdict(parsed.setting))


if __name__ == "__main__":
    try:
        main()
    except MiniatureError as error:
        print(f"miniature.py: {error}", file=sys.stderr)
        sys.exit(2)
