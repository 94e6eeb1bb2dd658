"""Vita-CLIP for transformers. Importing it registers the model, the processors and the zero-shot video pipeline."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .version import __version__


# The `vitaclip` command registers when it starts to work (cli/libraries.py): its help needs no transformers.
if "vitaclip_command" not in sys.modules:
    from . import registration  # noqa: F401
if TYPE_CHECKING:
    from .data.clip_dataset import ClipDataset
    from .data.video_sources import decode_video
    from .evaluation.protocols import load_protocol
    from .loading.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
    from .loading.prompts_alone import load_prompts, save_prompts
    from .model.configuration_vita_clip import VitaClipConfig, VitaClipTextConfig, VitaClipVisionConfig
    from .model.decoding import Video, open_video
    from .model.frame_sampling import ClipSpecification
    from .model.machine import fast_dtype
    from .model.modeling_vita_clip import (
        VitaClipForVideoClassification,
        VitaClipModel,
        VitaClipOutput,
        VitaClipPreTrainedModel,
        VitaClipVisionModel,
    )
    from .model.pipeline_zero_shot_video_classification import ZeroShotVideoClassificationPipeline
    from .model.processing_vita_clip import VitaClipProcessor
    from .model.read_options import ReadOptions
    from .model.sources import VideoDecodingError
    from .model.video_inputs import VideoReader
    from .model.video_processing_vita_clip import VitaClipVideoProcessor
    from .training.arguments import VitaClipTrainingArguments
    from .training.trainer import VitaClipTrainer


__all__ = [
    "__version__",
    "Checkpoint",
    "CheckpointError",
    "ClipDataset",
    "ClipSpecification",
    "ReadOptions",
    "Video",
    "VideoDecodingError",
    "VideoReader",
    "VitaClipConfig",
    "VitaClipForVideoClassification",
    "VitaClipModel",
    "VitaClipOutput",
    "VitaClipPreTrainedModel",
    "VitaClipProcessor",
    "VitaClipTextConfig",
    "VitaClipTrainer",
    "VitaClipTrainingArguments",
    "VitaClipVideoProcessor",
    "VitaClipVisionConfig",
    "VitaClipVisionModel",
    "ZeroShotVideoClassificationPipeline",
    "decode_video",
    "fast_dtype",
    "load_checkpoint",
    "load_prompts",
    "load_protocol",
    "open_video",
    "save_checkpoint",
    "save_prompts",
]

# Modules that are imported when one of their names is first used.
_LAZY = {
    "data.clip_dataset": ("ClipDataset",),
    "evaluation.protocols": ("load_protocol",),
    "loading.checkpoint": ("Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"),
    "loading.prompts_alone": ("load_prompts", "save_prompts"),
    "data.video_sources": ("decode_video",),
    "model.decoding": ("Video", "open_video"),
    "model.sources": ("VideoDecodingError",),
    "model.frame_sampling": ("ClipSpecification",),
    "model.configuration_vita_clip": ("VitaClipConfig", "VitaClipTextConfig", "VitaClipVisionConfig"),
    "model.pipeline_zero_shot_video_classification": ("ZeroShotVideoClassificationPipeline",),
    "model.machine": ("fast_dtype",),
    "model.processing_vita_clip": ("VitaClipProcessor",),
    "model.read_options": ("ReadOptions",),
    "model.video_processing_vita_clip": ("VitaClipVideoProcessor",),
    "model.video_inputs": ("VideoReader",),
    "training.arguments": ("VitaClipTrainingArguments",),
    "training.trainer": ("VitaClipTrainer",),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vitaclip_hf' has no attribute {name!r}")
    module = next((module for module, names in _LAZY.items() if name in names), "model.modeling_vita_clip")
    return getattr(import_module(f"vitaclip_hf.{module}"), name)


# A wheel has `configuration`, `conversion` and `examples` within the package. A clone has them beside it, where Python
# finds them only if it is told: a clone's own folder comes first when Python is started in it, whatever is installed.
if not (Path(__file__).parent / "configuration").exists():
    __path__.append(str(Path(__file__).parents[1]))
