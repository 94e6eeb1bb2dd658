"""The files by which sentence-transformers loads a checkpoint folder; mteb reads the modalities of it there too."""

import json
from pathlib import Path

from vitaclip_hf import VitaClipConfig


MODULES = "sentence_transformers.base.modules"


def write_sentence_transformers_files(folder: Path, config: VitaClipConfig) -> None:
    """
    Writes the files into a checkpoint folder. Embeddings are the model's normalised video and text features.

    Args:
        folder (`Path`): with model, processor and tokenizer.
        config ([`VitaClipConfig`]): of the model.
    """
    features = {
        name: {"method": f"get_{name}_features", "method_output_name": "pooler_output"} for name in ("text", "video")
    }
    files = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{MODULES}.transformer.Transformer"},
            # It has no settings, so its folder is not needed.
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{MODULES}.normalize.Normalize"},
        ],
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": features,
            "module_output_name": "sentence_embedding",
            "max_seq_length": config.text_config.max_position_embeddings,
        },
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
