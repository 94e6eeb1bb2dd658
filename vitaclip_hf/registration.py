"""Importing this module registers configuration, models, processors and one pipeline task with transformers."""

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

from .loading import families  # noqa: F401  registers other dual encoders
from .model.configuration_vita_clip import VitaClipConfig, VitaClipTextConfig, VitaClipVisionConfig
from .model.modeling_vita_clip import VitaClipForVideoClassification, VitaClipModel, VitaClipVisionModel
from .model.pipeline_zero_shot_video_classification import ZeroShotVideoClassificationPipeline
from .model.processing_vita_clip import VitaClipProcessor
from .model.video_processing_vita_clip import VitaClipVideoProcessor


for config in (VitaClipConfig, VitaClipVisionConfig, VitaClipTextConfig):
    AutoConfig.register(config.model_type, config, exist_ok=True)
AutoModel.register(VitaClipConfig, VitaClipModel, exist_ok=True)
AutoModel.register(VitaClipVisionConfig, VitaClipVisionModel, exist_ok=True)
AutoModelForVideoClassification.register(VitaClipConfig, VitaClipForVideoClassification, exist_ok=True)
AutoTokenizer.register(VitaClipConfig, tokenizer_class=CLIPTokenizer, exist_ok=True)
AutoProcessor.register(VitaClipConfig, VitaClipProcessor, exist_ok=True)
AutoVideoProcessor.register(VitaClipConfig, VitaClipVideoProcessor, exist_ok=True)
if "zero-shot-video-classification" not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(
        "zero-shot-video-classification",
        pipeline_class=ZeroShotVideoClassificationPipeline,
        pt_model=AutoModel,
        type="multimodal",
    )
