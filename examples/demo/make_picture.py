"""Draws the README's picture: what the demo checkpoint says about one of the sample videos.

The labels are the 60 held-out scenes; the five best are drawn.

    python examples/demo/make_picture.py --output docs/images/answer.png
"""

import argparse
from pathlib import Path

from vitaclip_hf import load_checkpoint, open_video
from vitaclip_hf.data.motion_shapes import all_scenes
from vitaclip_hf.library.figure import draw_answer
from vitaclip_hf.model.zero_shot_classifier import build_zero_shot_classifier, score_videos


DEMO = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, default=DEMO / "videos" / "blue_heart_moving_up.mp4")
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or Hub id")
    parser.add_argument("--top-k", type=int, default=5, help="labels to draw")
    parser.add_argument("--output", type=Path, required=True, help="PNG, PDF or SVG file to write")
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.model)
    model, processor = checkpoint.model, checkpoint.processor
    video = open_video(arguments.video)
    [clip] = video.read_clips(processor.video_processor.clip_specification)
    pixels = processor(videos=clip, do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
    labels = [scene.label for scene in all_scenes(held_out=True)]
    class_embeds = build_zero_shot_classifier(model, processor.tokenizer, labels)
    best = score_videos(model, pixels[None], class_embeds)[0].topk(arguments.top_k)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    scores = [{"label": labels[index], "score": score} for index, score in rows]
    figure = draw_answer(clip, video.metadata.timestamps, scores, title=arguments.video.name)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output)


if __name__ == "__main__":
    main()
