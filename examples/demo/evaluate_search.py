"""Draws videos of the demo's scenes, indexes them, and looks each up by its label.

python examples/demo/evaluate_search.py

Prints Recall@1 and @5 of the index, and of the cosines of all pairs computed here. The videos of one label differ in
their draws: finding any of them counts.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from evaluate_zero_shot import SCENES, write_videos

from vitaclip_hf import load_checkpoint
from vitaclip_hf.library.embedding import embed_videos
from vitaclip_hf.library.store import VideoStore


DEMO = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or Hub id")
    parser.add_argument("--copies", type=int, default=5, help="videos of each of the 100 labels")
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        written = write_videos(Path(folder), arguments.copies, arguments.seed)
        files = [path for path, _ in written]  # in folders that are named after their labels
        index = VideoStore(Path(folder, "index"))
        embed_videos(folder, index.place, checkpoint, window=4, batch_size=32)
        queries = {scene.label: index.embed_text(checkpoint, scene.label) for scene in SCENES}
        pixels = [checkpoint.processor(videos=file, return_tensors="pt")["pixel_values_videos"] for file in files]
        with torch.no_grad():
            features = [checkpoint.model.get_video_features(clip).pooler_output[0] for clip in pixels]
        vectors = torch.nn.functional.normalize(torch.stack(features), dim=-1).numpy()

        def by_hand(query: np.ndarray) -> list[str]:
            return [Path(files[row]).parent.name for row in np.argsort(-(vectors @ query))[:5]]

        def by_index(query: np.ndarray) -> list[str]:
            return [Path(hit.path).parent.name for hit in index.search(query, 5)]

        ways = {"all pairs": by_hand, "index": by_index}
        print(f"{len(files)} videos, {len(queries)} queries")
        for name, search in ways.items():
            ranks = [[found == label for found in search(query)] for label, query in queries.items()]
            at_1, at_5 = (np.mean([any(hits[:k]) for hits in ranks]) for k in (1, 5))
            print(f"{name}: Recall@1 {at_1:.1%}, Recall@5 {at_5:.1%}")


if __name__ == "__main__":
    main()
