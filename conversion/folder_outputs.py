"""Outputs of a checkpoint folder through transformers' public entry points; the package is not needed.

    python -I conversion/folder_outputs.py FOLDER VIDEO OUTPUT.safetensors [THREADS]

As a script, it cannot import `vitaclip_hf` even where that is installed, so the folder is loaded by its own remote
code, as on a machine that has nothing but transformers. `publish.py` compares the tensors to the bit. The last bit of
sums depends on the number of threads.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    pipeline,
)


PACKAGE = "vitaclip_hf"
LABELS = ("a red star", "juggling")


class PackageBlocker:
    """An import hook that hides the package: `import vitaclip_hf` fails as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named {name!r} (hidden by {Path(__file__).name})", name=name)


@torch.no_grad()
def collect_outputs(source: str, video: str, trust_remote_code: bool | None) -> dict[str, torch.Tensor]:
    """Everything a user can load from the folder or Hub id, run on one video.

    Args:
        source: a folder or a Hub id.
        video: path of a video file.
        trust_remote_code: as for `from_pretrained`.

    Returns:
        `pixel_values_videos` `[1, T, 3, H, W]`, `input_ids` `[2, length]`, `logits_per_video` `[1, 2]`, `logits`
        `[1, C]`, and the scores of our pipeline and of transformers' own, in the order of `LABELS` and
        of the classes.
    """
    loading = {"trust_remote_code": trust_remote_code}
    config = AutoConfig.from_pretrained(source, **loading)
    processor = AutoProcessor.from_pretrained(source, **loading)
    video_processor = AutoVideoProcessor.from_pretrained(source, **loading)
    tokenizer = AutoTokenizer.from_pretrained(source, **loading)
    model = AutoModel.from_pretrained(source, use_safetensors=True, **loading).eval()
    inputs = processor(videos=video, text=list(LABELS), return_tensors="pt").to(model.dtype)
    outputs = {
        "pixel_values_videos": video_processor(video, return_tensors="pt")["pixel_values_videos"],
        "processor.pixel_values_videos": inputs["pixel_values_videos"],
        "input_ids": tokenizer(list(LABELS), padding=True, return_tensors="pt")["input_ids"],
        "processor.input_ids": inputs["input_ids"],
        "logits_per_video": model(**inputs).logits_per_video,
    }
    del model
    classifier = AutoModelForVideoClassification.from_pretrained(source, use_safetensors=True, **loading).eval()
    outputs["logits"] = classifier(pixel_values_videos=inputs["pixel_values_videos"]).logits
    del classifier
    zero_shot = pipeline("zero-shot-video-classification", model=source, **loading)
    outputs["zero_shot_scores"] = _scores(zero_shot(video, candidate_labels=list(LABELS)), LABELS)
    del zero_shot
    # In float32: transformers' own pipeline rounds scores to the model's type.
    closed_set = pipeline("video-classification", model=source, dtype=torch.float32, **loading)
    names = [config.id2label[index] for index in range(config.num_labels)]
    outputs["class_scores"] = _scores(closed_set(video, top_k=len(names)), names)
    return {name: tensor.contiguous().clone() for name, tensor in outputs.items()}


def _scores(answers: list[dict], labels) -> torch.Tensor:
    by_label = {answer["label"]: answer["score"] for answer in answers}
    return torch.tensor([by_label[label] for label in labels], dtype=torch.float64)


def main(folder: str, video: str, output: str, threads: str | None = None) -> None:
    if threads:
        torch.set_num_threads(int(threads))
    sys.meta_path.insert(0, PackageBlocker())
    save_file(collect_outputs(folder, video, trust_remote_code=True), output)
    if PACKAGE in sys.modules:
        raise RuntimeError("the package was imported after all")


if __name__ == "__main__":
    main(*sys.argv[1:])
