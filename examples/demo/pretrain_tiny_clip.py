"""Pretrains the demo's tiny CLIP on captioned stills of `motion_shapes`, contrastively and from scratch.

Stills show objects at rest, or depict a motion by exposures that fade into the past; the held-out combinations of
colour, shape and motion never appear. No video is seen here.

    python examples/demo/pretrain_tiny_clip.py --output runs/tiny-clip
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from motion_stills import PLACES, SIZES, STILL_TEMPLATES, draw_objects, draw_stills
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vitaclip_hf.data.motion_shapes import COLORS, MOTIONS, SHAPES, Scene, all_scenes


IMAGE_SIZE = 48


def world_words() -> list[str]:
    """All words of this world's captions."""
    words = [*COLORS, *SHAPES, *SIZES, *(p for row in PLACES for p in row)]
    words += [wording for wordings in MOTIONS.values() for wording in wordings]
    return words + [template.format("") for template in STILL_TEMPLATES] + ["is", "something", "shape", "video of"]


def build_tokenizer(words: list[str]) -> CLIPTokenizer:
    """CLIP's byte-level BPE with merges for some words alone: any text tokenizes, known words to one token."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit()])
    bpe.train_from_iterator([" ".join(words)] * 10, trainers.BpeTrainer(vocab_size=2000, end_of_word_suffix="</w>"))
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges]
    vocab = {token: index for index, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=32)


def build_model(tokenizer: CLIPTokenizer, **vision) -> CLIPModel:
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        **special,
    }
    vision = {
        "hidden_size": 112,
        "intermediate_size": 448,
        "num_hidden_layers": 4,
        "num_attention_heads": 7,
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
        **vision,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def pick(options, generator: torch.Generator):
    return options[int(torch.randint(len(options), (1,), generator=generator))]


def motion_caption(scene: Scene, generator: torch.Generator) -> str:
    name = f"{scene.color} {scene.shape}"
    wording = pick(MOTIONS[scene.motion], generator)
    template = pick(STILL_TEMPLATES, generator)
    joint = " is " if template in ("a {}", "the {}") and pick((True, False), generator) else " "
    return template.format(name + joint + wording) + pick(("", "."), generator)


def draw_batch(scenes: list[Scene], batch: int, generator: torch.Generator) -> tuple[torch.Tensor, list[str]]:
    """Pictures and captions of which no two mean the same: motions, objects at rest, and one object in many places."""
    order = torch.randperm(len(scenes), generator=generator)
    moving = [scenes[int(index)] for index in order[: int(batch * 0.68)]]
    captions = [motion_caption(scene, generator) for scene in moving]
    everything = [(color, shape) for color in COLORS for shape in SHAPES]
    order = torch.randperm(len(everything), generator=generator).tolist()
    placed = [everything[index] for index in order[:4] for _ in range(16)]
    spots = torch.cat([torch.randperm(18, generator=generator)[:16] for _ in range(4)])
    plain = [everything[index] for index in order[4:]][: batch - len(moving) - len(placed)]
    loose = torch.randint(18, (len(plain),), generator=generator)
    spots = torch.cat([spots, loose])
    places, big = torch.stack([spots % 9 // 3, spots % 3], 1), spots >= 9
    for index, (color, shape) in enumerate(placed + plain):
        name = f"{color} {shape}"
        if index < len(placed):
            row, column = places[index].tolist()
            name = f"{SIZES[int(big[index])]} {name} {PLACES[row][column]}"
        captions.append(pick(STILL_TEMPLATES, generator).format(name) + pick(("", "."), generator))
    pictures = torch.cat(
        [draw_stills(moving, generator, IMAGE_SIZE), draw_objects(placed + plain, places, big, generator, IMAGE_SIZE)]
    )
    return pictures, captions


def to_pixel_values(pictures: torch.Tensor) -> torch.Tensor:
    """`[N, S, S, 3]` uint8 to `[N, 3, S, S]`, normalised with CLIP's mean and standard deviation."""
    mean, std = torch.tensor(OPENAI_CLIP_MEAN), torch.tensor(OPENAI_CLIP_STD)
    return ((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2)


@torch.no_grad()
def evaluate(model: CLIPModel, tokenizer: CLIPTokenizer, scenes: list[Scene], seed: int) -> dict[str, float]:
    """Accuracy over the captions of `scenes`, of the whole caption and of each part of it."""
    generator = torch.Generator().manual_seed(seed)
    device = model.device
    text = tokenizer([f"a {scene.label}" for scene in scenes], padding=True, return_tensors="pt").to(device)
    text_embeds = torch.nn.functional.normalize(model.get_text_features(**text).pooler_output, dim=-1)
    pixels = to_pixel_values(draw_stills(scenes, generator, IMAGE_SIZE)).to(device)
    found = (model.get_image_features(pixels).pooler_output @ text_embeds.T).argmax(-1).tolist()
    pairs = [(scene, scenes[index]) for scene, index in zip(scenes, found, strict=True)]
    parts = {part: [getattr(a, part) == getattr(b, part) for a, b in pairs] for part in ("color", "shape", "motion")}
    parts["all"] = [a == b for a, b in pairs]
    return {part: sum(hits) / len(hits) for part, hits in parts.items()}


def pretrain(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    draw: Callable[[], tuple[torch.Tensor, list[str]]],
    report: Callable[[], dict],
    output: Path,
    *,
    steps: int,
    lr: float,
) -> None:
    """
    Trains a CLIP contrastively and saves it, its tokenizer and a log every 250 steps.

    Args:
        draw: gives the next batch, pictures `[N, S, S, 3]` (uint8) and a caption each.
        report: gives what the log keeps of the model.
    """
    device = model.device
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    warm_up = min(300, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / (warm_up + 1)) * (0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    print(f"tiny CLIP: {model.num_parameters():,} parameters, {len(tokenizer)} tokens, device {device}")
    log, started = [], time.time()
    for step in tqdm(range(1, steps + 1), unit="step", mininterval=5):
        pictures, captions = draw()
        text = tokenizer(captions, padding=True, return_tensors="pt").to(device)
        pixels = to_pixel_values(pictures).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            outputs = model(**text, pixel_values=pixels, return_loss=True)
        optimizer.zero_grad()
        outputs.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if step % 250 == 0 or step == steps:
            log.append({"step": step, "loss": outputs.loss.item(), "seconds": time.time() - started, **report()})
            tqdm.write(json.dumps(log[-1]))
            output.mkdir(parents=True, exist_ok=True)
            model.save_pretrained(output)
            tokenizer.save_pretrained(output)
            (output / "pretraining_log.json").write_text(json.dumps(log, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    tokenizer = build_tokenizer(world_words())
    model = build_model(tokenizer).to(arguments.device)
    trained, held_out = all_scenes(held_out=False), all_scenes(held_out=True)

    def report() -> dict:
        parts = {"trained": trained, "held_out": held_out}
        return {name: evaluate(model, tokenizer, scenes, seed=1) for name, scenes in parts.items()}

    pretrain(
        model,
        tokenizer,
        lambda: draw_batch(trained, arguments.batch, generator),
        report,
        arguments.output,
        steps=arguments.steps,
        lr=arguments.lr,
    )


if __name__ == "__main__":
    main()
