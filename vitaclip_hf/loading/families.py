"""Other dual encoders of transformers behind [`VideoEncoder`]: one class a family, and nothing elsewhere.

A family says which features it compares, how it scores them, how its texts are padded and how many frames it takes. Our
reader chooses the frames; the checkpoint's own image or video processor makes the pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import SizeDict
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor

from ..model.encoder import VideoEncoder
from ..model.video_processing_vita_clip import VitaClipVideoProcessor, three_crops


logger = logging.get_logger(__name__)
NUM_FRAMES = 8  # of a family that takes any number, as in the papers of Vita-CLIP and ViFi-CLIP
REFUSED = ("blip", "blip-2", "clipseg")  # they have the methods, but score pairs or segment


class OwnPixels(VitaClipVideoProcessor):
    """
    Reads frames as [`VitaClipVideoProcessor`] does; the image or video processor of a checkpoint makes the pixels.

    With three spatial views, that processor gets three square crops of the frames.

    Args:
        own (`BaseImageProcessor` or `BaseVideoProcessor`): the checkpoint's.
        fixed_frames (`bool`, defaults to `False`): whether the model takes `num_frames` frames and no other number.
        kwargs: as for [`VitaClipVideoProcessor`].
    """

    def __init__(self, own: Any, fixed_frames: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.own, self.fixed_frames = own, fixed_frames

    def _preprocess(self, videos: list[torch.Tensor], num_spatial_views: int = 1, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        rows: list[torch.Tensor] = []
        for video in videos:
            if self.fixed_frames and len(video) != self.num_frames:
                takes = self.num_frames
                raise ValueError(f"This model takes {takes} frames, got {len(video)}; pass `num_frames` {takes}.")
            side = min(video.shape[-2:])
            crops = three_crops(video, SizeDict(side, side)) if num_spatial_views == 3 else [video]
            rows.extend(map(self._pixels, crops))
        views = kwargs["num_views"] * num_spatial_views
        if views > 1:
            rows = [torch.stack(rows[start : start + views]) for start in range(0, len(rows), views)]
        return BatchFeature({"pixel_values_videos": rows}, tensor_type=kwargs.get("return_tensors"))

    def _pixels(self, clip: torch.Tensor) -> torch.Tensor:
        """Model input `[T, C, H, W]` of a clip `[T, 3, H, W]`; of patches (NaFlex) `[T, 1, patches, values + 3]`."""
        if isinstance(self.own, BaseVideoProcessor):
            return self.own([clip], do_sample_frames=False, return_tensors="pt")["pixel_values_videos"][0]
        inputs = self.own(list(clip), return_tensors="pt")
        pixels = inputs["pixel_values"]
        if "spatial_shapes" in inputs:  # mask and shape go along as three more values of each patch
            shapes = inputs["spatial_shapes"][:, None].expand(-1, pixels.shape[1], -1)
            return torch.cat([pixels, inputs["pixel_attention_mask"][..., None], shapes], dim=-1)[:, None]
        return pixels.flatten(0, -4)  # processors of videos as lists of images add an axis

    def to_dict(self) -> dict[str, Any]:
        options = vars(self.clip_specification) | vars(self.read_options)
        return options | {"own": self.own.to_dict(), "fixed_frames": self.fixed_frames}

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        return self.own.save_pretrained(*args, **kwargs)


def family(*model_types: str) -> Callable[[Any], Any]:
    """Registers a class for these values of `config.model_type`."""

    def register(kind: Any) -> Any:
        VideoEncoder.families.update(dict.fromkeys(model_types, kind))
        return kind

    return register


@dataclass(frozen=True)
class DualEncoder(VideoEncoder):
    """A model with a tower for clips and one for texts."""

    fixed_frames: ClassVar[bool] = False

    def __post_init__(self):
        if not isinstance(self.video_processor, OwnPixels):
            vision = getattr(self.model.config, "vision_config", None)
            frames = getattr(vision, "num_frames", None) or getattr(self.video_processor, "num_frames", None)
            pixels = OwnPixels(self.video_processor, self.fixed_frames, num_frames=frames or NUM_FRAMES)
            object.__setattr__(self, "video_processor", pixels)
        tokens, vocabulary = len(self.tokenizer), self.model.config.get_text_config().vocab_size
        if not vocabulary / 2 <= tokens <= vocabulary:
            logger.warning_once(
                f"The tokenizer has {tokens:,} tokens, the text tower {vocabulary:,}: is it the model's?"
            )

    @torch.no_grad()
    def video_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        pixels = pixel_values_videos.to(self.model.device, self.model.dtype)
        features = self.clip_features(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        return nn.functional.normalize(features, dim=-1) if self.normalized else features

    def clip_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features `[N, D]` of clips `[N, T, C, H, W]`."""
        return self.model.get_video_features(pixel_values_videos=pixels).pooler_output


@family("clip", "metaclip_2", "altclip", "chinese_clip")
class FrameEncoder(DualEncoder):
    """A video is the mean of its frames' projected features, as "CLIP" in the papers of ViFi-CLIP and Vita-CLIP."""

    def video_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        features = self.frame_features(pixel_values_videos.flatten(0, 2))
        return self.average(features.unflatten(0, pixel_values_videos.shape[:3]))

    @torch.no_grad()
    def frame_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features `[N, D]` of frames `[N, C, H, W]`, whatever clips they are of."""
        return self.image_tower(pixels.to(self.model.device, self.model.dtype))

    def average(self, features: torch.Tensor) -> torch.Tensor:
        """Features `[…, D]` of clips, from those of their frames `[…, T, D]`."""
        return nn.functional.normalize(features.mean(-2), dim=-1)

    def image_tower(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.get_image_features(pixel_values=pixels).pooler_output


@family("align", "tipsv2")
class TemperatureEncoder(FrameEncoder):
    """Cosines are divided by a temperature."""

    def logits(self, cosines: torch.Tensor) -> torch.Tensor:
        return cosines / self.model.temperature.to(cosines)


@family("siglip")
class SiglipEncoder(FrameEncoder):
    """Labels are scored independently. Texts are padded to the tower's length: other padding gives other features."""

    activation = "sigmoid"
    text_padding = "max_length"

    def logits(self, cosines: torch.Tensor) -> torch.Tensor:
        return super().logits(cosines) + self.model.logit_bias.to(cosines)


@family("siglip2")
class NaflexEncoder(SiglipEncoder):
    """SigLIP 2 that keeps the aspect ratio: a frame is a sequence of patches with a mask and a shape."""

    def image_tower(self, pixels: torch.Tensor) -> torch.Tensor:
        patches, mask, shapes = pixels.squeeze(1).split([pixels.shape[-1] - 3, 1, 2], dim=-1)
        inputs = {"pixel_attention_mask": mask.squeeze(-1).int(), "spatial_shapes": shapes[:, 0].long()}
        return self.model.get_image_features(pixel_values=patches, **inputs).pooler_output


@family("xclip")
class XClipEncoder(DualEncoder):
    """
    X-CLIP adapts the texts to each video before it compares. Embeddings for search are its plain ones, which only come
    near that.

    A clip's features are its embedding, and after it the means over time of its projected patches.
    """

    fixed_frames = True
    normalized = False
    embedding_note = "X-CLIP adapts its texts to each video; its embeddings are the plain ones, an approximation"

    def clip_features(self, pixels: torch.Tensor) -> torch.Tensor:
        outputs, model = self.model.get_video_features(pixel_values=pixels), self.model
        patches = model.prompts_visual_layernorm(outputs.last_hidden_state[:, 1:]) @ model.prompts_visual_projection
        patches = patches.unflatten(0, pixels.shape[:2]).mean(1)
        return torch.cat([outputs.pooler_output, patches.flatten(1)], dim=-1)

    def embeds(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(features[..., : self.model.config.projection_dim], dim=-1)

    @torch.no_grad()
    def compare(self, video_features: torch.Tensor, text_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        text_features = text_features.to(self.model.device)  # a timeline keeps all features on the CPU
        features = video_features.to(text_features.device, text_features.dtype).flatten(0, -2)
        patches = features.unflatten(-1, (-1, text_features.shape[-1]))[:, 1:]
        texts = text_features.expand(len(features), -1, -1)
        texts = texts + self.model.prompts_generator(texts, patches)
        texts = nn.functional.normalize(texts.float(), dim=-1)
        cosines = torch.einsum("nd,nkd->nk", self.embeds(features.float()), texts)
        cosines = cosines.unflatten(0, video_features.shape[:-1]).to(video_features.device)
        return self.logits(cosines), cosines


@family("videoprism")
class VideoPrismEncoder(DualEncoder):
    """VideoPrism has no temperature of its own: ranks are its own, scores take 0.01, which is our choice."""

    text_padding = "max_length"
    note = "VideoPrism has no temperature of its own; its scores are made with 0.01, our choice"

    def clip_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().clip_features(pixels).flatten(1)  # [N, 1, D]

    def text_tower(self, **inputs: torch.Tensor) -> torch.Tensor:
        return super().text_tower(**inputs).flatten(1)

    def logits(self, cosines: torch.Tensor) -> torch.Tensor:
        return cosines / 0.01


@family("pe_video")
class PeVideoEncoder(DualEncoder):
    """Perception Encoder: dot products of features that are not normalised, and independent labels."""

    embedding_note = "Perception Encoder compares lengths too; its embeddings are normalised, an approximation"
    activation = "sigmoid"
    normalized = False

    def clip_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.video_head(self.model.video_encoder(pixel_values_videos=pixels).pooler_output)

    def text_tower(self, **inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.model.text_model(**inputs, output_hidden_states=True)
        return self.model.text_video_head(outputs.hidden_states[-1][:, 0])

    def compare(self, video_features: torch.Tensor, text_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = video_features.float() @ text_features.float().T
        scale, bias = (self.model.text_video_logit_scale.to(logits), self.model.text_video_logit_bias.to(logits))
        cosines = self.embeds(video_features).float() @ self.embeds(text_features).float().T
        return logits * scale + bias, cosines


@family("*")
def unlisted(model: Any, tokenizer: Any, processor: Any) -> DualEncoder:
    """A frame or video encoder of a family that is not listed here, with a warning."""
    check_methods(type(model), model.config.model_type)
    frames = hasattr(model, "get_image_features")
    kind: Any = FrameEncoder if frames else DualEncoder
    logger.warning(
        f"{model.config.model_type!r:.100} is not a family that vitaclip_hf knows; trying it as an encoder of "
        f"{'frames, averaged' if frames else 'videos'}. Compare its scores with its own documentation."
    )
    if not hasattr(model, "logit_scale"):
        kind = type(kind.__name__, (kind,), {"logits": VideoPrismEncoder.logits})
    return kind(model, tokenizer, processor)


def check_methods(model_class: type, model_type: str) -> None:
    """
    Checks that a model can be a dual encoder.

    Raises:
        ValueError: a text or a vision tower is missing, or the family scores in another way.
    """
    listed = model_type != "*" and model_type in VideoEncoder.families
    has_vision = hasattr(model_class, "get_image_features") or hasattr(model_class, "get_video_features")
    if not listed and (model_type in REFUSED or not has_vision or not hasattr(model_class, "get_text_features")):
        raise ValueError(
            f"a {model_type!r:.100} model does not embed videos and texts; give a Vita-CLIP or another dual encoder "
            f"({', '.join(sorted(name for name in VideoEncoder.families if name != '*'))})."
        )


def own_parts(name: str, hub: dict[str, Any]) -> SimpleNamespace:
    """The `tokenizer` of a checkpoint, and its image or video processor as `video_processor`."""
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=False, **hub)
    tokenizer = getattr(processor, "tokenizer", None) or AutoTokenizer.from_pretrained(name, **hub)
    own = getattr(processor, "image_processor", None) or getattr(processor, "video_processor", None)
    return SimpleNamespace(tokenizer=tokenizer, video_processor=own or AutoImageProcessor.from_pretrained(name, **hub))
