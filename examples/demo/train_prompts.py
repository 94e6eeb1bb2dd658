"""Trains Vita-CLIP's prompts on generated videos of `motion_shapes`, on top of the demo's frozen tiny CLIP.

Trained: 300 scenes (30 objects x 10 motions), as class-specific contexts and prompts. Held out: every motion of six
other objects, scored zero-shot by plain texts, beside the same frozen CLIP without prompts.

    python examples/demo/train_prompts.py --clip runs/tiny-clip --output runs/demo --seed 0
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from pretrain_tiny_clip import IMAGE_SIZE, to_pixel_values
from tqdm import tqdm
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from vitaclip_hf import VitaClipModel, VitaClipProcessor, VitaClipVideoProcessor, save_checkpoint
from vitaclip_hf.data.motion_shapes import Scene, all_scenes, draw_videos
from vitaclip_hf.loading.clip_backbones import add_prompts
from vitaclip_hf.model.processing_vita_clip import tokenize_classes


NUM_FRAMES = 8


def build_model(clip: Path, tokenizer, classes: list[str]) -> VitaClipModel:
    """The frozen tiny CLIP with fresh prompts; contexts start from the words "a video of a"."""
    settings = {
        "vision_config": {"num_frames": NUM_FRAMES, "num_global_prompts": 8},
        "text_config": {"num_context_tokens": 4, "context_init": "a video of a"},
    }
    model = VitaClipModel.from_pretrained(clip, config=add_prompts(CLIPConfig.from_pretrained(clip), settings))
    model.set_classes(classes, **tokenize_classes(classes, tokenizer, model.config.text_config))
    model.freeze_backbone()
    return model


def draw_batch(scenes: list[Scene], generator: torch.Generator, jitter: bool = True) -> torch.Tensor:
    """Clips `[B, T, 3, S, S]`, normalised, of random moments one in each eighth of the video (or their centres)."""
    offset = torch.rand(1, generator=generator) * 0.6 + 0.2 if jitter else torch.tensor([0.5])
    videos = draw_videos(scenes, generator, size=IMAGE_SIZE, times=(torch.arange(NUM_FRAMES) + offset) / NUM_FRAMES)
    return to_pixel_values(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])


def embed_texts(model, tokenizer, texts: list[str]) -> torch.Tensor:
    inputs = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
    return torch.nn.functional.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)


@torch.no_grad()
def evaluate(model: VitaClipModel, clip: CLIPModel, tokenizer, copies: int, seed: int) -> dict[str, float]:
    """Top-1 of held-out scenes over their 60 labels (zero-shot), and of trained scenes over their 300 (supervised)."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    held_out = all_scenes(held_out=True)
    texts = {f"wording {w}": embed_texts(model, tokenizer, [s.worded(w) for s in held_out]) for w in range(3)}
    scores = {}

    def add(name: str, embeds: torch.Tensor, candidates: torch.Tensor, start: int) -> None:
        truth = torch.arange(start, start + len(embeds), device=embeds.device)
        found = (embeds @ candidates.T).argmax(-1)
        scores.setdefault(name, []).extend((found == truth).tolist())
        if len(candidates) == 60:
            scores.setdefault(f"{name}, motion", []).extend((found % 10 == truth % 10).tolist())

    for _ in range(copies):
        for start in range(0, len(held_out), 60):
            pixels = draw_batch(held_out[start : start + 60], generator, jitter=False).to(model.device)
            ours = torch.nn.functional.normalize(model.get_video_features(pixels).pooler_output, dim=-1)
            stills = clip.get_image_features(pixels.flatten(0, 1)).pooler_output.unflatten(0, pixels.shape[:2])
            theirs = torch.nn.functional.normalize(stills.mean(1), dim=-1)
            for wording, candidates in texts.items():
                add(f"zero-shot, {wording}", ours, candidates, start)
                add(f"frozen CLIP, {wording}", theirs, candidates, start)
    trained, classes = all_scenes(held_out=False), model.get_class_embeds()
    for start in range(0, len(trained), 100):
        pixels = draw_batch(trained[start : start + 100], generator, jitter=False).to(model.device)
        ours = torch.nn.functional.normalize(model.get_video_features(pixels).pooler_output, dim=-1)
        add("supervised", ours, classes, start)
    return {name: sum(hits) / len(hits) for name, hits in scores.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, required=True, help="folder of the tiny CLIP")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.clip)
    trained = all_scenes(held_out=False)
    model = build_model(arguments.clip, tokenizer, [scene.label for scene in trained]).to(arguments.device)
    clip = CLIPModel.from_pretrained(arguments.clip).to(arguments.device).eval()
    trainable, total = model.num_parameters(only_trainable=True), model.num_parameters()
    print(f"Trainable parameters, and all: {trainable:,}, {total:,}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.lr, weight_decay=arguments.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / arguments.steps)),
    )
    log, started = [], time.time()
    for step in tqdm(range(1, arguments.steps + 1), unit="step", mininterval=5):
        model.train()
        labels = torch.randint(len(trained), (arguments.batch,), generator=generator)
        pixels = draw_batch([trained[int(index)] for index in labels], generator).to(arguments.device)
        with torch.autocast(arguments.device, dtype=torch.bfloat16):
            outputs = model(pixels, labels=labels.to(arguments.device))
        optimizer.zero_grad()
        outputs.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if step % 250 == 0 or step == arguments.steps:
            results = evaluate(model, clip, tokenizer, copies=10 if step == arguments.steps else 2, seed=1)
            log.append({"step": step, "loss": outputs.loss.item(), "seconds": time.time() - started} | results)
            tqdm.write(
                f"{step:5d} {time.time() - started:5.0f} s  loss {outputs.loss.item():.3f}  "
                + "  ".join(f"{name} {value:.1%}" for name, value in results.items())
            )
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    video_processor = VitaClipVideoProcessor(num_frames=NUM_FRAMES, size={"shortest_edge": IMAGE_SIZE}, crop_size=size)
    save_checkpoint(model, VitaClipProcessor(video_processor, tokenizer), arguments.output)
    (arguments.output / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
