"""Zero-shot accuracy of a checkpoint on the demo's scenes (`examples/world`), beside the same CLIP without prompts.

The videos are written as H.264 files and come back through the pipeline: decoding, sampling, resizing, text tower. The
labels are all 100 scenes, in each of three wordings. "between black bars" are the same videos as files of 640 x 360.

    python examples/demo/evaluate_zero_shot.py CHECKPOINT --output results.json
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from vitaclip_hf import load_checkpoint


sys.path.append(str(Path(__file__).parents[1] / "world"))
import make_world_videos  # noqa: E402
from world import HELD_BACK, PICTURES, World  # noqa: E402


SCENES = World().scenes("demo")


def write_videos(
    folder: Path, copies: int, seed: int, held_back: Path | None = None, bars: bool = False
) -> list[tuple[str, int]]:
    """`copies` videos of each scene: path and scene number. `held_back`: pictures of the style that no training saw."""
    world, style = (World(PICTURES, held_back), HELD_BACK) if held_back else (World(), None)
    files = make_world_videos.write_videos(world, SCENES, folder, copies, seed, style, bars=bars)
    labels = [scene.label for scene in SCENES]
    return [(str(path), labels.index(label)) for path, label in files]


def answers(classifier, files: list[tuple[str, int]], name: str, wording: int = 0) -> list[int]:
    """The number of the scene that each video is taken for."""
    labels, paths = [scene.worded(wording) for scene in SCENES], [path for path, _ in files]
    results = classifier(iter(paths), candidate_labels=labels, top_k=1)
    shown = tqdm(results, total=len(paths), desc=f"{name}, wording {wording}", leave=False)
    return [labels.index(result[0]["label"]) for result in shown]


def shares(found: list[int], files: list[tuple[str, int]], name: str) -> dict[str, float]:
    """Of the videos whose scene is right, whose thing is, and whose motion is."""
    pairs = [(SCENES[answer], SCENES[truth]) for answer, (_, truth) in zip(found, files, strict=True)]
    right = {
        name: [one == other for one, other in pairs],
        f"{name}, thing alone": [one.thing == other.thing for one, other in pairs],
        f"{name}, motion alone": [one.motion == other.motion for one, other in pairs],
    }
    return {part: sum(values) / len(values) for part, values in right.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--copies", type=int, default=6, help="videos of each of the 100 scenes")
    parser.add_argument("--seed", type=int, default=77, help="of the test videos")
    parser.add_argument("--held-back", type=Path, help="zip of the style that no training saw, measured too")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    ours, frozen = (checkpoint.classifier(batch_size=32, blend=blend) for blend in (0.0, 1.0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def videos(part: str, **options) -> list[tuple[str, int]]:
            (folder / part).mkdir()
            return write_videos(folder / part, arguments.copies, arguments.seed, **options)

        plain = videos("plain")
        sets = [(f"wording {wording}", plain, wording) for wording in range(3)]
        sets.append(("between black bars", videos("bars", bars=True), 0))
        if arguments.held_back:
            sets.append((HELD_BACK, videos("style", held_back=arguments.held_back), 0))
        rows = [{}, {}]
        found = {}
        for name, files, wording in sets:
            found[name] = [answers(classifier, files, name, wording) for classifier in (ours, frozen)]
            for row, own in zip(rows, found[name], strict=True):
                row |= shares(own, files, name)
    pairs = zip(found["wording 0"][0], found["between black bars"][0], strict=True)
    same = [one == other for one, other in pairs]
    results = {
        "videos": len(plain),
        "labels": len(SCENES),
        "chance": 1 / len(SCENES),
        "seed_of_the_videos": arguments.seed,
        "vita_clip": rows[0],
        "frozen_clip": rows[1],
        "same answer between black bars": sum(same) / len(same),
    }
    print(f"| {len(plain)} H.264 videos, {len(SCENES)} labels | this checkpoint | frozen CLIP |\n| --- | ---: | ---: |")
    for name, value in rows[0].items():
        print(f"| {name} | {value:.1%} | {rows[1][name]:.1%} |")
    print(f"same answer between black bars: {results['same answer between black bars']:.1%}")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
