"""Pretrains a tiny CLIP on the world's captioned stills from scratch. No video is seen here.

The loss is the contrastive one of stills with their captions, and that of each still with the names of all things.
The first `--alone` steps show things alone, at first upright, large and in the middle. After them a linear layer, which
is thrown away, names each still's motion or place: by captions alone neither tower parts left from right before the
other does. For the same reason position embeddings start as waves, as large as the patches. Matrices of the layers are
trained by Muon (https://kellerjordan.github.io/posts/muon), in float32: torch's own computes in bfloat16, which makes a
step 1.7 times as long on a processor without it.

    python examples/world/pretrain_clip.py --output runs/world-clip

A run that was stopped goes on from its last save. The learning rates are constant, and fall to 0 in the last
`--cool-down` steps: a longer run may go on from a shorter one that has not begun to cool down.
"""

import argparse
import json
import math
import re
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from tqdm import tqdm
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from world import (
    BACKGROUNDS,
    DEMO_THINGS,
    MOTIONS,
    PLACES,
    SIZES,
    STYLES,
    TEMPLATES,
    Scene,
    World,
    draw_batch,
    draw_motion_stills,
    draw_stills,
)


IMAGE_SIZE = 48
SHOWN = [*MOTIONS, *PLACES]


def learn_merges(words: set[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that make each word one token: the most frequent pair first, then the last by its letters."""
    parts, merges = [[*word[:-1], f"{word[-1]}</w>"] for word in sorted(words)], []
    counts = Counter(pair for part in parts for pair in pairwise(part))
    while counts:
        left, right = pair = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(pair)
        for part in parts:
            if left in part and pair in (pairs := list(pairwise(part))):
                counts.subtract(pairs)
                for place in range(len(part) - 1, 0, -1):
                    if part[place - 1 : place + 1] == [left, right]:
                        part[place - 1 : place + 1] = [left + right]
                counts.update(pairwise(part))
        counts = +counts
    return merges


def build_tokenizer(world: World) -> CLIPTokenizer:
    """CLIP's byte-level BPE with merges for the captions' words alone: each is one token, and any text tokenizes."""
    texts = [*world.names, *(word for words in world.words.values() for word in words)]
    texts += [wording for wordings in MOTIONS.values() for wording in wordings] + ["is", "an", "on background"]
    texts += [*SIZES, *PLACES, *STYLES.values(), *BACKGROUNDS, *(template.format("") for template in TEMPLATES)]
    merges = learn_merges(set(re.findall("[a-z]+", " ".join(texts).lower())))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges]
    vocab = {token: index for index, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=32)


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 32, "hidden_size": 96, "intermediate_size": 384}
    text |= {"num_hidden_layers": 3, "num_attention_heads": 4, **special}
    vision = {"image_size": IMAGE_SIZE, "patch_size": 8, "hidden_size": 128, "intermediate_size": 512}
    vision |= {"num_hidden_layers": 4, "num_attention_heads": 4}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=96))
    places = model.vision_model.embeddings.position_embedding.weight
    places.data[1:] += waves(IMAGE_SIZE // 8, places.shape[1])
    return model


def waves(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of the columns and rows of a grid, `[side * side, width]`."""
    angles = torch.arange(side)[:, None] * 100 ** -torch.linspace(0, 1, width // 4)
    line = torch.cat([angles.sin(), angles.cos()], 1)
    return torch.cat([line.repeat(side, 1), line.repeat_interleave(side, 0)], 1)


def to_pixel_values(pictures: torch.Tensor) -> torch.Tensor:
    """`[N, S, S, 3]` uint8 to `[N, 3, S, S]`, normalised with CLIP's mean and standard deviation."""
    mean, std = torch.tensor(OPENAI_CLIP_MEAN), torch.tensor(OPENAI_CLIP_STD)
    return ((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def embed_texts(model, tokenizer, texts: list[str]) -> torch.Tensor:
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    return torch.nn.functional.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)


def top_1(model: CLIPModel, pictures: torch.Tensor, texts: torch.Tensor, truth: torch.Tensor) -> float:
    features = model.get_image_features(pixel_values=to_pixel_values(pictures)).pooler_output
    return float(((features @ texts.T).argmax(-1) == truth).float().mean())


@torch.no_grad()
def evaluate(model: CLIPModel, tokenizer: CLIPTokenizer, world: World, seed: int = 1) -> dict[str, float]:
    """Share of new stills whose name is found among all names, of each style; of motions among those of a thing."""
    model.eval()
    generator, scores = torch.Generator().manual_seed(seed), {}
    names = embed_texts(model, tokenizer, [f"a {name}" for name in world.names])
    for column, style in enumerate(world.styles):
        numbers = world.drawn[:, column].nonzero()[:, 0]
        things, count = [world.names[number] for number in numbers.tolist()], len(numbers)
        spots, colors = [("big", "in the middle")] * count, (list(BACKGROUNDS) * 200)[:count]
        pictures, _ = draw_stills(world, things, spots, colors, generator, IMAGE_SIZE, [style] * count)
        scores[f"name, {style}"] = top_1(model, pictures, names, numbers)
    # Stills of the demo's things in motion were not seen.
    for part, things in (("demo", DEMO_THINGS), ("trained", world.trained[:20])):
        scenes = [Scene(thing, motion) for thing in things for motion in MOTIONS]
        pictures = draw_motion_stills(world, scenes, generator, IMAGE_SIZE).unflatten(0, (-1, len(MOTIONS)))
        texts = embed_texts(model, tokenizer, [scene.label for scene in scenes]).unflatten(0, (-1, len(MOTIONS)))
        truth = torch.arange(len(MOTIONS))
        found = [top_1(model, *own, truth) for own in zip(pictures, texts, strict=True)]
        scores[f"motion, {part}"] = sum(found) / len(found)
    model.train()
    return scores


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is brought near an orthogonal matrix by five Newton-Schulz steps."""

    def __init__(self, matrices: list[torch.nn.Parameter], weight_decay: float, momentum: float = 0.95):
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for matrix in group["params"]:
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(mean, group["momentum"])
                tall = update.shape[0] > update.shape[1]
                update = torch.nn.functional.normalize(update.T if tall else update, dim=(0, 1))
                for _ in range(5):
                    square = update @ update.T
                    update = 3.4445 * update + (2.0315 * square @ square - 4.775 * square) @ update
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.add_(update.T if tall else update, alpha=-group["lr"] * scale)


def rate_factor(step: int, steps: int, cool_down: int) -> float:
    return min(1, step / 100, max(0, steps - step) / cool_down)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--cool-down", type=int, default=3400)
    parser.add_argument("--alone", type=int, default=1000, help="steps that show things alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=50, help="steps; every tenth save is measured")
    parser.add_argument(
        "--held-back", type=Path, nargs="*", default=[], help="pictures to measure on and not to train on"
    )
    arguments = parser.parse_args(arguments)

    torch.manual_seed(arguments.seed)
    world = World()
    measured = World(Path(__file__).parent / "pictures.zip", *arguments.held_back)
    tokenizer = build_tokenizer(world)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)
    model = build_model(tokenizer)
    naming = torch.nn.Linear(model.config.projection_dim, len(SHOWN))
    matrices, tables, others = [], [naming.weight], [naming.bias]
    for name, parameter in model.named_parameters():
        of_layer = parameter.ndim == 2 and "embedding" not in name
        (matrices if of_layer else tables if parameter.ndim > 1 else others).append(parameter)
    groups = [{"params": tables, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    adam, muon = torch.optim.AdamW(groups, betas=(0.9, 0.98)), Muon(matrices, weight_decay=0.05)
    arguments.output.mkdir(parents=True, exist_ok=True)
    state, log = arguments.output / "state.pt", []
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        naming.load_state_dict(saved["naming"])
        adam.load_state_dict(saved["adam"])
        muon.load_state_dict(saved["muon"])
        log = saved["log"]
    names = [f"a {name}" for name in world.names]
    done, losses = log[-1]["step"] if log else 0, []
    started = time.process_time() - (log[-1]["cpu_seconds"] if log else 0)
    print(f"tiny CLIP: {model.num_parameters():,} parameters, {len(tokenizer)} tokens, {done} steps done")
    for step in tqdm(range(done + 1, arguments.steps + 1), unit="step", mininterval=30):
        factor = rate_factor(step, arguments.steps, arguments.cool_down)
        for optimizer, rate in ((adam, 1.5e-3), (muon, 0.03)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        # One generator for each step: a run that goes on draws what one without a stop would draw.
        generator = torch.Generator().manual_seed(arguments.seed * 10**7 + step)
        pictures, captions, things, shown = draw_batch(world, generator, IMAGE_SIZE, max(0, 1 - step / arguments.alone))
        text = tokenizer(captions, padding=True, return_tensors="pt")
        outputs = model(**text, pixel_values=to_pixel_values(pictures), return_loss=True)
        # Each still is also compared with the names of all things, of which a batch has a part.
        logits = model.logit_scale.exp() * outputs.image_embeds @ embed_texts(model, tokenizer, names).T
        loss = outputs.loss + torch.nn.functional.cross_entropy(logits, torch.tensor([world.number[t] for t in things]))
        if step > arguments.alone:
            logits = naming(outputs.vision_model_output.pooler_output)
            loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor([SHOWN.index(kind) for kind in shown]))
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        muon.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        losses.append(loss.item())
        if step % arguments.save_every == 0 or step == arguments.steps:
            log.append({"step": step, "loss": sum(losses) / len(losses), "cpu_seconds": time.process_time() - started})
            if step % (10 * arguments.save_every) == 0 or step == arguments.steps:
                log[-1] |= evaluate(model, tokenizer, measured)
            losses = []
            tqdm.write(json.dumps(log[-1]))
            model.save_pretrained(arguments.output)
            CLIPProcessor(image_processor, tokenizer).save_pretrained(arguments.output)
            parts = {"model": model, "naming": naming, "adam": adam, "muon": muon}
            saved = {name: part.state_dict() for name, part in parts.items()}
            torch.save(saved | {"log": log}, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
            (arguments.output / "pretraining_log.json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
