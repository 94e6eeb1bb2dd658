"""Vita-CLIP for transformers. Importing it registers the model, the processors and the zero-shot video pipeline."""

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

from .configuration_vita_clip import VitaClipConfig, VitaClipTextConfig, VitaClipVisionConfig
from .modeling_vita_clip import (
    VitaClipForVideoClassification,
    VitaClipModel,
    VitaClipOutput,
    VitaClipPreTrainedModel,
    VitaClipVisionModel,
)
from .pipeline_video_classification import BatchedVideoClassificationPipeline
from .pipeline_zero_shot_video_classification import ZeroShotVideoClassificationPipeline
from .processing_vita_clip import VitaClipProcessor
from .version import __version__
from .video_decoding import VideoDecodingError, decode_video
from .video_processing_vita_clip import VitaClipVideoProcessor


__all__ = [
    "__version__",
    "VideoDecodingError",
    "VitaClipConfig",
    "VitaClipForVideoClassification",
    "VitaClipModel",
    "VitaClipOutput",
    "VitaClipPreTrainedModel",
    "VitaClipProcessor",
    "VitaClipTextConfig",
    "VitaClipVideoProcessor",
    "VitaClipVisionConfig",
    "VitaClipVisionModel",
    "ZeroShotVideoClassificationPipeline",
    "decode_video",
]


def _register() -> None:
    AutoConfig.register(VitaClipConfig.model_type, VitaClipConfig, exist_ok=True)
    AutoModel.register(VitaClipConfig, VitaClipModel, exist_ok=True)
    AutoConfig.register(VitaClipVisionConfig.model_type, VitaClipVisionConfig, exist_ok=True)
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
    stock = tasks["video-classification"]["impl"]  # a class, or its dotted path
    if stock is VideoClassificationPipeline or str(stock).endswith(f".{VideoClassificationPipeline.__name__}"):
        tasks["video-classification"]["impl"] = BatchedVideoClassificationPipeline


_register()
