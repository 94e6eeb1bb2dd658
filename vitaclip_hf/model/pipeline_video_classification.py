"""`pipeline("video-classification")` of a Vita-CLIP: the closed set of classes that it was trained on."""

from typing import Any

import torch
from transformers.pipelines.video_classification import VideoClassificationPipeline

from .pipeline_parts import ReadsAhead, checked_on_error, error_of, read_views, save_folder


CLIP_ARGUMENTS = (
    "num_views",
    "num_spatial_views",
    "sampling",
    "frame_stride",
    "decoder",
    "on_damage",
    "max_seconds",
    "allow_private_addresses",
)


class VitaClipVideoClassificationPipeline(ReadsAhead, VideoClassificationPipeline):
    """
    Video classification with [`VitaClipForVideoClassification`].

    Unlike transformers' own pipeline for this task, it batches, takes any source of a video, honours
    `frame_sampling_rate` and averages the views of a video.

    Args:
        precision (`str`, *optional*): `"auto"`, see [`ZeroShotVideoClassificationPipeline`].
        args, kwargs: as for `VideoClassificationPipeline`.

    Example:

    ```python
    >>> import vitaclip_hf  # registers the model
    >>> from transformers import pipeline

    >>> classifier = pipeline("video-classification", model="examples/demo/checkpoint")  # doctest: +SKIP
    >>> classifier(["one.mp4", "two.mp4"], top_k=3, batch_size=2)  # doctest: +SKIP

    ```
    """

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: a video or several, as for the zero-shot pipeline.
            top_k (`int`, *optional*, defaults to 5): how many classes to return.
            num_frames (`int`, *optional*): frames of a clip; by default as the video processor says.
            frame_sampling_rate (`int`, *optional*):
                Read every n-th frame: `sampling="dense"` with this `frame_stride`.
            num_views, num_spatial_views (`int`, *optional*): views of a video; their scores are averaged.
            sampling, frame_stride, decoder, on_damage, max_seconds, allow_private_addresses (*optional*): see
                [`VitaClipVideoProcessor`].
            on_error (`str`, *optional*, defaults to `"error"`): or `"skip"`: a video that cannot be scored does not
                end the list; `{"error": str}` stands in the place of its answer.
            function_to_apply (`str`, *optional*, defaults to `"softmax"`): or `"sigmoid"`, or `"none"` for logits.
            batch_size (`int`, *optional*, defaults to 1): videos of a forward pass.
            num_workers (`int`, *optional*):
                Threads that read the next videos while the model computes; by default by the cores that are free. A
                generator is read `batch_size + num_workers` videos ahead. 0 reads each video when it is needed.

        Returns:
            For one video, a list of `{"score": float, "label": str}`, best first; for several, a list of such lists.

        Raises:
            VideoDecodingError: a video cannot be read.
            ScoreError: the scores are NaN or infinite.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, frame_sampling_rate=None, on_error=None, **kwargs):
        clip = {name: kwargs.pop(name) for name in CLIP_ARGUMENTS if name in kwargs}
        if frame_sampling_rate is not None:
            other = [name for name in ("sampling", "frame_stride") if clip.get(name) is not None]
            if other:
                raise ValueError(f"`frame_sampling_rate` decides `{other[0]}`; pass one of the two.")
            clip |= {"sampling": "dense", "frame_stride": frame_sampling_rate}
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        if on_error is not None:
            preprocess["on_error"] = postprocess["on_error"] = checked_on_error(on_error)
        return preprocess | {name: value for name, value in clip.items() if value is not None}, forward, postprocess

    def preprocess(self, video, on_error="error", **clip):
        return read_views(self, video, clip, on_error)

    def _forward(self, model_inputs):
        pixels = model_inputs["pixel_values_videos"]
        logits = self.model(pixel_values_videos=pixels.flatten(0, 1)).logits
        # [B, views, C]
        outputs = {"logits": logits.unflatten(0, pixels.shape[:2])}
        return outputs | {name: model_inputs[name] for name in ("error",) if name in model_inputs}

    def postprocess(self, model_outputs, top_k=5, function_to_apply="softmax", on_error="error"):
        error = error_of(model_outputs, model_outputs["logits"], on_error)
        if error is not None:
            return {"error": error}
        logits = model_outputs["logits"][0].float()
        function: Any = {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda x: x}
        scores = function[function_to_apply](logits).mean(0)
        values, classes = scores.topk(min(top_k, len(scores)))
        labels = self.model.config.id2label
        return [
            {"score": score, "label": labels[index]}
            for score, index in zip(values.tolist(), classes.tolist(), strict=True)
        ]

    def get_iterator(self, *args, **kwargs):
        # The base class asks an image processor for the padding value of a batch (transformers 5.23).
        image_processor: Any = self.image_processor  # type: ignore[has-type]
        self.image_processor = image_processor or self.video_processor
        try:
            return super().get_iterator(*args, **kwargs)
        finally:
            self.image_processor = image_processor

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Saves model, video processor and tokenizer as one folder that both pipelines load."""
        save_folder(self, save_directory, **kwargs)


__all__ = ["VitaClipVideoClassificationPipeline"]
