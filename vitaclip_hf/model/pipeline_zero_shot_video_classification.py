"""`pipeline("zero-shot-video-classification")`: any labels, any videos."""

from dataclasses import replace
from typing import Any

from .encoder import VideoEncoder, VitaClipEncoder, check_labels, check_templates
from .scorer import Scorer, checked
from .video_pipeline import VideoPipeline, check_top_k
from .video_processing_vita_clip import VitaClipVideoProcessor


TASK = "zero-shot-video-classification"
DETAILS = ("min_score", "min_cosine", "return_details")


class ZeroShotVideoClassificationPipeline(VideoPipeline):
    """
    Zero-shot video classification: scores candidate labels for videos, with a [`VitaClipModel`] or, after
    `import vitaclip_hf`, with another dual encoder of transformers, such as CLIP, SigLIP or X-CLIP.

    Example:

    ```python
    >>> import vitaclip_hf  # registers the task
    >>> from transformers import pipeline

    >>> classifier = pipeline("zero-shot-video-classification", model="examples/demo/checkpoint")  # doctest: +SKIP
    >>> classifier("clip.mp4", candidate_labels=["rocket rising", "rocket spinning"])  # doctest: +SKIP
    [{'score': 0.98, 'label': 'rocket rising'}, {'score': 0.02, 'label': 'rocket spinning'}]

    ```
    """

    _load_processor = False
    _load_feature_extractor = False
    _load_image_processor = None  # `__init__` says what is missing, in one line
    _load_video_processor = None
    _load_tokenizer = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        family, families = self.model.config.model_type, VideoEncoder.families
        kind = family if family in families else "*"
        if kind not in families or (kind == "*" and not hasattr(self.model, "get_text_features")):
            raise ValueError(
                f"The {TASK} pipeline needs a Vita-CLIP or, after `import vitaclip_hf`, another model that embeds "
                f"videos and texts; got a {family!r:.100} model."
            )
        processor = vars(self)["video_processor"]
        if family != "vita_clip" and not isinstance(processor, VitaClipVideoProcessor):
            # transformers makes a video processor of an image processor's file, too
            processor = self.image_processor or processor
        for part, value in (("tokenizer", self.tokenizer), ("video_processor", processor)):
            if value is None:
                raise ValueError(f"The {TASK} pipeline needs a {part}; none is beside the model. Pass `{part}=`.")
        if family == "vita_clip":  # transformers makes a tokenizer of a few tokens for a folder without tokenizer files
            tokens, vocabulary = len(self.tokenizer), self.model.config.text_config.vocab_size
            if not vocabulary / 2 <= tokens <= vocabulary:
                raise ValueError(f"The tokenizer has {tokens:,} tokens, the text tower {vocabulary:,}; pass its own.")
        self.encoder = families[kind](self.model.eval(), self.tokenizer, processor)
        self.video_processor = self.encoder.video_processor

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: a video (a path, a URL, bytes, a file object, an array or tensor `[T, H, W, 3]`), or a list, dataset
                or generator of videos; the last two are read lazily.
            candidate_labels (`list[str]` or `dict[str, list[str]]`, *optional*): the labels to score, or several texts
                for each label, whose embeddings are averaged; by default the classes that the model was trained on.
            hypothesis_template (`str` or `list[str]`, *optional*, defaults to `"{}"`):
                Sentence(s) with `{}` for the label. The embeddings of several are averaged and normalised again.
            blend (`float`, *optional*, defaults to 0): weight of the frozen CLIP's features, 0 to 1; see
                [`VitaClipEncoder`].
            top_k (`int`, *optional*): how many labels to return; all by default.
            min_score, min_cosine (`float`, *optional*): with `return_details`, the least score and the least cosine of
                the best label. Softmax scores compare the labels with each other; sigmoid scores (SigLIP, Perception
                Encoder) and cosines compare video and label alone. `min_score` is 0.5 by default for sigmoid scores.
            return_details (`bool`, *optional*, defaults to `False`): return with the scores what they were read from.
            batch_size (`int`, *optional*, defaults to 1): videos of a forward pass.
            num_workers (`int`, *optional*):
                Threads that read the next videos while the model computes; by default by the cores that are free. A
                generator is read `batch_size + num_workers` videos ahead. 0 reads each video when it is needed.
            on_error (`str`, *optional*, defaults to `"error"`): or `"skip"`: a video that cannot be scored does not
                end the list; `{"error": str}` stands in the place of its answer.
            kwargs (*optional*): fields of [`ClipSpecification`], such as `num_views`, and of [`ReadOptions`], such as
                `max_seconds`, in place of the video processor's own.

        Returns:
            For one video, a list of `{"score": float, "label": str}`, best first; for several, a list of such lists.
            Scores are the softmax over the labels, or the sigmoid of each, as the model was trained, averaged over the
            views. With `return_details`, for each video `answer` (the best label, or `"something else"` with its
            `reason` if a threshold is not reached), `scores` with `cosine` of each label, `activation` (`"softmax"` or
            `"sigmoid"`), and numbers and times in seconds of the `frames` that were read.

        Raises:
            VideoDecodingError: a video cannot be read.
            ScoreError: the scores are NaN or infinite.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, candidate_labels=None, hypothesis_template=None, blend=None, top_k=None, **kwargs):
        preprocess = {name: value for name, value in kwargs.items() if value is not None}  # checked where it is used
        postprocess: dict = {name: preprocess.pop(name) for name in DETAILS if name in preprocess}
        forward: dict = {}
        for name in ("min_score", "min_cosine"):
            if not isinstance(postprocess.get(name, 0.0), (int, float)):
                raise ValueError(f"`{name}` must be a number, got {postprocess[name]!r:.100}.")
        if candidate_labels is not None:
            forward["labels"] = check_labels(candidate_labels, "candidate_labels")
            postprocess["labels"] = tuple(forward["labels"])
        if hypothesis_template is not None:
            forward["templates"] = check_templates(hypothesis_template, "hypothesis_template")
        if blend is not None:
            forward["blend"] = VitaClipEncoder(None, None, None, blend=blend).blend  # checks it
        if top_k is not None:
            postprocess["top_k"] = check_top_k(top_k)
        return preprocess, forward, postprocess

    def scorer(self, labels: Any = None, templates: Any = "{}", blend: float = 0.0) -> Scorer:
        if blend and not isinstance(self.encoder, VitaClipEncoder):
            raise ValueError("`blend` mixes a Vita-CLIP with its CLIP; this model is no Vita-CLIP.")
        return Scorer(replace(self.encoder, blend=blend) if blend else self.encoder, labels, templates)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves model, processor and tokenizer as one folder that the pipeline loads."""
        if isinstance(self.encoder, VitaClipEncoder):
            super().save_pretrained(save_directory, **kwargs)
        else:
            for part in (self.model, self.tokenizer, self.video_processor):
                part.save_pretrained(save_directory, **kwargs)

    def _forward(self, model_inputs, **scoring):
        return self.scorer(**scoring).score(model_inputs["pixel_values_videos"])._asdict()

    def postprocess(self, model_outputs, labels=None, top_k=None, return_details=False, **least):
        scores, cosines = (checked(model_outputs[name][0]).tolist() for name in ("scores", "cosines"))
        if labels is None:
            labels = [self.model.config.id2label[index] for index in range(len(scores))]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        ranked = [{"score": scores[index], "label": labels[index], "cosine": cosines[index]} for index in order]
        if not return_details:
            return [{"score": row["score"], "label": row["label"]} for row in ranked[:top_k]]
        return details(ranked, model_outputs["metadata"], self.encoder.activation, top_k, **least)


def details(ranked, metadata, activation, top_k=None, min_score=None, min_cosine=-1.0) -> dict[str, Any]:
    """The answer for one video, with its frames and their times; "something else" and a reason below a least score."""
    best, reason = ranked[0], None
    min_score = (0.5 if activation == "sigmoid" else 0.0) if min_score is None else min_score
    if best["score"] < min_score:
        reason = f"the best score is {best['score']:.3g}, below {min_score:g}"
    elif best["cosine"] < min_cosine:
        reason = f"the cosine of the best label is {best['cosine']:.3f}, below {min_cosine:g}"
    times = [round(time, 3) for time in metadata.timestamps] if metadata.fps else None
    answer = {"answer": best["label"], "scores": ranked[:top_k], "activation": activation}
    answer |= {"frames": list(metadata.frames_indices or ()), "times": times}
    return answer if reason is None else answer | {"answer": "something else", "reason": reason}
