"""`pipeline("zero-shot-video-classification")`: any labels, any videos."""

from .pipeline_parts import ReadsAhead, checked_on_error, error_of, read_views, require_vita_clip, save_folder
from .processing_vita_clip import check_tokenizer
from .zero_shot_classifier import (
    build_zero_shot_classifier,
    checked_blend,
    checked_labels,
    checked_templates,
    embed_views,
    label_descriptions,
    view_scores,
)


class ZeroShotVideoClassificationPipeline(ReadsAhead):
    """
    Zero-shot video classification with [`VitaClipModel`]: scores candidate labels for videos.

    Example:

    ```python
    >>> import vitaclip_hf  # registers the task
    >>> from transformers import pipeline

    >>> classifier = pipeline("zero-shot-video-classification", model="examples/demo/checkpoint")  # doctest: +SKIP
    >>> classifier("clip.mp4", candidate_labels=["red star moving left", "red star turning"])  # doctest: +SKIP
    [{'score': 0.98, 'label': 'red star moving left'}, {'score': 0.02, 'label': 'red star turning'}]

    ```

    Label embeddings are made once for a label set and kept until a text-side weight changes.

    Args:
        precision (`str`, *optional*):
            `"auto"` puts the model into bfloat16 where the machine multiplies it fast, else into float32 (see
            [`fast_dtype`]); `pipeline.dtype` says which. `dtype="auto"` is transformers' own: as the checkpoint is.
        args, kwargs: as for `Pipeline`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_video_processor = None  # `__init__` says what is missing, in one line
    _load_tokenizer = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        require_vita_clip(self.model, "zero-shot-video-classification")
        for part in ("tokenizer", "video_processor"):
            if getattr(self, part) is None:
                raise ValueError(
                    f"The zero-shot-video-classification pipeline needs a {part}; none was found beside the model. "
                    f"Pass `{part}=`."
                )
        check_tokenizer(self.tokenizer, self.model.config.text_config, self.model.config.name_or_path or "the pipeline")
        self.model.eval()

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: a video (a path, a URL, bytes, a file object, an array or tensor `[T, H, W, 3]`), or a list, dataset
                or generator of videos; the last two are read lazily.
            candidate_labels (`list[str]` or `dict[str, list[str]]`): the labels to score, or several texts for each
                label; the embeddings of a label's texts are averaged and normalised again.
            hypothesis_template (`str` or `list[str]`, *optional*, defaults to `"{}"`):
                Sentence(s) with `{}` for the label. The embeddings of several are averaged and normalised again.
            blend (`float`, *optional*, defaults to 0): weight of the frozen CLIP's features, 0 to 1; see
                [`embed_views`].
            top_k (`int`, *optional*): how many labels to return; all by default.
            batch_size (`int`, *optional*, defaults to 1): videos of a forward pass.
            num_workers (`int`, *optional*):
                Threads that read the next videos while the model computes; by default by the cores that are free. A
                generator is read `batch_size + num_workers` videos ahead. 0 reads each video when it is needed.
            num_views, num_spatial_views (`int`, *optional*): views of a video; their scores are averaged.
            sampling, num_frames, frame_stride, decoder, on_damage, max_seconds, allow_private_addresses (*optional*):
                see [`VitaClipVideoProcessor`].
            on_error (`str`, *optional*, defaults to `"error"`): or `"skip"`: a video that cannot be scored does not
                end the list; `{"error": str}` stands in the place of its answer.

        Returns:
            For one video, a list of `{"score": float, "label": str}`, best first; for several, a list of such lists.
            Scores are the softmax over the labels, averaged over the views.

        Raises:
            VideoDecodingError: a video cannot be read.
            ScoreError: the scores are NaN or infinite.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, candidate_labels=None, hypothesis_template=None, blend=None, top_k=None, on_error=None, **kwargs
    ):
        names = (
            "num_views",
            "num_spatial_views",
            "sampling",
            "num_frames",
            "frame_stride",
            "decoder",
            "on_damage",
            "max_seconds",
            "allow_private_addresses",
        )
        unknown = sorted(set(kwargs) - set(names))
        if unknown:
            raise TypeError(
                f"zero-shot-video-classification: unknown argument {', '.join(unknown)}; known are candidate_labels, "
                f"hypothesis_template, blend, top_k, batch_size, on_error, {', '.join(names)}."
            )
        forward: dict = {}
        postprocess: dict = {}
        if candidate_labels is not None:
            labels = postprocess["candidate_labels"] = checked_labels(candidate_labels)
            forward["candidate_labels"] = label_descriptions(candidate_labels) or labels
        if hypothesis_template is not None:
            forward["templates"] = checked_templates(hypothesis_template)
        if blend is not None:
            forward["blend"] = checked_blend(blend)
        if top_k is not None:
            if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
                raise ValueError(f"`top_k` must be a whole number of at least 1, got {top_k!r}.")
            postprocess["top_k"] = top_k
        preprocess = {name: value for name, value in kwargs.items() if value is not None}
        if on_error is not None:
            preprocess["on_error"] = postprocess["on_error"] = checked_on_error(on_error)
        return preprocess, forward, postprocess

    def preprocess(self, video, on_error="error", **processing):
        return read_views(self, video, processing, on_error)

    def _forward(self, model_inputs, candidate_labels=None, templates=("{}",), blend=0.0):
        if candidate_labels is None:
            raise ValueError("zero-shot-video-classification: pass `candidate_labels=[…]`, the labels to score.")
        class_embeds = build_zero_shot_classifier(self.model, self.tokenizer, candidate_labels, templates)
        scores = view_scores(
            self.model.compare(embed_views(self.model, model_inputs["pixel_values_videos"], blend), class_embeds),
            model_inputs["pixel_values_videos"].shape[1],
        )
        return {"scores": scores} | {name: model_inputs[name] for name in ("error",) if name in model_inputs}

    def postprocess(self, model_outputs, candidate_labels=None, top_k=None, on_error="error"):
        error = error_of(model_outputs, model_outputs["scores"], on_error)
        if error is not None:
            return {"error": error}
        scores = model_outputs["scores"][0].tolist()
        ranked = sorted(zip(scores, candidate_labels, strict=True), key=lambda pair: -pair[0])
        return [{"score": score, "label": label} for score, label in ranked[:top_k]]

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Saves model, video processor and tokenizer as one folder that both pipelines load."""
        save_folder(self, save_directory, **kwargs)
