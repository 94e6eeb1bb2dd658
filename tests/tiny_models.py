"""Shared by the tests: a real CLIP tokenizer, tiny models, golden cases."""

import functools
import gzip
import json
import lzma
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import CLIPTokenizer


GOLDEN = Path(__file__).parent / "golden"
SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
GOLDEN_CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


@functools.cache
def openai_tokenizer() -> CLIPTokenizer:
    """OpenAI's CLIP tokenizer, from the merges that come with open_clip."""
    from tokenizers import pre_tokenizers

    merges_file = Path(find_spec("open_clip").origin).with_name("bpe_simple_vocab_16e6.txt.gz")  # its import takes long
    lines = gzip.decompress(merges_file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    # The vocabulary's order: printable bytes first, then the others, shifted.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    if sorted(letters) != sorted(pre_tokenizers.ByteLevel.alphabet()):
        raise AssertionError("the byte alphabet has changed")
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["".join(merge) for merge in merges]
    vocab = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


@functools.cache
def letter_tokenizer(length: int = 77) -> CLIPTokenizer:
    """One of CLIP's kind that knows letters alone: OpenAI's takes longer to load than a tiny model takes to train."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[], model_max_length=length)


def vocabulary(tokenizer) -> dict[str, int]:
    """The fields of a text tower that are of its tokenizer."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {"vocab_size": len(tokenizer), **ids}


def tiny_config(vision=None, text=None, **kwargs):
    """Two small towers: 32-pixel frames, 8-pixel patches, 4 frames."""
    from vitaclip_hf import VitaClipConfig

    vision = SIZE | {"hidden_size": 48, "image_size": 32, "patch_size": 8, "num_frames": 4} | (vision or {})
    text = SIZE | {"hidden_size": 32, "num_context_tokens": 4} | (text or {})
    kwargs.setdefault("id2label", {0: "archery", 1: "riding a bike", 2: "tai chi"})
    return VitaClipConfig(vision_config=vision, text_config=text, projection_dim=24, **kwargs)


def tiny_model(vision=None, text=None, tokenizer=None, seed: int = 0, cls=None, **kwargs):
    """A tiny random model in evaluation, its time embedding not zero, with named classes if a tokenizer is given."""
    from vitaclip_hf import VitaClipModel

    torch.manual_seed(seed)
    config = tiny_config(vision, text, **kwargs)
    model = (cls or VitaClipModel)(config).eval()
    torch.nn.init.normal_(model.vision_model.time_embedding.weight, std=0.1)
    if tokenizer is not None:
        set_classes(model, list(config.id2label.values()), tokenizer)
    return model


def tiny_clip(seed: int = 3, vision=None, text=None):
    """A tiny random CLIP of transformers, as large as `tiny_model` is."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    vision = SIZE | {"hidden_size": 48, "image_size": 32, "patch_size": 8} | (vision or {})
    config = CLIPConfig(vision_config=vision, text_config=SIZE | {"hidden_size": 32} | (text or {}), projection_dim=24)
    return CLIPModel(config).eval()


def tiny_processor(tokenizer, **settings):
    """Clips of 32-pixel frames, 4 unless told otherwise."""
    from vitaclip_hf import VitaClipProcessor, VitaClipVideoProcessor

    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "num_frames": 4}
    return VitaClipProcessor(VitaClipVideoProcessor(**size | settings), tokenizer)


def set_classes(model, names: list[str], tokenizer) -> None:
    from vitaclip_hf.model.processing_vita_clip import tokenize_classes

    model.set_classes(names, **tokenize_classes(names, tokenizer, model.config.text_config))


def on_clip(folder, cls=None, settings=None, **loading):
    """A Vita-CLIP with new prompts on the stock CLIP of a folder or Hub id."""
    from transformers import AutoConfig

    from vitaclip_hf import VitaClipModel
    from vitaclip_hf.loading.clip_backbones import add_prompts

    hub = {name: loading[name] for name in ("cache_dir", "local_files_only") if name in loading}
    config = add_prompts(AutoConfig.from_pretrained(folder, **hub), settings)
    return (cls or VitaClipModel).from_pretrained(folder, config=config, **loading)


class GoldenCase:
    """A checkpoint in the released format, unpacked to a folder, with what the authors' arithmetic gives for it."""

    def __init__(self, name: str, folder: Path):
        self.name, self.classes, self.checkpoint = name, GOLDEN / name / "classes.txt", folder / "checkpoint.pth"
        self.checkpoint.write_bytes(lzma.decompress((GOLDEN / name / "checkpoint.pth.xz").read_bytes()))
        self.settings = json.loads((GOLDEN / name / "settings.json").read_text())
        self.expected = load_file(GOLDEN / name / "expected.safetensors")

    def options(self, output: Path, tokenizer: Path, **changes) -> dict:
        """The arguments of `convert_original` for this case."""
        names = {"vision_heads": "num_heads", "text_heads": "text_transformer_heads"}
        names["context_position"] = "text_prompt_pos"
        places = {"checkpoint": self.checkpoint, "classes": self.classes, "output": output, "tokenizer": str(tokenizer)}
        return places | {name: self.settings[theirs] for name, theirs in names.items()} | changes
