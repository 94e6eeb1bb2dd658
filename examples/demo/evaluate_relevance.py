"""Does relevance point at the object? Measured in the demo's world, whose things stand at known places.

Three questions, each over generated videos of the demo's scenes, with 95% intervals over the videos:

- one object: how much of the relevance for the true label lies inside the object's box, against the area of the box;
- two objects: how much of the relevance in both boxes lies in the box of the object that the label names, against its
  part of their area. Bright things alone cannot pass this one. Only pairs whose objects never touch are taken;
- frames: every other half of the frames comes from another video. Is a frame of the labelled video ranked above one of
  the other (area under the curve, chance 50%)?

    python examples/demo/evaluate_relevance.py --model examples/demo/checkpoint --videos 240
"""

import argparse
import json
from pathlib import Path

import torch
from evaluate_zero_shot import SCENES, World
from tqdm import tqdm
from world import Poses, draw_videos, trajectories

from vitaclip_hf import load_checkpoint
from vitaclip_hf.library.relevance import (
    attention_of_class_tokens,
    cosines_of,
    integrated_gradients,
    leave_one_out,
    processed,
)


DEMO = Path(__file__).resolve().parent
SIZE = 160  # of a generated video
TIMES = (torch.arange(32) + 0.5) / 32


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of the 95% interval by the normal approximation."""
    numbers = torch.tensor(values)
    return float(numbers.mean()), float(1.96 * numbers.std() / len(numbers) ** 0.5)


def boxes(poses: Poses) -> torch.Tensor:
    """Left, top, right and bottom of each thing's turned square, `(num_videos, num_frames, 4)`."""
    reach = poses.radius * (poses.angle.cos().abs() + poses.angle.sin().abs())
    return torch.stack([poses.x - reach, poses.y - reach, poses.x + reach, poses.y + reach], -1).clamp(0, 1)


def in_grid(boxes: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The part of each patch that lies in the box of its frame, `(num_frames, rows, columns)`."""

    def overlap(low: torch.Tensor, high: torch.Tensor, count: int) -> torch.Tensor:
        edges = torch.arange(count + 1) / count
        starts, ends = torch.maximum(low[:, None], edges[:-1]), torch.minimum(high[:, None], edges[1:])
        return (ends - starts).clamp(min=0) * count

    left, top, right, bottom = boxes.unbind(-1)
    return overlap(top, bottom, rows)[:, :, None] * overlap(left, right, columns)[:, None, :]


class Judge:
    """A checkpoint, its scenes, and how it reads their videos."""

    def __init__(self, model: str):
        checkpoint = load_checkpoint(model)
        self.model, self.video_processor = checkpoint.model.requires_grad_(False), checkpoint.processor.video_processor
        self.world, labels = World(), [scene.label for scene in SCENES]
        embeds = checkpoint.encoder().class_embeds(labels)[1]
        self.embeds = dict(zip(labels, embeds, strict=True))
        [self.frames] = self.video_processor.clip_specification.frame_numbers(len(TIMES), seed=0)

    def place(self, scenes: list, generator: torch.Generator) -> Poses:
        """Where the things are in the frames that the model reads."""
        return trajectories([scene.motion for scene in scenes], TIMES, generator).at(self.frames)

    def draw(self, scenes: list, generator: torch.Generator, poses: Poses) -> torch.Tensor:
        return draw_videos(self.world, scenes, generator, SIZE, poses=poses)

    def pixels(self, video: torch.Tensor) -> torch.Tensor:
        return processed(self.video_processor, video.permute(0, 3, 1, 2)).to(self.model.device)

    def maps(self, video: torch.Tensor, label: str) -> dict[str, torch.Tensor]:
        """Relevance, and two comparisons; each sums to 1."""
        pixels = self.pixels(video)
        maps = {"integrated gradients": integrated_gradients(self.model, pixels, self.embeds[label])}
        attended = attention_of_class_tokens(self.model, pixels)["patch_attention"]
        plain = pixels.flatten(2).median(-1).values[..., None, None]
        size = self.model.config.vision_config.patch_size
        differs = torch.nn.functional.avg_pool2d((pixels - plain).abs().sum(1)[:, None], size)[:, 0].cpu()
        maps["attention, mean of the layers"] = attended / attended.sum()
        maps["no model: unlike the background"] = differs / differs.sum()
        return maps


def one_object(judge: Judge, count: int, seed: int) -> dict[str, list[float]]:
    scenes = [SCENES[number * 7 % len(SCENES)] for number in range(count)]
    generator = torch.Generator().manual_seed(seed)
    poses = judge.place(scenes, generator)
    videos = judge.draw(scenes, generator, poses)
    shares: dict[str, list[float]] = {}
    for scene, video, box in tqdm(list(zip(scenes, videos, boxes(poses), strict=True)), desc="one object", leave=False):
        for name, relevance in judge.maps(video, scene.label).items():
            inside = in_grid(box, *relevance.shape[1:])
            shares.setdefault(name, []).append(float((relevance * inside).sum()))
        shares.setdefault("chance: area of the box", []).append(float(inside.mean()))
    return shares


def two_objects(judge: Judge, count: int, seed: int) -> dict[str, list[float]]:
    """The box of the second object is copied into the video of the first, which the label names."""
    draws = torch.Generator().manual_seed(seed)
    numbers = torch.randint(len(SCENES), (48_000, 2), generator=draws).tolist()  # of which few never touch
    pairs = [(SCENES[one], SCENES[other]) for one, other in numbers if SCENES[one].thing != SCENES[other].thing]
    poses = [judge.place([pair[part] for pair in pairs], draws) for part in range(2)]
    placed = [boxes(part) for part in poses]
    kept = never_touching(*placed)[:count]
    pairs, placed = [pairs[number] for number in kept], [box[kept] for box in placed]
    poses = [Poses(*(values[kept] for values in vars(part).values())) for part in poses]
    videos, others = (judge.draw([pair[part] for pair in pairs], draws, poses[part]) for part in range(2))
    parts: dict[str, list[float]] = {}
    for row, (scene, _) in enumerate(tqdm(pairs, desc="two objects", leave=False)):
        video = videos[row].clone()
        for moment, (left, top, right, bottom) in enumerate((placed[1][row] * SIZE).round().int().tolist()):
            video[moment, top:bottom, left:right] = others[row, moment, top:bottom, left:right]
        for name, relevance in judge.maps(video, scene.label).items():
            named, other = (in_grid(box[row], *relevance.shape[1:]) for box in placed)
            here, there = float((relevance * named).sum()), float((relevance * other).sum())
            parts.setdefault(name, []).append(here / max(here + there, 1e-12))
        parts.setdefault("chance: part of the area", []).append(float(named.sum() / (named.sum() + other.sum())))
    return parts


def never_touching(one: torch.Tensor, other: torch.Tensor) -> list[int]:
    """Numbers of the pairs whose boxes stay apart at every moment."""
    apart = (one[..., 2:] < other[..., :2]).any(-1) | (other[..., 2:] < one[..., :2]).any(-1)
    return apart.all(1).nonzero()[:, 0].tolist()


def frames_of_two_videos(judge: Judge, count: int, seed: int) -> dict[str, list[float]]:
    draws = torch.Generator().manual_seed(seed)
    scenes = [SCENES[number * 7 % len(SCENES)] for number in range(count)]
    videos, length = judge.draw(scenes, draws, judge.place(scenes, draws)), len(judge.frames)
    areas: dict[str, list[float]] = {}
    for number, scene in enumerate(tqdm(scenes, desc="frames", leave=False)):
        mine = torch.randperm(length, generator=draws) < length // 2
        other = videos[(number + min(37, count - 1)) % count]
        pixels = judge.pixels(torch.where(mine[:, None, None, None], videos[number], other))
        for name, found in frame_relevances(judge.model, pixels, judge.embeds[scene.label]).items():
            gaps = found.cpu()[mine][:, None] - found.cpu()[~mine]
            areas.setdefault(name, []).append(float(((gaps.sign() + 1) / 2).mean()))
    return areas


@torch.no_grad()
def frame_relevances(model, pixels: torch.Tensor, embed: torch.Tensor) -> dict[str, torch.Tensor]:
    """The package's way to say what a frame counts, and others."""
    length = len(pixels)
    features = model.visual_projection(model.vision_model(pixels[None]).pooler_output)[0]  # [T, E]
    whole = cosines_of(model, pixels[None], embed)[0]
    others = [[number for number in range(length) if number != left_out] for left_out in range(length)]
    plain = pixels.flatten(2).median(-1).values[..., None, None].expand_as(pixels)
    blank = [torch.where((torch.arange(length) == n)[:, None, None, None], plain, pixels) for n in range(length)]
    pooled = torch.stack([features[numbers].mean(0) for numbers in others])
    return {
        "replaced by its neighbour": leave_one_out(model, pixels, embed),
        "cut out": whole - torch.stack([cosines_of(model, pixels[numbers][None], embed)[0] for numbers in others]),
        "replaced by a plain frame": whole - torch.stack([cosines_of(model, part[None], embed)[0] for part in blank]),
        "left out of the mean": whole - torch.nn.functional.cosine_similarity(pooled, embed[None]),
        "its part of the mean": features @ embed / length / features.mean(0).norm(),
        "integrated gradients, sum": integrated_gradients(model, pixels, embed).sum((1, 2)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or Hub id")
    parser.add_argument("--videos", type=int, default=240, help="at most, of each question")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.videos < 2:
        parser.error("--videos: at least 2, since half of the frames come from another video.")
    judge, results = Judge(arguments.model), {}
    for name, measure in (("one object", one_object), ("two objects", two_objects), ("frames", frames_of_two_videos)):
        values = measure(judge, arguments.videos, arguments.seed)
        count = len(next(iter(values.values())))
        found = {way: interval(of_videos) for way, of_videos in values.items()}
        ways = {way: {"mean": mean, "interval": half} for way, (mean, half) in found.items()}
        results[name] = {"videos": count, "ways": ways}
        print(f"\n| {name} | mean over {count} videos |\n| --- | --- |")
        for way, (mean, half) in found.items():
            print(f"| {way} | {mean:.1%} ± {half:.1%} |", flush=True)
    if arguments.output:
        about = {"model": arguments.model, "seed": arguments.seed}
        arguments.output.write_text(json.dumps(about | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
