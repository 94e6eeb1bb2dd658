"""Zero-shot accuracy of demo checkpoints on held-out scenes of `motion_shapes`, beside the same CLIP without prompts.

The videos are written as H.264 files and come back through the pipeline: decoding, sampling, resizing, text tower. The
labels are all 60 held-out scenes, in each of three wordings.

    python examples/demo/evaluate_zero_shot.py CHECKPOINT [CHECKPOINT …] --output results.json
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoProcessor, pipeline

from vitaclip_hf import VitaClipModel
from vitaclip_hf.data.motion_shapes import all_scenes, draw_videos, write_video


NO_PROMPTS = {"use_summary_prompt": False, "use_local_prompts": False, "num_global_prompts": 0}


def write_videos(folder: Path, copies: int, seed: int) -> list[tuple[str, int]]:
    """`copies` videos of each held-out scene: path and scene number."""
    scenes, files = all_scenes(held_out=True), []
    generator = torch.Generator().manual_seed(seed)
    for copy in range(copies):
        for index, frames in enumerate(draw_videos(scenes, generator)):
            path = folder / f"{copy}_{index}.mp4"
            write_video(path, frames.numpy())
            files.append((str(path), index))
    return files


def load_pipeline(checkpoint: Path, prompts: bool):
    """The checkpoint as it is, or its frozen CLIP: no prompts, no time embedding, frames averaged."""
    # Leaving the prompts' weights out is meant here.
    chosen = {} if prompts else {"vision_config": NO_PROMPTS, "ignore_mismatched_sizes": True}
    model = VitaClipModel.from_pretrained(checkpoint, **chosen)
    if not prompts:
        torch.nn.init.zeros_(model.vision_model.time_embedding.weight)
    processor = AutoProcessor.from_pretrained(checkpoint)
    parts = {"tokenizer": processor.tokenizer, "video_processor": processor.video_processor}
    return pipeline("zero-shot-video-classification", model=model, batch_size=32, **parts)


def accuracies(classifier, files: list[tuple[str, int]], name: str, wordings=range(3)) -> dict[str, float]:
    """Top-1 for each wording of the labels, and of the motion alone."""
    scenes, scores = all_scenes(held_out=True), {}
    paths = [path for path, _ in files]
    for wording in wordings:
        labels = [scene.worded(wording) for scene in scenes]
        found = [
            labels.index(result[0]["label"])
            for result in tqdm(
                classifier(iter(paths), candidate_labels=labels, top_k=1),
                total=len(paths),
                desc=f"{name}, wording {wording}",
                leave=False,
            )
        ]
        right = [answer == truth for answer, (_, truth) in zip(found, files, strict=True)]
        motion = [scenes[a].motion == scenes[t].motion for a, (_, t) in zip(found, files, strict=True)]
        scores[f"wording {wording}"] = sum(right) / len(right)
        scores[f"wording {wording}, motion alone"] = sum(motion) / len(motion)
    return scores


def summarize(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation over the checkpoints."""
    return {
        name: {
            "mean": statistics.mean(row[name] for row in rows),
            "std": statistics.stdev(row[name] for row in rows) if len(rows) > 1 else 0.0,
        }
        for name in rows[0]
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="one trained with each seed")
    parser.add_argument("--copies", type=int, default=10, help="videos of each of the 60 held-out scenes")
    parser.add_argument("--seed", type=int, default=7, help="of the test videos")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_videos(Path(folder), arguments.copies, arguments.seed)
        ours = [accuracies(load_pipeline(path, prompts=True), files, path.name) for path in arguments.checkpoints]
        frozen = accuracies(load_pipeline(arguments.checkpoints[0], prompts=False), files, "frozen CLIP")
    results = {
        "videos": len(files),
        "labels": 60,
        "chance": 1 / 60,
        "seed_of_the_videos": arguments.seed,
        "checkpoints": dict(zip(map(str, arguments.checkpoints), ours, strict=True)),
        "vita_clip": summarize(ours),
        "frozen_clip": frozen,
    }
    print(f"| {len(files)} H.264 videos, 60 labels | Vita-CLIP, {len(ours)} seeds | frozen CLIP |\n| --- | --- | --- |")
    for name, value in results["vita_clip"].items():
        print(f"| {name} | {value['mean']:.1%} ± {value['std']:.1%} | {frozen[name]:.1%} |")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
