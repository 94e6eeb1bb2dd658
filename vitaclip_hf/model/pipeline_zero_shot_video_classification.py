"""`pipeline("zero-shot-video-classification")`: any labels, any videos."""

from transformers import Pipeline

from .pipeline_parts import as_inputs, require_vita_clip, save_folder, view_pixels
from .zero_shot_classifier import build_zero_shot_classifier, checked_labels, checked_templates, score_videos


class ZeroShotVideoClassificationPipeline(Pipeline):
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
        self.model.eval()

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: a video (a path, a URL, bytes, a file object, an array or tensor `[T, H, W, 3]`), or a list, dataset
                or generator of videos; the last two are read lazily.
            candidate_labels (`list[str]`): the labels to score.
            hypothesis_template (`str` or `list[str]`, *optional*, defaults to `"{}"`):
                Sentence(s) with `{}` for the label. The embeddings of several are averaged and normalised again.
            top_k (`int`, *optional*): how many labels to return; all by default.
            batch_size (`int`, *optional*, defaults to 1): videos of a forward pass.
            num_views, num_spatial_views (`int`, *optional*): views of a video; their scores are averaged.
            sampling, num_frames, frame_stride, decoder, on_damage, allow_private_addresses (*optional*): see
                [`VitaClipVideoProcessor`].

        Returns:
            For one video, a list of `{"score": float, "label": str}`, best first; for several, a list of such lists.
            Scores are the softmax over the labels, averaged over the views.
        """
        inputs, single = as_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        outputs = super().__call__(inputs, **kwargs)
        return outputs[0] if single else outputs

    def _sanitize_parameters(self, candidate_labels=None, hypothesis_template=None, top_k=None, **kwargs):
        names = (
            "num_views",
            "num_spatial_views",
            "sampling",
            "num_frames",
            "frame_stride",
            "decoder",
            "on_damage",
            "allow_private_addresses",
        )
        unknown = sorted(set(kwargs) - set(names))
        if unknown:
            raise TypeError(
                f"zero-shot-video-classification: unknown argument {', '.join(unknown)}; known are candidate_labels, "
                f"hypothesis_template, top_k, batch_size, {', '.join(names)}."
            )
        forward: dict = {}
        postprocess: dict = {}
        if candidate_labels is not None:
            forward["candidate_labels"] = postprocess["candidate_labels"] = checked_labels(candidate_labels)
        if hypothesis_template is not None:
            forward["templates"] = checked_templates(hypothesis_template)
        if top_k is not None:
            if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
                raise ValueError(f"`top_k` must be a whole number of at least 1, got {top_k!r}.")
            postprocess["top_k"] = top_k
        return {name: value for name, value in kwargs.items() if value is not None}, forward, postprocess

    def preprocess(self, video, **processing):
        return view_pixels(self, video, processing)

    def _forward(self, model_inputs, candidate_labels=None, templates=("{}",)):
        if candidate_labels is None:
            raise ValueError("zero-shot-video-classification: pass `candidate_labels=[…]`, the labels to score.")
        class_embeds = build_zero_shot_classifier(self.model, self.tokenizer, candidate_labels, templates)
        return {"scores": score_videos(self.model, model_inputs["pixel_values_videos"], class_embeds)}

    def postprocess(self, model_outputs, candidate_labels=None, top_k=None):
        scores = model_outputs["scores"][0].tolist()
        ranked = sorted(zip(scores, candidate_labels, strict=True), key=lambda pair: -pair[0])
        return [{"score": score, "label": label} for score, label in ranked[:top_k]]

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Saves model, video processor and tokenizer as one folder that both pipelines load."""
        save_folder(self, save_directory, **kwargs)
