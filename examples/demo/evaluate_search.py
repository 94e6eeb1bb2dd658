"""Draws videos of the held-out scenes, indexes them, and looks each up by its label.

python examples/demo/evaluate_search.py

Prints Recall@1 and @5 of the index, and of the cosines of all pairs computed here. The videos of one label differ in
their draws: finding any of them counts.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from vitaclip_hf import load_checkpoint
from vitaclip_hf.data.motion_shapes import all_scenes, draw_videos, write_video
from vitaclip_hf.library.embedding import embed_videos
from vitaclip_hf.library.store import VideoStore


DEMO = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or Hub id")
    parser.add_argument("--copies", type=int, default=5, help="videos of each of the 60 labels")
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.model)
    scenes = all_scenes(held_out=True)
    generator = torch.Generator().manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for copy in range(arguments.copies):
            for scene, frames in zip(scenes, draw_videos(scenes, generator), strict=True):
                files.append(Path(folder, f"{copy}_{scene.label}.mp4"))
                write_video(files[-1], frames.numpy())
        index = VideoStore(Path(folder, "index"))
        embed_videos(folder, index.place, checkpoint, window=4, batch_size=32)
        queries = {scene.label: index.embed_text(checkpoint, scene.label) for scene in scenes}
        pixels = [checkpoint.processor(videos=str(file), return_tensors="pt")["pixel_values_videos"] for file in files]
        with torch.no_grad():
            features = [checkpoint.model.get_video_features(clip).pooler_output[0] for clip in pixels]
        vectors = torch.nn.functional.normalize(torch.stack(features), dim=-1).numpy()

        def by_hand(query: np.ndarray) -> list[str]:
            return [files[row].stem for row in np.argsort(-(vectors @ query))[:5]]

        def by_index(query: np.ndarray) -> list[str]:
            return [Path(hit.path).stem for hit in index.search(query, 5)]

        ways = {"all pairs": by_hand, "index": by_index}
        print(f"{len(files)} videos, {len(queries)} queries")
        for name, search in ways.items():
            ranks = [[found.endswith(f"_{label}") for found in search(query)] for label, query in queries.items()]
            at_1, at_5 = (np.mean([any(hits[:k]) for hits in ranks]) for k in (1, 5))
            print(f"{name}: Recall@1 {at_1:.1%}, Recall@5 {at_5:.1%}")


if __name__ == "__main__":
    main()
