"""Zero-shot classification of video files; without arguments, the demo on the checkpoint in this repository.

python examples/classify_video.py
python examples/classify_video.py my.mp4 --labels "red star moving left" "red star turning"
python examples/classify_video.py my.mp4 --model ORG/vita-clip-b16 --labels yoga juggling --template "a video of {}"
"""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm
from transformers import pipeline
from transformers.utils.logging import disable_progress_bar

import vitaclip_hf  # noqa: F401  registers the model and the pipeline

from .. import VideoDecodingError
from ..data.motion_shapes import all_scenes


DEMO = Path(__file__).parent / "demo"
ABOUT_THE_DEMO = """
What this is: a tiny model (1.2 M parameters) trained on generated videos of coloured shapes. Its CLIP was pretrained
on captioned stills, then frozen; Vita-CLIP's prompts were trained on videos. The objects above were never seen moving
in training: their labels are scored zero-shot, through the text tower alone.
What it is not: a model of the real world. It knows six shapes, six colours and ten motions and nothing else; on other
videos its scores mean nothing. The code is the one that a full-size Vita-CLIP runs through: pass --model for yours."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", help="video files or URLs (default: the demo's)")
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or id (default: the demo's)")
    parser.add_argument("--labels", nargs="+", help="candidate labels (default: the demo's 60 held-out scenes)")
    parser.add_argument("--template", nargs="+", default=["{}"], help="sentence(s) with {} for the label")
    parser.add_argument("--top-k", type=int, default=3)
    parser.add_argument("--views", type=int, default=1, help="temporal views whose scores are averaged")
    return parser.parse_args()


def print_table(video: str, scores: list[dict]) -> None:
    print(f"\n{Path(video).name}")
    for row in scores:
        bar = "█" * round(row["score"] * 30)
        print(f"  {row['score']:7.1%}  {row['label']:<28} {bar}")


def main() -> int:
    arguments = parse_arguments()
    is_demo = not arguments.videos
    videos = arguments.videos or sorted(map(str, (DEMO / "videos").glob("*.mp4")))
    labels = arguments.labels or [scene.label for scene in all_scenes(held_out=True)]
    disable_progress_bar()  # of loading weights; ours follows
    try:
        classifier = pipeline("zero-shot-video-classification", model=arguments.model)
        options = {"hypothesis_template": arguments.template, "top_k": arguments.top_k, "num_views": arguments.views}
        started = time.perf_counter()
        results = [
            classifier(video, candidate_labels=labels, **options) for video in tqdm(videos, unit="video", leave=False)
        ]
        seconds = time.perf_counter() - started
    except (VideoDecodingError, OSError, ValueError) as error:
        print(f"classify_video: {error}", file=sys.stderr)
        return 2
    for video, scores in zip(videos, results, strict=True):
        print_table(video, scores)
    print(f"\n{len(videos)} videos, {len(labels)} labels, {seconds:.1f} s on {classifier.device}")
    if is_demo:
        truths = [Path(video).stem.replace("_", " ") for video in videos]
        right = sum(scores[0]["label"] == truth for scores, truth in zip(results, truths, strict=True))
        print(f"The files are named after what they show: {right} of {len(videos)} are right.")
        print(ABOUT_THE_DEMO)
    return 0


if __name__ == "__main__":
    sys.exit(main())
