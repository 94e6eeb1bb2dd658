"""Classification by the closed set of classes that a Vita-CLIP was trained on, as transformers' task does it."""

from typing import Any

import torch
from transformers.pipelines.video_classification import VideoClassificationPipeline

from .encoder import VitaClipEncoder
from .scorer import checked
from .video_inputs import SETTINGS
from .video_pipeline import VideoPipeline, check_top_k


class VitaClipVideoClassificationPipeline(VideoPipeline, VideoClassificationPipeline):
    """
    Video classification with [`VitaClipForVideoClassification`]. Unlike transformers' own pipeline for this task, it
    batches, takes any source of a video, honours `frame_sampling_rate` and averages the views of a video.
    Pass it as `pipeline_class`.
    """

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs, batch_size, num_workers, on_error, kwargs: as for [`ZeroShotVideoClassificationPipeline`], which
                also says what is returned and raised.
            top_k (`int`, *optional*, defaults to 5): how many classes to return.
            frame_sampling_rate (`int`, *optional*): read every n-th frame: `sampling="dense"`, this `frame_stride`.
            function_to_apply (`str`, *optional*, defaults to `"softmax"`): or `"sigmoid"`, or `"none"` for logits.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, frame_sampling_rate=None, **kwargs):
        settings = {name: kwargs.pop(name) for name in (*SETTINGS, "on_error") if name in kwargs}
        if frame_sampling_rate is not None:
            if any(settings.get(name) is not None for name in ("sampling", "frame_stride")):
                raise ValueError("`frame_sampling_rate` decides `sampling` and `frame_stride`; leave them out.")
            settings |= {"sampling": "dense", "frame_stride": frame_sampling_rate}
        if kwargs.get("top_k") is not None:
            check_top_k(kwargs["top_k"])
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        return preprocess | {name: value for name, value in settings.items() if value is not None}, forward, postprocess

    def _forward(self, model_inputs):
        encoder = VitaClipEncoder(self.model, None, None)
        features = encoder.video_features(model_inputs["pixel_values_videos"])
        return {"logits": encoder.compare(features, self.model.get_class_embeds().to(features.device))[0]}

    def postprocess(self, model_outputs, top_k=5, function_to_apply="softmax"):
        logits = checked(model_outputs["logits"][0])  # [views, C]
        function: Any = {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda x: x}
        scores = function[function_to_apply](logits).mean(0)
        order = scores.argsort(descending=True, stable=True)[:top_k].tolist()
        return [{"score": scores[index].item(), "label": self.model.config.id2label[index]} for index in order]
