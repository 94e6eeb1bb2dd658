"""Vita-CLIP for transformers. Importing it registers the model, the processors and the zero-shot video pipeline."""

from importlib import import_module
from pathlib import Path

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    CLIPTokenizer,
)
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.video_classification import VideoClassificationPipeline

from .loading.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .loading.prompts_alone import load_prompts, save_prompts
from .model.configuration_vita_clip import VitaClipConfig, VitaClipTextConfig, VitaClipVisionConfig
from .model.decoding import Video, VideoDecodingError, decode_video, open_video
from .model.frame_sampling import ClipSpecification
from .model.modeling_vita_clip import (
    VitaClipForVideoClassification,
    VitaClipModel,
    VitaClipOutput,
    VitaClipPreTrainedModel,
    VitaClipVisionModel,
)
from .model.pipeline_video_classification import VitaClipVideoClassificationPipeline
from .model.pipeline_zero_shot_video_classification import ZeroShotVideoClassificationPipeline
from .model.precision import fast_dtype
from .model.processing_vita_clip import VitaClipProcessor
from .model.read_options import ReadOptions
from .model.version import __version__
from .model.video_processing_vita_clip import VitaClipVideoProcessor
from .model.video_reader import VideoReader


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
    "VitaClipVideoClassificationPipeline",
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


# A wheel has `configuration` and `conversion` within the package. A clone has them beside it, where Python finds them
# only if it is told: a clone's own folder comes first when Python is started in it, whatever is installed.
if not (Path(__file__).parent / "configuration").exists():
    __path__.append(str(Path(__file__).parents[1]))

# Imported when first asked for: these need the packages of `pip install vitaclip_hf[train]`.
_NEED_TRAIN = {
    "ClipDataset": "data.clip_dataset",
    "VitaClipTrainer": "training.trainer",
    "VitaClipTrainingArguments": "training.arguments",
    "load_protocol": "evaluation.protocols",
}


def __getattr__(name: str):
    if name not in _NEED_TRAIN:
        raise AttributeError(f"module 'vitaclip_hf' has no attribute {name!r}")
    return getattr(import_module(f"vitaclip_hf.{_NEED_TRAIN[name]}"), name)


class _VideoClassification(VideoClassificationPipeline):
    """The `video-classification` task: this package's pipeline for a Vita-CLIP, transformers' own for every other."""

    def __new__(cls, *args, **kwargs):
        config = getattr(kwargs.get("model", args[0] if args else None), "config", None)
        is_ours = getattr(config, "model_type", None) == VitaClipConfig.model_type
        return (VitaClipVideoClassificationPipeline if is_ours else VideoClassificationPipeline)(*args, **kwargs)


def _register() -> None:
    AutoConfig.register(VitaClipConfig.model_type, VitaClipConfig, exist_ok=True)
    AutoModel.register(VitaClipConfig, VitaClipModel, exist_ok=True)
    AutoConfig.register(VitaClipVisionConfig.model_type, VitaClipVisionConfig, exist_ok=True)
    AutoConfig.register(VitaClipTextConfig.model_type, VitaClipTextConfig, exist_ok=True)
    AutoModel.register(VitaClipVisionConfig, VitaClipVisionModel, exist_ok=True)
    AutoModelForVideoClassification.register(VitaClipConfig, VitaClipForVideoClassification, exist_ok=True)
    AutoProcessor.register(VitaClipConfig, VitaClipProcessor, exist_ok=True)
    AutoVideoProcessor.register(VitaClipConfig, VitaClipVideoProcessor, exist_ok=True)
    AutoTokenizer.register(VitaClipConfig, tokenizer_class=CLIPTokenizer, exist_ok=True)
    tasks = PIPELINE_REGISTRY.supported_tasks
    if "zero-shot-video-classification" not in tasks:
        PIPELINE_REGISTRY.register_pipeline(
            "zero-shot-video-classification",
            pipeline_class=ZeroShotVideoClassificationPipeline,
            pt_model=AutoModel,
            type="multimodal",
        )
    tasks["video-classification"]["impl"] = _VideoClassification


_register()
