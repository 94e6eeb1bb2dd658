"""Makes a CLIP folder of a released ViFi-CLIP, which is a fine-tuned CLIP under other names (arXiv 2212.03640).

Its file lacks the token embedding, which is that of the CLIP it started from, and holds its training classes' tokens.
"""

import re
from pathlib import Path

from transformers import CLIPModel

from vitaclip_hf.loading.checkpoint import load_checkpoint
from vitaclip_hf.loading.guards import check_output

from . import original_weights as original
from .convert_clip import NEEDED, RULES


TOKEN_EMBEDDING = "text_model.embeddings.token_embedding.weight"


def convert_vifi_clip(
    checkpoint: str | Path, output: str | Path, base: str = "openai/clip-vit-base-patch16", revision: str | None = None
) -> CLIPModel:
    """
    Converts a checkpoint of ViFi-CLIP's released code without prompts.

    Args:
        checkpoint: the `.pth` file.
        output: new folder of a [`CLIPModel`] with its processor.
        base (`str`, defaults to `"openai/clip-vit-base-patch16"`): the CLIP that it started from.
        revision (`str`, *optional*): of the base on the Hub.

    Raises:
        ValueError: weights that are missing, have no place or another shape, or an output that exists.
    """
    check_output(output)
    weights = original.load_tensors(Path(checkpoint), "checkpoint")
    theirs = {name: tensor for name, tensor in weights.items() if not name.startswith("prompt_learner.")}
    theirs = {re.sub("^text_encoder.", "", re.sub("^image_encoder", "visual", name)): t for name, t in theirs.items()}
    needed = {name: ndim for name, ndim in NEEDED.items() if name != "token_embedding.weight"}
    loaded = load_checkpoint(base, revision)
    if not isinstance(loaded.model, CLIPModel):
        raise ValueError(f"`base` {base}: a {loaded.model.config.model_type!r} model; give the CLIP it started from.")
    own = loaded.model.float().state_dict()
    with original.fitting_weights():
        ours = original.rename(original.as_float32(theirs, needed, "it is no ViFi-CLIP without prompts"), RULES)
        shapes = [{(name, t.shape) for name, t in part.items() if name != TOKEN_EMBEDDING} for part in (own, ours)]
        if wrong := {name for name, _ in shapes[0] ^ shapes[1]}:
            raise ValueError(f"`checkpoint` {checkpoint} does not fit the base {base}: {original.listed(wrong)}.")
        loaded.model.load_state_dict(own | ours)
    for part in (loaded.model, loaded.processor.tokenizer, loaded.processor.video_processor):
        part.save_pretrained(output)
    return loaded.model
