"""Tiny random dual encoders of every family that transformers has, saved with processors of their own."""

from pathlib import Path

import torch
import transformers
from tiny_models import openai_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors


SIZE = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = SIZE | {"image_size": 32, "patch_size": 8}
WORDS = [*("a", "b", "c", "red", "blue", "taxi", "bell", "spinning", "moving", "left", "right", "up", "down")]
WORDS += ["video", "of", "the", "in"]
VOCABULARY = ["<pad>", "</s>", "<unk>", "<s>", *WORDS, *(f"<extra_id_{n}>" for n in range(20))]
TEXT = SIZE | {"vocab_size": len(VOCABULARY) + 4, "pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 1}


def word_tokenizer(**kwargs) -> transformers.PreTrainedTokenizerFast:
    """One token a word, `<s>` before and `</s>` after a text."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(VOCABULARY)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("</s>", 1), ("<s>", 3)])
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>", "cls_token": "<s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks, **kwargs)


def images(kind: str = "CLIPImageProcessor", **kwargs):
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return getattr(transformers, kind)(**size | kwargs)


def square(kind: str, side: int = 32, **kwargs):
    return getattr(transformers, kind)(size={"height": side, "width": side}, **kwargs)


def ids_only() -> transformers.PreTrainedTokenizerFast:
    return word_tokenizer(model_input_names=["input_ids"], model_max_length=16)


CLIP_TEXT = SIZE | {"vocab_size": 49408}
SIGLIP_TEXT = TEXT | {"max_position_embeddings": 16, "projection_size": 32}


def towers(text: dict, vision: dict = VISION, **more) -> dict:
    return {"text_config": text, "vision_config": vision, "projection_dim": 24} | more


def text(positions: int, **more) -> dict:
    return TEXT | {"max_position_embeddings": positions} | more


EFFICIENT_NET = {
    "image_size": 32, "kernel_sizes": [3, 3, 5], "in_channels": [32, 16, 24], "out_channels": [16, 24, 30],
    "strides": [1, 1, 2], "num_block_repeats": [1, 1, 2], "expand_ratios": [1, 6, 6], "hidden_dim": 64,
}  # fmt: skip
OF_XCLIP = {"num_frames": 4, "mit_hidden_size": 24, "mit_num_attention_heads": 4, "mit_intermediate_size": 37}
OF_VIDEOPRISM = {
    "image_size": 36, "num_frames": 4, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 37,
    "num_spatial_layers": 1, "num_temporal_layers": 1, "num_auxiliary_layers": 1,
}  # fmt: skip
VIT = {"embed_dim": 32, "depth": 1, "num_heads": 4, "img_size": 28, "global_pool": "map"}
PE_VISION = {"architecture": "vit_pe_core_large_patch14_336", "num_classes": 32, "model_args": VIT}
TIPS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28, "patch_size": 14}
# By family: values of its configuration, its processor's class, that of its pixels, and its tokenizer.
FAMILIES = {
    "clip": lambda: (towers(CLIP_TEXT), "CLIPProcessor", images(), openai_tokenizer()),
    "metaclip_2": lambda: (towers(text(16)), "CLIPProcessor", images(), word_tokenizer()),
    "altclip": lambda: (
        *(towers(text(20, project_dim=32, type_vocab_size=1)), "AltCLIPProcessor"),
        *(images(), word_tokenizer(model_max_length=16)),
    ),
    "chinese_clip": lambda: (
        *(towers(text(20)), "ChineseCLIPProcessor", images("ChineseCLIPImageProcessor"), word_tokenizer()),
    ),
    "siglip": lambda: (
        *({"text_config": SIGLIP_TEXT, "vision_config": VISION}, "SiglipProcessor"),
        *(square("SiglipImageProcessor"), ids_only()),
    ),
    "siglip2": lambda: (
        {"text_config": SIGLIP_TEXT, "vision_config": SIZE | {"num_patches": 16, "patch_size": 8}},
        *("Siglip2Processor", transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16), ids_only()),
    ),
    "align": lambda: (
        *(towers(text(64), EFFICIENT_NET, projection_dim=64), "AlignProcessor"),
        *(square("EfficientNetImageProcessor", rescale_offset=False), word_tokenizer()),
    ),
    "tipsv2": lambda: (
        *({"text_config": TEXT, "vision_config": TIPS}, "Tipsv2Processor"),
        *(square("Tipsv2ImageProcessor", 28), word_tokenizer()),
    ),
    "xclip": lambda: (
        *(towers(CLIP_TEXT, VISION | OF_XCLIP, prompt_num_attention_heads=4), "XCLIPProcessor"),
        *(images("VideoMAEImageProcessor"), openai_tokenizer()),
    ),
    "videoprism": lambda: (
        *({"text_config": text(16), "vision_config": OF_VIDEOPRISM}, "VideoPrismProcessor"),
        *(square("LlavaOnevisionVideoProcessor", 36, do_normalize=False), word_tokenizer()),
    ),
    "pe_video": lambda: (
        {
            "text_config": TEXT | {"model_type": "modernbert", "cls_token_id": 3, "sep_token_id": 1},
            "video_config": SIZE | {"num_key_value_heads": 4, "head_dim": 8, "vision_config": PE_VISION},
        },
        *("PeVideoProcessor", square("PeVideoVideoProcessor", 28, do_resize=True), word_tokenizer()),
    ),
}


def save_tiny_encoder(family: str, folder: Path) -> None:
    """Saves a random model of a family with its processor as one folder."""
    values, processor, pixels, tokenizer = FAMILIES[family]()
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **values)
    model = transformers.AutoModel.from_config(config).eval()
    for name, parameter in model.named_parameters():  # so that scales and biases are not what a mistake leaves as well
        if name.endswith(("logit_bias", "temperature", "text_video_logit_scale")):
            torch.nn.init.constant_(parameter, 0.3)
    model.save_pretrained(folder)
    part = "video_processor" if hasattr(pixels, "sample_frames") else "image_processor"
    getattr(transformers, processor)(**{part: pixels, "tokenizer": tokenizer}).save_pretrained(folder)
