"""The trial that `docs/trial.md` describes: every system at every rate, each replicate with everything drawn anew.

    python examples/world/trial.py --clips runs/clip-0 runs/clip-1 runs/clip-2 --held-back runs/held-back.zip \
        --output runs/trial
    python examples/world/trial.py --output runs/trial --report

Replicate N has the Nth CLIP, and seed N for its videos, stills, initial values and order. A finished run is a JSON file
of accuracies, and an NPZ file of the answer for each video; a run that was stopped goes on from its last save. Several
processes may work on one output folder.
"""

import argparse
import copy
import hashlib
import json
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from pretrain_clip import IMAGE_SIZE, to_pixel_values
from scipy.stats import t
from systems import NUM_FRAMES, SYSTEMS, Start, System, build, compare
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm
from transformers import CLIPModel
from transformers.utils import logging
from world import (
    BACKGROUNDS,
    HELD_BACK,
    MOTIONS,
    PICTURES,
    PLACES,
    TRAINED_MOTIONS,
    Scene,
    World,
    draw_stills,
    draw_videos,
    pick,
)


TEST_THINGS = 40  # unseen things of a replicate's videos
BATCH, WEIGHT_DECAY, WARM_UP = 16, 0.01, 50
SAVE_EVERY = 100
BLEND = 0.5  # of `blended`: each `vita` is tested a second time
NAMES = [*SYSTEMS, "blended"]
DRAWN_AT_ONCE = 50
CHECK = 3  # the replicate that checks what is said of the others; it is in no interval


def grid(things: list[str], motions) -> list[Scene]:
    return [Scene(thing, motion) for thing in things for motion in motions]


def draw_clips(world: World, scenes: list[Scene], seed: int, *, jitter: bool = False, style: str | None = None):
    """Clips `[N, T, S, S, 3]` (uint8) of a moment in each eighth of the video, a random one with `jitter`."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for start in range(0, len(scenes), DRAWN_AT_ONCE):
        times = torch.arange(NUM_FRAMES) + (0.2 + 0.6 * torch.rand(1, generator=generator) if jitter else 0.5)
        batch = scenes[start : start + DRAWN_AT_ONCE]
        parts.append(draw_videos(world, batch, generator, IMAGE_SIZE, times / NUM_FRAMES, style))
    return torch.cat(parts)


def compose(clips: torch.Tensor) -> torch.Tensor:
    """Each clip's frames as one still of exposures that fade into the past, in place of all its frames."""
    frames = clips.float()
    plain = frames.median(1).values
    still = plain
    for age in range(NUM_FRAMES):
        changed = ((frames[:, age] - plain).abs().sum(-1, keepdim=True) / 60).clamp(max=1)
        strength = 1.0 if age == NUM_FRAMES - 1 else 0.05 + 0.4 * age / (NUM_FRAMES - 1)
        still = still.lerp(frames[:, age], changed * strength)
    return still.round().to(torch.uint8)[:, None].expand_as(clips)


@dataclass
class Clips:
    """Clips, the number of each one's text, and the set of texts among which it is looked for."""

    pixels: torch.Tensor
    labels: torch.Tensor
    texts: str
    clip: Path

    @cached_property
    def features(self) -> torch.Tensor:
        """`[N, T, D]`: the frozen tower's class tokens."""
        tower = CLIPModel.from_pretrained(self.clip).vision_model
        with torch.no_grad():
            parts = [tower(to_pixel_values(part.flatten(0, 1))).pooler_output for part in self.pixels.split(64)]
        return torch.cat(parts).unflatten(0, self.pixels.shape[:2])

    def batch(self, rows: torch.Tensor, on_features: bool) -> torch.Tensor:
        if on_features:
            return self.features[rows]
        pixels = self.pixels[rows]
        return to_pixel_values(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])


class Replicate:
    """The draws of one replicate: training clips of both kinds, tests, stills, and the texts of each."""

    def __init__(self, world: World, clip: Path, number: int, copies: int):
        self.world, self.clip, self.number, self.copies = world, clip, number, copies
        draws = torch.Generator().manual_seed(number)
        others = [scene.thing for scene in world.scenes("unseen things")]
        things = [others[int(index)] for index in torch.randperm(len(others), generator=draws)[:TEST_THINGS]]
        self.trained, seen = world.scenes("trained"), grid(world.trained, TRAINED_MOTIONS)
        # Scenes, candidates and style of each test.
        self.sets = {
            "trained": (self.trained, self.trained, None),
            "unseen pairs": (world.scenes("unseen pairs"), seen, None),
            "unseen things": (grid(things, TRAINED_MOTIONS), grid(things, TRAINED_MOTIONS), None),
            "unseen motions": (world.scenes("unseen motions") * 2, grid(world.trained, MOTIONS), None),
        }
        if HELD_BACK in world.styles:
            self.sets["unseen style"] = (self.trained, seen, HELD_BACK)
        self.all_kinds = list(dict.fromkeys(scene for scenes, _, _ in self.sets.values() for scene in scenes))
        self.texts = {name: [scene.label for scene in own] for name, (_, own, _) in self.sets.items()}
        self.texts["names"] = [f"a {name}" for name in world.names]

    def seed(self, use: int) -> int:
        return self.number * 100 + use

    def start(self, all_kinds: bool) -> Start:
        scenes = self.all_kinds if all_kinds else self.trained
        return Start(self.clip, self.texts | {"training": [scene.label for scene in scenes]})

    def training(self, all_kinds: bool) -> Clips:
        scenes = self.all_kinds if all_kinds else self.trained
        pixels = torch.cat([draw_clips(self.world, scenes, self.seed(10 + n), jitter=True) for n in range(self.copies)])
        return Clips(pixels, torch.arange(len(scenes)).repeat(self.copies), "training", self.clip)

    @cached_property
    def tests(self) -> dict[str, Clips]:
        tests = {}
        for use, (name, (scenes, candidates, style)) in enumerate(self.sets.items()):
            pixels = draw_clips(self.world, scenes, self.seed(50 + use), style=style)
            labels = torch.tensor([candidates.index(scene) for scene in scenes])
            tests[name] = Clips(pixels, labels, name, self.clip)
        generator, names = torch.Generator().manual_seed(self.seed(60)), self.world.names
        spots = [("big", pick(PLACES, generator)) for _ in names]
        colors = [pick(list(BACKGROUNDS), generator) for _ in names]
        stills, _ = draw_stills(self.world, names, spots, colors, generator, IMAGE_SIZE)
        frames = stills[:, None].expand(-1, NUM_FRAMES, -1, -1, -1)
        return tests | {"names of stills, head": Clips(frames, torch.arange(len(names)), "names", self.clip)}


def in_bfloat16() -> torch.autocast:
    """Products in bfloat16, everywhere alike, also where the processor has no gain of it."""
    return torch.autocast("cpu", torch.bfloat16)


@torch.no_grad()
@in_bfloat16()
def answer(system: System, clips: Clips, texts: str, candidates: list[Scene] | None) -> dict[str, np.ndarray] | None:
    """The number of the best text for each clip, and of the best among those of the clip's thing."""
    best, best_of_thing = [], []
    things = [scene.thing for scene in candidates or ()]
    same = torch.tensor([[one == other for other in things] for one in things])
    for rows in torch.arange(len(clips.labels)).split(48):
        logits = system(clips.batch(rows, system.on_features), texts)
        if logits is None:
            return None
        best.append(logits.argmax(-1))
        if candidates:
            best_of_thing.append(logits.masked_fill(~same[clips.labels[rows]], -math.inf).argmax(-1))
    answers = {"label": best} | ({"motion, thing given": best_of_thing} if candidates else {})
    return {name: torch.cat(own).numpy().astype(np.int16) for name, own in answers.items()}


@torch.no_grad()
def answer_by_towers(towers: CLIPModel, stills: Clips, start: Start) -> np.ndarray:
    """The name of each still by image and text tower alone."""
    names = towers.get_text_features(**start.tokens(start.texts["names"])).pooler_output
    parts = [to_pixel_values(part[:, 0]) for part in stills.pixels.split(256)]
    embeds = torch.cat([towers.get_image_features(pixel_values=part).pooler_output for part in parts])
    return compare(embeds, names, towers.logit_scale).argmax(-1).numpy().astype(np.int16)


def test(name: str, system: System, replicate: Replicate) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracies, and the answers for each clip."""
    accuracies, answers = {}, {}
    for part, clips in replicate.tests.items():
        candidates = replicate.sets[part][1] if part in replicate.sets else None
        texts = "training" if part == "trained" and not SYSTEMS[name].all_kinds else clips.texts
        if name == "still" and candidates:
            clips = Clips(compose(clips.pixels), clips.labels, clips.texts, clips.clip)
        for measure, own in (answer(system, clips, texts, candidates) or {}).items():
            key = f"{part}, {measure}" if candidates else part
            answers[key], accuracies[key] = own, float((own == clips.labels.numpy()).mean())
        if candidates and f"{part}, label" in answers:
            things = np.array([scene.thing for scene in candidates])
            accuracies[f"{part}, thing"] = float((things[answers[f"{part}, label"]] == things[clips.labels]).mean())
    stills = replicate.tests["names of stills, head"]
    towers = system.towers() or CLIPModel.from_pretrained(replicate.clip)
    own = answers["names of stills, towers"] = answer_by_towers(towers, stills, system.start)
    accuracies["names of stills, towers"] = float((own == stills.labels.numpy()).mean())
    return accuracies, answers


def compile_parts(system: System) -> None:
    """Compiles what takes most of a step. Needs a C++ compiler; the steps are the same but for rounding."""
    torch.compiler.reset()
    for name, part in system.named_modules():
        if name.split(".")[-1] in ("vision_model", "text_model", "temporal", "mit"):
            part.compile(dynamic=False)


def run(
    name: str, rate: float | None, replicate: Replicate, steps: int, state: Path, compiled: bool
) -> tuple[dict, dict]:
    """Trains and tests one system; goes on from `state`."""
    kinds = SYSTEMS[name].all_kinds
    system = build(name, replicate.start(kinds), replicate.number)
    trained = [parameter for parameter in system.parameters() if parameter.requires_grad]
    record = {"system": name, "rate": rate, "replicate": replicate.number, "steps": steps if rate else 0}
    record |= {"trained_parameters": sum(parameter.numel() for parameter in trained), "points": []}
    weights = (replicate.clip / "model.safetensors").read_bytes()
    record["made_of"] = [hashlib.sha256(weights).hexdigest()[:16], *replicate.world.styles]
    if rate is None:
        accuracies, answers = test(name, system.eval(), replicate)
        return record | {"points": [{"step": 0, **accuracies}]}, answers
    clips = replicate.training(kinds)
    optimizer = torch.optim.AdamW(system.parameter_groups(rate), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP))
    # Mean of the weights over about the last eighth of the steps: each point is what a training of its length gives.
    average = AveragedModel(system, avg_fn=lambda mean, new, seen: torch.lerp(mean, new, min(1.0, 8 / (int(seen) + 1))))
    parts, done, spent = {"system": system, "average": average, "optimizer": optimizer, "schedule": schedule}, 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        for key, part in parts.items():
            part.load_state_dict(saved["states"][key])
        done, record = saved["step"], saved["record"]
        spent = record["cpu_seconds"]
    if compiled:
        compile_parts(system)
    order = torch.Generator().manual_seed(replicate.seed(1))
    epochs = -(-steps * BATCH // len(clips.labels))
    rows = torch.cat([torch.randperm(len(clips.labels), generator=order) for _ in range(epochs)])[: steps * BATCH]
    started = time.process_time()
    title = f"{name} {rate:g} {replicate.number}"
    for step in tqdm(range(done + 1, steps + 1), desc=title, mininterval=60, leave=False):
        torch.manual_seed(replicate.seed(2) * 10**5 + step)  # a run that goes on draws what one without a stop draws
        batch = rows[(step - 1) * BATCH : step * BATCH]
        with in_bfloat16():
            loss = system.loss(clips.batch(batch, system.on_features), clips.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(system)
        if step in (steps // 2, steps):
            tested = copy.deepcopy(average.module).eval()  # a copy: a test names classes of its own
            accuracies, answers = test(name, tested, replicate)
            record["points"].append({"step": step, "loss": loss.item(), **accuracies})
            if name == "vita":
                tested.blend = BLEND
                accuracies, blended = test(name, tested, replicate)
                record.setdefault("blended", []).append({"step": step, "loss": loss.item(), **accuracies})
                answers |= {f"{part}, blended": own for part, own in blended.items()}
        if step < steps and (step % SAVE_EVERY == 0 or step == steps // 2):
            record["cpu_seconds"] = spent + time.process_time() - started
            states = {key: part.state_dict() for key, part in parts.items()}
            torch.save({"states": states, "record": record, "step": step}, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
    return record | {"cpu_seconds": spent + time.process_time() - started}, answers


def work(arguments: argparse.Namespace) -> None:
    logging.set_verbosity_error()  # of weights that are new by intent
    logging.disable_progress_bar()
    world, replicates = World(PICTURES, *arguments.held_back), {}
    for number, clip in enumerate(arguments.clips):
        for name in arguments.only:
            for rate in SYSTEMS[name].rates or [None]:
                path = arguments.output / f"{name}-{rate or 0:g}-{number}.json"
                lock, state = FileLock(path.with_suffix(".lock")), path.with_suffix(".pt")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                with lock:
                    if path.exists():
                        continue
                    if number not in replicates:
                        replicates = {number: Replicate(world, clip, number, arguments.copies)}
                    record, answers = run(name, rate, replicates[number], arguments.steps, state, arguments.compile)
                    np.savez_compressed(path.with_suffix(".npz"), **answers)
                    path.write_text(json.dumps(record, indent=1) + "\n")
                    state.unlink(missing_ok=True)


def half_width(values: list[float]) -> float:
    """Half of the 95% interval by Student's t over the replicates."""
    count = len(values)
    return t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5 if count > 1 else math.inf


def interval(values: list[float]) -> str:
    return f"{np.mean(values):.1%}" + (f" ± {half_width(values):.1%}" if len(values) > 1 else "")


def read_points(folder: Path, check: bool = False) -> dict[tuple[str, float], dict[int, list[dict]]]:
    """The tested points of each system and rate, by replicate: of the one that checks, or of all others."""
    runs, made_of = defaultdict(dict), {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        number, own = record["replicate"], record.get("made_of")  # the runs of 2026-11-30 do not say
        if own and made_of.setdefault(number, own) != own:
            raise SystemExit(f"{path}: another CLIP or other styles than other runs of replicate {number}.")
        if (number == CHECK) != check:
            continue
        runs[record["system"], record["rate"] or 0][record["replicate"]] = record["points"]
        if "blended" in record:
            runs["blended", record["rate"]][record["replicate"]] = record["blended"]
    return dict(sorted(runs.items(), key=lambda item: (NAMES.index(item[0][0]), item[0][1])))


def measures_of(points: dict) -> list[str]:
    return [name for name in points[-1] if name not in ("step", "loss")]


def cell(own: dict[int, list[dict]], measure: str) -> str:
    """The mean over the replicates with its interval, and what the last half of the steps added."""
    points = [each for each in own.values() if measure in each[-1]]
    rises = [each[-1][measure] - each[0][measure] for each in points if len(each) > 1]
    added = f" ({np.mean(rises):+.1%})" if rises else ""
    return interval([each[-1][measure] for each in points]) + added if points else "–"


def report(folder: Path) -> str:
    """A table for each kind of measure: every system at every rate on every set."""
    runs, lines, sets = read_points(folder), [], defaultdict(list)
    for measure in dict.fromkeys(
        name for own in runs.values() for points in own.values() for name in measures_of(points)
    ):
        name, kind = measure.split(", ", 1)
        sets[kind].append(name)
    for kind, names in sets.items():
        lines += [f"\n| {kind} | rate | replicates | {' | '.join(names)} |", "| --- |" + " ---: |" * (2 + len(names))]
        for (system, rate), own in runs.items():
            cells = [cell(own, f"{name}, {kind}") for name in names]
            if {*cells} != {"–"}:
                lines.append(f"| {system} | {rate:g} | {len(own)} | {' | '.join(cells)} |")
    checks = read_points(folder, check=True)
    if checks:
        lines += [
            f"\n| replicate {CHECK} | rate | figures | in the interval of the others |",
            "| --- |" + " ---: |" * 3,
        ]
    for (system, rate), own in checks.items():
        others, inside = list(runs.get((system, rate), {}).values()), []
        for measure in measures_of(own[CHECK]) if len(others) > 1 else ():
            values = [each[-1][measure] for each in others]
            inside.append(abs(own[CHECK][-1][measure] - np.mean(values)) <= half_width(values))
        lines.append(f"| {system} | {rate:g} | {len(inside)} | {sum(inside)} |")
    return "\n".join(lines)


def draw(folder: Path) -> Figure:
    """
    Each measure of what was not trained against the supervised accuracy: a line a system, a point a rate. A system at a
    rate that not all replicates have is left out.
    """
    measures = [f"{name}, label" for name in ("unseen pairs", "unseen things", "unseen motions", "unseen style")]
    measures += ["unseen things, motion, thing given", "names of stills, head"]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    lines: dict[str, dict] = defaultdict(dict)
    runs = read_points(folder)
    for (name, rate), own in runs.items():
        if len(own) == max(map(len, runs.values())):
            lines[name][rate] = [points[-1] for points in own.values()]
    lines.pop("linear", None)  # it knows no other class
    everywhere = set.intersection(*(set(point) for rates in lines.values() for own in rates.values() for point in own))
    measures = [name for name in measures if name in everywhere]  # the unseen style may be missing
    panels = figure.subplots(2, 3, sharex=True).flat[: len(measures)]
    for axes, measure in zip(panels, measures, strict=True):
        for color, (name, rates) in enumerate(lines.items()):
            style = {"color": f"C{color % 10}", "marker": "osD^v"[color % 5], "label": name, "markersize": 4}
            middles, spans = [], []
            for key in ("trained, label", measure):
                values = [[100 * point[key] for point in own] for own in rates.values()]
                middles.append([np.mean(own) for own in values])
                spans.append([half_width(own) if len(own) > 1 else 0 for own in values])
            axes.errorbar(*middles, xerr=spans[0], yerr=spans[1], elinewidth=0.6, linewidth=1, **style)
        axes.set_title(measure, fontsize=10)
        axes.grid(alpha=0.3)
    figure.supxlabel("trained classes, top-1 (%)")
    figure.supylabel("top-1 (%)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    return figure


def compare_systems(folder: Path, one: str, other: str) -> str:
    """What rules 1 and 3 of the protocol say of two systems, for each measure that both have, and the check."""
    runs, checks, supervised = read_points(folder), read_points(folder, check=True), "trained, label"
    near = {}
    for name in (one, other):
        own = {rate: points for (system, rate), points in runs.items() if system == name}
        if not own:
            raise SystemExit(f"{folder}: no finished run of {name}.")
        means = {rate: np.mean([each[-1][supervised] for each in points.values()]) for rate, points in own.items()}
        near[name] = {rate: own[rate] for rate, mean in means.items() if mean >= max(means.values()) - 0.02}
    first, second = (measures_of(next(iter(next(iter(near[name].values())).values()))) for name in (one, other))
    lines = [f"| {one} − {other} | smallest | largest | said | converged | replicate {CHECK} |"]
    lines += ["| --- | ---: | ---: | --- | --- | --- |"]
    pairs = len(near[one]) * len(near[other])
    checked = [[checks[name, rate][CHECK][-1] for rate in near[name] if (name, rate) in checks] for name in near]
    for measure in (name for name in first if name in second):
        ends = []
        for a in near[one].values():
            for b in near[other].values():
                gaps = [a[number][-1][measure] - b[number][-1][measure] for number in a.keys() & b.keys()]
                ends += [np.mean(gaps) - half_width(gaps), np.mean(gaps) + half_width(gaps)]
        said = one if min(ends) > 0 else other if max(ends) < 0 else "not decided"
        each_rate = [points.values() for rates in near.values() for points in rates.values()]
        added = [abs(np.mean([each[-1][measure] - each[0][measure] for each in points])) for points in each_rate]
        again = [a[measure] - b[measure] for a in checked[0] for b in checked[1]]
        check = f"{min(again):.1%} to {max(again):.1%}, {len(again)} of {pairs} pairs" if again else "–"
        converged = max(added) < 0.01
        lines.append(f"| {measure} | {min(ends):.1%} | {max(ends):.1%} | {said} | {converged} | {check} |")
    for name in near:
        found = sum(len(own) for (system, _), own in runs.items() if system == name)
        if found < (all_runs := 3 * len(SYSTEMS["vita" if name == "blended" else name].rates or [0])):
            lines.append(f"\n{name}: {found} of {all_runs} runs are finished, so rule 1 says nothing yet.")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="folders of tiny CLIPs, one a replicate")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--held-back", type=Path, nargs="*", default=[], help="zip of the held-back style")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--copies", type=int, default=16, help="training clips of each class")
    parser.add_argument("--compile", action="store_true", help="train compiled systems (needs a C++ compiler)")
    parser.add_argument("--report", action="store_true", help="print the tables only")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw the curves, and print the tables only")
    parser.add_argument("--compare", nargs=2, choices=NAMES, help="print what may be said of two systems only")
    parsed = parser.parse_args(arguments)
    parsed.output.mkdir(parents=True, exist_ok=True)
    if parsed.compare:
        print(compare_systems(parsed.output, *parsed.compare))
        return
    if not (parsed.report or parsed.draw):
        work(parsed)
    if parsed.draw:
        draw(parsed.output).savefig(parsed.draw, dpi=110)
    print(report(parsed.output))


if __name__ == "__main__":
    main()
