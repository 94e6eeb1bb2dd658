"""Builds the Hub folder of a checkpoint: weights, configurations, processor, tokenizer, code and licence."""

from importlib import metadata
from pathlib import Path

from transformers.dynamic_module_utils import custom_object_save

from vitaclip_hf import (
    VitaClipConfig,
    VitaClipForVideoClassification,
    VitaClipModel,
    VitaClipProcessor,
    VitaClipVideoProcessor,
    ZeroShotVideoClassificationPipeline,
)
from vitaclip_hf.loading.checkpoint import save_checkpoint

from .sentence_transformers_files import write_sentence_transformers_files


AUTO_CLASSES: dict[str, type] = {
    "AutoConfig": VitaClipConfig,
    "AutoModel": VitaClipModel,
    "AutoModelForVideoClassification": VitaClipForVideoClassification,
    "AutoProcessor": VitaClipProcessor,
    "AutoVideoProcessor": VitaClipVideoProcessor,
}


def reference(cls: type) -> str:
    """A class as `auto_map` names it: `module.Class`."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def build(model: VitaClipModel, processor: VitaClipProcessor, folder: Path, max_shard_size: str = "5GB") -> None:
    """
    Writes everything but the model card.

    `save_pretrained` writes `auto_map` and code of a registered class only. One model has two entry points here, and
    registering would make each later `save_pretrained` of this process write code.

    Args:
        model ([`VitaClipModel`]): a whole model. Its configuration and the processor get the fields that name the code.
        processor ([`VitaClipProcessor`]): saved with it.
        folder (`Path`): an empty folder to write into.
        max_shard_size (`str`): largest size of a weights file, such as `"5GB"`.
    """
    save_checkpoint(model, None, folder, max_shard_size=max_shard_size)
    auto_map = {name: reference(cls) for name, cls in AUTO_CLASSES.items()}
    model.config.auto_map = auto_map
    zero_shot = {"impl": reference(ZeroShotVideoClassificationPipeline), "pt": ["AutoModel"], "type": "multimodal"}
    model.config.custom_pipelines = {"zero-shot-video-classification": zero_shot}
    model.config.save_pretrained(folder)
    processor.auto_map = {"AutoProcessor": auto_map["AutoProcessor"]}
    processor.video_processor.auto_map = {"AutoVideoProcessor": auto_map["AutoVideoProcessor"]}
    for name in ("is_local", "local_files_only", "name_or_path"):  # how the tokenizer was loaded here
        processor.tokenizer.init_kwargs.pop(name, None)
    processor.save_pretrained(folder)
    for cls in (*AUTO_CLASSES.values(), ZeroShotVideoClassificationPipeline):
        custom_object_save(cls, folder)  # its module, and those that it imports
    write_sentence_transformers_files(folder, model.config)
    # A source tree's egg-info has no licence, so all installed distributions are searched.
    licences = (
        distribution.read_text("licenses/LICENSE") for distribution in metadata.distributions(name="vitaclip_hf")
    )
    (folder / "LICENSE").write_text(next(filter(None, licences)), encoding="utf-8")
