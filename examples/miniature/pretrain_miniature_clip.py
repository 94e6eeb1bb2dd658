"""Pretrains the miniature's tiny CLIP on captioned stills of `miniature_world`, contrastively and from scratch.

    python examples/miniature/pretrain_miniature_clip.py --output examples/miniature/clip

No video is seen here. Every 250 steps it tells how many stills find their own caption, kind by kind.
"""

import argparse
import sys
from pathlib import Path

import torch
from miniature_world import IMAGE_SIZE, TEMPLATES, draw_stills, words
from transformers import CLIPModel, CLIPTokenizer


sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))
from pretrain_tiny_clip import build_model, build_tokenizer, pick, pretrain, to_pixel_values  # noqa: E402


def draw_batch(generator: torch.Generator) -> tuple[torch.Tensor, list[str]]:
    stills = draw_stills(generator).values()
    captions = [pick(TEMPLATES, generator).format(caption) for part in stills for caption in part.captions]
    return torch.cat([part.pictures for part in stills]), captions


@torch.no_grad()
def caption_accuracy(model: CLIPModel, tokenizer: CLIPTokenizer, seed: int, draws: int = 5) -> dict[str, float]:
    """How many stills find their own caption among those of their kind in one draw."""
    generator = torch.Generator().manual_seed(seed)
    hits: dict[str, list[float]] = {}
    for _ in range(draws):
        for kind, stills in draw_stills(generator).items():
            texts = tokenizer(stills.captions, padding=True, return_tensors="pt").to(model.device)
            pixels = to_pixel_values(stills.pictures).to(model.device)
            images = torch.nn.functional.normalize(model.get_image_features(pixels).pooler_output, dim=-1)
            names = torch.nn.functional.normalize(model.get_text_features(**texts).pooler_output, dim=-1)
            found = (images @ names.T).argmax(-1).cpu()
            hits.setdefault(kind, []).extend((found == torch.arange(len(found))).tolist())
    return {kind: sum(values) / len(values) for kind, values in hits.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    tokenizer = build_tokenizer(words())
    model = build_model(
        tokenizer, hidden_size=96, intermediate_size=384, num_attention_heads=6, image_size=IMAGE_SIZE
    ).to(arguments.device)
    pretrain(
        model,
        tokenizer,
        lambda: draw_batch(generator),
        lambda: caption_accuracy(model, tokenizer, seed=1),
        arguments.output,
        steps=arguments.steps,
        lr=arguments.lr,
    )


if __name__ == "__main__":
    main()
