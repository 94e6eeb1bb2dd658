"""Where a model looks: how much each frame and each patch counts for a label, and what the class tokens attend to."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.image_utils import ChannelDimension

from ..loading.checkpoint import Checkpoint


PICTURE_SIDE = 224  # pixels; small models are shown with sharper pictures than they see
KINDS_OF_TOKENS = ("class token", "patches", "summary", "local", "global")


@dataclass(frozen=True)
class Relevance:
    """
    What counts for a label in one clip of a video.

    Attributes:
        label (`str`): the label.
        cosine (`float`): of the clip and the label.
        frames (`list[int]`): numbers of the frames.
        times (`list[float]`, *optional*): when each of them is shown, in seconds.
        pictures (`torch.Tensor` of shape `(num_frames, 3, height, width)`): what the model sees of them, uint8.
        frame_relevance (`torch.Tensor` of shape `(num_frames,)`):
            What the cosine loses if the frame is left out. Negative for a frame that speaks against the label.
        patch_relevance (`torch.Tensor` of shape `(num_frames, rows, columns)`):
            Evidence for the label in each patch, at least 0; all of it sums to 1.
        patch_attention (`torch.Tensor` of shape `(num_frames, rows, columns)`):
            How much the class token attends to each patch, mean over heads and layers.
        attention (`dict[str, torch.Tensor]`):
            How much the class token of each frame attends to the class token itself, all patches, and the summary,
            local and global prompts, each of shape `(num_frames,)`. They sum to 1.
        attention_to_frames (`torch.Tensor` of shape `(num_frames, num_frames)`, *optional*):
            The attention to the local prompts one by one: local prompt `j` carries the class token of frame `j`.
    """

    label: str
    cosine: float
    frames: list[int]
    times: list[float] | None
    pictures: torch.Tensor
    frame_relevance: torch.Tensor
    patch_relevance: torch.Tensor
    patch_attention: torch.Tensor
    attention: dict[str, torch.Tensor]
    attention_to_frames: torch.Tensor | None

    def as_dict(self) -> dict[str, Any]:
        """All of it but the pictures, for JSON."""
        content = {name: value for name, value in vars(self).items() if name != "pictures"}
        text = json.dumps(content, default=torch.Tensor.tolist)
        return json.loads(text, parse_float=lambda number: round(float(number), 6))


def explain(
    checkpoint: Checkpoint,
    video: Any,
    label: str | None = None,
    templates: str | list[str] = "{}",
    **reading: Any,
) -> Relevance:
    """
    Where a model looks for a label.

    Args:
        checkpoint ([`Checkpoint`]): of [`load_checkpoint`].
        video: path, URL, bytes, array … of one video, see [`VitaClipVideoProcessor`]. Its first view is used.
        label (`str`, *optional*): the label; by default the best of the checkpoint's own classes.
        templates (`str` or `list[str]`, defaults to `"{}"`): sentences with `{}` for the label.
        reading: fields of [`ReadOptions`], such as `on_damage`, in place of the video processor's own.

    Returns:
        [`Relevance`]

    Raises:
        VideoDecodingError: the video cannot be read.
        ValueError: a label that cannot be used, or a checkpoint without classes of its own.

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint
    >>> from vitaclip_hf.library.relevance import explain
    >>> from vitaclip_hf.library.relevance_picture import draw_relevance

    >>> checkpoint = load_checkpoint("examples/demo/checkpoint")  # doctest: +SKIP
    >>> relevance = explain(checkpoint, "clip.mp4", "rocket rising")  # doctest: +SKIP
    >>> relevance.frame_relevance, relevance.patch_relevance.shape  # doctest: +SKIP
    >>> draw_relevance(relevance, "clip.mp4").savefig("grid.png")  # doctest: +SKIP

    ```
    """
    encoder = checkpoint.encoder()
    labels, embeds = encoder.class_embeds(None if label is None else [label], templates)
    processor, model, reader = encoder.video_processor, encoder.model, encoder.reader(**reading)
    opened = reader.open(video)
    clip = opened.read_clips(reader.specification, seed=0)[0]
    metadata = opened.metadata

    pixels = processed(processor, clip).to(model.device, model.dtype)
    cosines = encoder.video_features(pixels[None, None])[0, 0].float() @ embeds.float().T
    best = int(cosines.argmax())
    return Relevance(
        label=labels[best],
        cosine=float(cosines[best]),
        frames=list(metadata.frames_indices or range(len(clip)))[: len(clip)],
        times=metadata.timestamps[: len(clip)] if metadata.fps else None,
        pictures=shown_pictures(processor, clip),
        frame_relevance=leave_one_out(model, pixels, embeds[best]),
        patch_relevance=integrated_gradients(model, pixels, embeds[best]),
        **attention_of_class_tokens(model, pixels),
    )


def processed(video_processor: Any, clip: torch.Tensor, **changes: Any) -> torch.Tensor:
    """All frames of a clip in the middle crop, with changes to the processor's own values."""
    return video_processor(
        [clip],
        do_sample_frames=False,
        num_views=1,
        num_spatial_views=1,
        input_data_format=ChannelDimension.FIRST,
        return_tensors="pt",
        **changes,
    )["pixel_values_videos"][0]


def shown_pictures(video_processor: Any, clip: torch.Tensor) -> torch.Tensor:
    """The part of the frames that the model sees, at least `PICTURE_SIDE` pixels high where its input is smaller."""
    crop = video_processor.crop_size
    times = max(1, -(-PICTURE_SIDE // min(crop["height"], crop["width"])))
    larger = {
        name: {side: length * times for side, length in dict(getattr(video_processor, name)).items() if length}
        for name in ("size", "crop_size")
    }
    pixels = processed(video_processor, clip, do_rescale=False, do_normalize=False, **larger)
    return pixels.round().clamp(0, 255).to(torch.uint8)


# Relevance. `pixels` of shape `(num_frames, 3, height, width)` and `class_embed` of shape `(projection_dim,)`.


def cosines_of(model: Any, videos: torch.Tensor, class_embed: torch.Tensor) -> torch.Tensor:
    """The cosine of a label with each of `(batch_size, num_frames, 3, height, width)`, of shape `(batch_size,)`."""
    features = model.get_video_features(videos, class_tokens_only=True).pooler_output
    return nn.functional.cosine_similarity(features.float(), class_embed.to(features.device).float()[None], dim=-1)


@torch.no_grad()
def leave_one_out(model: Any, pixels: torch.Tensor, class_embed: torch.Tensor) -> torch.Tensor:
    """
    What the cosine loses if a frame is replaced by the frame before it (the first one by the second).

    A gradient says how the cosine answers to a small change, not what a frame gave. A frame that is cut out would
    shift the time embedding of those after it.

    Returns:
        `torch.Tensor` of shape `(num_frames,)`, float32 on the CPU; zeros for a single frame.
    """
    count = len(pixels)
    if count == 1:
        return torch.zeros(1)
    whole = cosines_of(model, pixels[None], class_embed)
    losses = []
    for left_out in range(count):
        others = pixels.clone()
        others[left_out] = pixels[left_out - 1 if left_out else 1]
        losses.append(whole - cosines_of(model, others[None], class_embed))
    return torch.cat(losses).cpu()


def integrated_gradients(model: Any, pixels: torch.Tensor, class_embed: torch.Tensor, steps: int = 16) -> torch.Tensor:
    """
    Gradients of the cosine, integrated on the way from plain frames to the frames (arXiv 1703.01365).

    A plain frame has the median colour of its frame. What a patch adds to the cosine is its relevance.
    """
    # [T, 3, 1, 1]; sorted in float32, since half precision has no median everywhere.
    plain = pixels.float().flatten(2).median(-1).values[..., None, None].to(pixels.dtype).expand_as(pixels)
    gradients = torch.zeros_like(pixels, dtype=torch.float32)
    for step in range(steps):
        between = (plain + (pixels - plain) * ((step + 0.5) / steps)).requires_grad_()
        with torch.enable_grad():
            [gradient] = torch.autograd.grad(cosines_of(model, between[None], class_embed)[0], between)
        gradients += gradient.float() / steps
    relevance = ((pixels - plain).float() * gradients).sum(1, keepdim=True)
    return normalised(nn.functional.avg_pool2d(relevance, model.config.vision_config.patch_size)[:, 0])


def normalised(relevance: torch.Tensor) -> torch.Tensor:
    """What speaks for the label, as shares of 1; equal shares if nothing does."""
    positive = relevance.detach().float().cpu().clamp(min=0)
    total = positive.sum()
    return positive / total if total > 0 else torch.full_like(positive, 1 / positive.numel())


# Attention


@torch.no_grad()
def attention_of_class_tokens(model: Any, pixels: torch.Tensor) -> dict[str, Any]:
    """The fields `patch_attention`, `attention` and `attention_to_frames` of [`Relevance`]."""
    before = model.vision_model.config._attn_implementation
    model.vision_model.set_attn_implementation("eager")  # the one way that gives the weights
    try:
        layers = model.get_video_features(pixels[None], output_attentions=True).attentions  # [T, heads, tokens, keys]
    finally:
        model.vision_model.set_attn_implementation(before)
    weights = torch.stack([layer[:, :, 0].float().mean(1) for layer in layers]).mean(0).cpu()  # [T, keys]
    vision = model.config.vision_config
    rows, columns = (side // vision.patch_size for side in pixels.shape[-2:])
    local = len(pixels) if vision.use_local_prompts else 0
    lengths = (1, rows * columns, int(vision.use_summary_prompt), local, vision.num_global_prompts)
    parts = dict(zip(KINDS_OF_TOKENS, weights.split(lengths, dim=1), strict=True))
    return {
        "patch_attention": parts["patches"].unflatten(1, (rows, columns)),
        "attention": {kind: part.sum(1) for kind, part in parts.items()},
        "attention_to_frames": parts["local"] if local else None,
    }
