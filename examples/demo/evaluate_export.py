"""What exports cost: accuracy on the demo's scenes, and cosine with torch of a random ViT-B/16.

OMP_NUM_THREADS=1 python examples/demo/evaluate_export.py --copies 2
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from evaluate_zero_shot import SCENES, write_videos

from vitaclip_hf import VitaClipConfig, VitaClipModel, load_checkpoint
from vitaclip_hf.export import onnx_file, openvino_file
from vitaclip_hf.export.verification import VerificationError, verify
from vitaclip_hf.export.video_scorer import VideoScorer


KINDS = [(onnx_file, "float32"), (onnx_file, "int8"), (openvino_file, "float32"), (openvino_file, "bfloat16")]
KINDS += [(openvino_file, "int8")]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=2, help="videos of each of the 100 scenes")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(Path(__file__).parent / "checkpoint")
    labels = [scene.label for scene in SCENES]
    classes = checkpoint.encoder().class_embeds(labels)[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_videos(folder, arguments.copies, seed=7)
        batches = [
            checkpoint.processor(videos=[path for path, _ in files[n : n + 20]], return_tensors="pt")
            for n in range(0, len(files), 20)
        ]
        pixels = [batch["pixel_values_videos"] for batch in batches]
        truth = np.array([scene for _, scene in files])
        scorer = VideoScorer(checkpoint.model).eval()
        expected = np.concatenate([scorer(part, classes)[0].numpy() for part in pixels])
        print(f"torch float32: {(expected.argmax(1) == truth).mean():.4f} of {len(truth)} videos")
        torch.manual_seed(0)
        large = VitaClipModel(VitaClipConfig()).eval()
        for backend, dtype in KINDS:
            target = folder / f"{backend.__name__.rpartition('.')[2]}-{dtype}"
            target.mkdir()
            run = backend.Runner(backend.write(checkpoint.model, target, dtype), dtype)
            found = np.concatenate([run(part.numpy(), classes.numpy())[0] for part in pixels])
            row = {
                "accuracy": (found.argmax(1) == truth).mean(),
                "same answer": (found.argmax(1) == expected.argmax(1)).mean(),
            }
            (target / "large").mkdir()
            path = backend.write(large, target / "large", dtype)
            row["MB"] = sum(file.stat().st_size for file in (target / "large").iterdir()) / 1e6
            try:
                row |= vars(verify(large, backend.Runner(path, dtype), dtype))
            except VerificationError as error:
                row["error"] = str(error)
            print(
                target.name,
                json.dumps(
                    {name: value if isinstance(value, str) else round(float(value), 6) for name, value in row.items()}
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
