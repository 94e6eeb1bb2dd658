"""Measures the shipped checkpoint's stated zero-shot accuracy again, on freshly drawn videos.

    python examples/demo/reproduce.py [--seed NUMBER]

The stated figure is the one of `results.json` for this checkpoint. A new seed draws the videos unless one is given.
"""

import argparse
import json
import secrets
import tempfile
from pathlib import Path

from evaluate_zero_shot import answers, write_videos
from scipy.stats import binomtest

from vitaclip_hf import load_checkpoint


FOLDER = Path(__file__).parent
WORDING = "wording 0"


def wilson(right: int, videos: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    interval = binomtest(right, videos).proportion_ci(confidence, method="wilson")
    return interval.low, interval.high


def measured(copies: int, seed: int) -> tuple[int, int]:
    """How many of the new videos the checkpoint names rightly, and how many there are."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_videos(Path(folder), copies, seed)
        classifier = load_checkpoint(FOLDER / "checkpoint").classifier(batch_size=32)
        found = answers(classifier, files, "shipped checkpoint")
    return sum(answer == truth for answer, (_, truth) in zip(found, files, strict=True)), len(files)


def report(right: int, videos: int, stated: dict, seed: int) -> str:
    """The figure that was measured, its interval, and whether the stated figure lies within."""
    low, high = wilson(right, videos)
    figure = stated["vita_clip"][WORDING]
    where = "within" if low <= figure <= high else "OUTSIDE"
    return (
        f"{right} of {videos} new videos (seed {seed}): {right / videos:.1%}, 95% interval {low:.1%} to {high:.1%} "
        f"(Wilson)\n"
        f"stated for this checkpoint: {figure:.1%} of {stated['videos']} videos, {where} the interval\n"
        "Both figures vary with their draw: of one model, about 1 run in 6 says OUTSIDE."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=6, help="videos of each of the 100 scenes")
    parser.add_argument("--seed", type=int, help="of the test videos; a new one by default")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    stated = json.loads((FOLDER / "results.json").read_text())
    print(report(*measured(arguments.copies, seed), stated, seed))


if __name__ == "__main__":
    main()
