"""Vita-CLIP in mteb's harness: an encoder for its video tasks. Needs `mteb`, which the package itself does not.

    import mteb
    from vitaclip_hf.evaluation.mteb import VitaClipEncoder

    mteb.evaluate(VitaClipEncoder("examples/demo/checkpoint"), mteb.get_tasks(tasks=["HMDB51ZeroShot"]))

A video's embedding is the normalised video feature, a text's the normalised feature of the plain text tower; templates
are the task's. Frames are sampled by our rules and decoded by our decoder, whatever mteb would have handed over.
"""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from huggingface_hub import metadata_load
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.utils import logging
from transformers.utils.hub import cached_file

from ..data.clip_reading import ClipReader
from ..data.video_sources import encoded_video
from ..model.checkpoint import Checkpoint, load_checkpoint
from ..model.frame_sampling import ClipSpecification
from ..model.video_decoding import TorchcodecVideo, Video, open_video
from ..model.video_inputs import video_from
from ..model.zero_shot_classifier import embed_views
from .log import fingerprint_of_json


try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import Licenses
except ImportError as error:  # not there, or a version before 2
    raise ImportError(
        f'vitaclip_hf.evaluation.mteb needs mteb: pip install "mteb>=2.26", with Python 3.11 or newer ({error}).'
    ) from error

logger = logging.get_logger(__name__)

MODALITIES = ("video", "text")
VIEW_SETTINGS = ("num_frames", "sampling", "frame_stride", "num_views", "num_spatial_views")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A checkpoint need not have a card, nor the machine a connection.
QUIET = {f"_raise_exceptions_for_{case}": False for case in ("missing_entries", "connection_errors", "gated_repo")}
CITATION = """\
@inproceedings{wasim2023vitaclip,
  title     = {Vita-CLIP: Video and text adaptive CLIP via multimodal prompting},
  author    = {Wasim, Syed Talal and Naseer, Muzammal and Khan, Salman and Khan, Fahad Shahbaz and Shah, Mubarak},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2023}
}"""


class VitaClipEncoder(AbsEncoder):
    """
    A Vita-CLIP checkpoint as mteb wants a model (`mteb.models.EncoderProtocol`).

    Args:
        model_name: Vita-CLIP folder or id, whole or prompts alone.
        revision: of the id on the Hub.
        device: by default the accelerator, if there is one.
        dtype: of the model, `"float32"`, `"bfloat16"` or `"float16"`; embeddings are float32.
        name: `ORGANISATION/NAME` in the results; by default the id, or `local/FOLDER`.
        license: of the weights; by default what the checkpoint's README.md states, if that is one that mteb knows.
        num_frames, sampling, frame_stride, num_views, num_spatial_views: of a video's clips, see
            [`VitaClipVideoProcessor`]; by default the checkpoint's. Several views' normalised features are averaged
            and normalised again (our own evaluation averages their softmax scores instead: mteb has no place for
            these).

    Raises:
        EvaluationError: not a complete Vita-CLIP checkpoint.
        OSError: no such folder or id.
        ValueError: a setting that is not one of those above.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str = "float32",
        name: str | None = None,
        license: str | None = None,
        **views: Any,
    ):
        if dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        if device is None:
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.checkpoint = load_checkpoint(model_name, revision, device=device or "cpu", dtype=DTYPES[dtype])
        self.model = self.checkpoint.model
        chosen = chosen_views(self.checkpoint.processor.video_processor, views)
        self.reader = ClipReader(self.checkpoint.processor.video_processor, ClipSpecification(**chosen))
        # What differs from the checkpoint's own settings is an experiment: mteb keeps its results apart.
        own = self.checkpoint.processor.video_processor
        experiment = {key: value for key, value in chosen.items() if value != getattr(own, key)}
        experiment |= {"dtype": dtype} if dtype != "float32" else {}
        self.mteb_model_meta = model_meta(self.checkpoint, name, license, experiment)

    def encode(
        self,
        inputs: DataLoader,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        show_progress_bar: bool = True,
        **kwargs: Any,
    ) -> np.ndarray:
        """
        Args:
            inputs: mteb's loader; its data set has a column `video`, `text` or both. Where a row has both, their
                embeddings are added and normalised again.
            show_progress_bar: over the batches.

        Returns:
            `[rows, E]`, float32, normalised.

        Raises:
            VideoDecodingError: a video that cannot be read.
            ValueError: rows without video and text, or another `precision` than float32.
        """
        if kwargs.get("precision") not in (None, "float32"):
            raise ValueError(f"VitaClipEncoder gives float32 embeddings, not `precision={kwargs['precision']!r}`.")
        batches = tqdm(self._batches(inputs), desc=task_metadata.name, disable=not show_progress_bar, leave=False)
        return torch.cat([self._embed_batch(batch) for batch in batches]).numpy()

    def _batches(self, inputs: DataLoader) -> DataLoader:
        """The rows again, their videos not decoded: that is done here, in the loader's processes."""
        from datasets import Video

        dataset: Any = inputs.dataset
        columns = [column for column in MODALITIES if column in dataset.column_names]
        if not columns:
            raise ValueError(f"VitaClipEncoder takes `video` and `text`; the data has {', '.join(dataset.features)}.")
        dataset = dataset.select_columns(columns)
        if isinstance(dataset.features.get("video"), Video) and dataset.format["type"] != "custom":
            dataset = dataset.cast_column("video", Video(decode=False))
        return DataLoader(
            dataset,
            batch_size=inputs.batch_size,
            num_workers=inputs.num_workers,
            collate_fn=RowCollator(self.reader),
        )

    def _embed_batch(self, batch: dict[str, Any]) -> torch.Tensor:
        embeds = torch.zeros(batch["rows"], self.model.config.projection_dim)
        if batch["video_rows"]:
            embeds[batch["video_rows"]] += self.embed_videos(batch["pixel_values_videos"])
        if batch["text_rows"]:
            embeds[batch["text_rows"]] += self.embed_texts(batch["texts"])
        return normalize(embeds, dim=-1)

    @torch.no_grad()
    def embed_videos(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Normalised embeddings `[B, E]`, float32 on the CPU, of `[B, views, T, 3, S, S]`."""
        views = embed_views(self.model, pixel_values_videos).float().unflatten(0, pixel_values_videos.shape[:2])
        return normalize(views.mean(1), dim=-1).cpu()

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """Normalised embeddings `[B, E]`, float32 on the CPU; what is too long for the text tower is cut."""
        longest = self.model.config.text_config.max_position_embeddings
        tokenizer: Any = self.checkpoint.processor.tokenizer
        too_long = sum(len(ids) > longest for ids in tokenizer(texts, verbose=False)["input_ids"])
        if too_long:
            logger.warning(f"{too_long} of {len(texts)} texts are longer than {longest} tokens and were cut.")
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        features = self.model.get_text_features(**inputs.to(self.model.device)).pooler_output
        return normalize(features.float(), dim=-1).cpu()


class RowCollator:
    """Rows of a task as a batch: clips `[B, views, T, 3, S, S]` and texts, each with the numbers of their rows.

    A row may lack one of the two (`None`).
    """

    def __init__(self, reader: ClipReader):
        self.reader = reader

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        having = {column: [i for i, row in enumerate(rows) if row.get(column) is not None] for column in MODALITIES}
        if set(having["video"]) | set(having["text"]) != set(range(len(rows))):
            raise ValueError("VitaClipEncoder: a row of the data has neither video nor text.")
        clips = [self._clips(rows[i]["video"]) for i in having["video"]]
        return {
            "rows": len(rows),
            "video_rows": having["video"],
            "pixel_values_videos": torch.stack(clips) if clips else None,
            "text_rows": having["text"],
            "texts": [rows[i]["text"] for i in having["text"]],
        }

    def _clips(self, video: Any) -> torch.Tensor:
        return self.reader.read(opened(video, self.reader.decoder), seed=0)


def opened(video: Any, decoder: str) -> Video:
    """Whatever a data set of mteb may hold as a video, opened.

    Args:
        video: an undecoded value of a `datasets.Video` column (path and bytes); a path, bytes or a file object; a
            torchcodec `VideoDecoder`; or all frames of a video, as an array, a tensor or a list of images.
        decoder: of encoded videos.
    """
    if isinstance(video, dict):
        return open_video(encoded_video(video, "of the task"), decoder)
    if hasattr(video, "get_frames_at"):
        return TorchcodecVideo(getattr(video.metadata, "path", None) or "of the task", video)
    return video_from(video, decoder, scale=False)


def chosen_views(video_processor: Any, views: dict[str, Any]) -> dict[str, Any]:
    """How clips are made: what is given, else the processor's.

    Raises:
        ValueError: an unknown setting, or a random sampling.
    """
    unknown = sorted(set(views) - set(VIEW_SETTINGS))
    if unknown:
        raise ValueError(f"VitaClipEncoder: unknown setting {unknown[0]!r}; known are {', '.join(VIEW_SETTINGS)}.")
    chosen = {name: getattr(video_processor, name) for name in VIEW_SETTINGS}
    chosen |= {name: value for name, value in views.items() if value is not None}
    if chosen["sampling"] not in ("uniform", "dense"):
        raise ValueError(f"`sampling` must be uniform or dense for evaluation, got {chosen['sampling']!r}.")
    return chosen


def model_meta(checkpoint: Checkpoint, name: str | None, license: str | None, experiment: dict[str, Any]) -> ModelMeta:
    """What mteb records about the model; what nobody has stated (its data, its date …) stays unknown, `None`.

    Args:
        checkpoint: the model with what goes with it.
        name: `ORGANISATION/NAME`; by default the id, or `local/FOLDER`.
        license: of the weights; by default what the checkpoint's card states.
        experiment: settings that are not the checkpoint's own.
    """
    model, folder = checkpoint.model, Path(checkpoint.name)
    is_folder = folder.is_dir()
    parameters = list(model.parameters())
    facts: dict[str, Any] = {
        "loader": None if is_folder else VitaClipEncoder,
        "name": name or (f"local/{folder.resolve().name}" if is_folder else checkpoint.name),
        "revision": content_revision(checkpoint) if is_folder or checkpoint.revision is None else checkpoint.revision,
        "release_date": None,
        "languages": ["eng-Latn"],
        "n_parameters": sum(parameter.numel() for parameter in parameters),
        "n_embedding_parameters": model.text_model.get_input_embeddings().weight.numel(),
        "memory_usage_mb": sum(parameter.nbytes for parameter in parameters) / 2**20,
        "max_tokens": model.config.text_config.max_position_embeddings,
        "embed_dim": model.config.projection_dim,
        "license": license or stated_license(checkpoint),
        "open_weights": None,
        "public_training_code": None,
        "public_training_data": None,
        "framework": ["PyTorch", "Transformers"],
        "reference": "https://arxiv.org/abs/2304.03307",
        "similarity_fn_name": ScoringFunction.COSINE,
        "use_instructions": False,
        "training_datasets": None,
        "modalities": list(MODALITIES),
        "citation": CITATION,
        "experiment_kwargs": experiment or None,
    }
    return ModelMeta(**facts)


def content_revision(checkpoint: Checkpoint) -> str:
    """A name for what is in a folder: its weights and how its processor treats videos."""
    return fingerprint_of_json([checkpoint.fingerprint(), checkpoint.processor.video_processor.to_dict()])[:40]


def stated_license(checkpoint: Checkpoint) -> str | None:
    """The licence in the checkpoint's README.md, if there is one that mteb knows."""
    card = cached_file(checkpoint.name, "README.md", revision=checkpoint.revision, **QUIET)
    stated = (metadata_load(card) or {}).get("license") if card else None
    return stated if stated in get_args(Licenses) else None


__all__ = ["VitaClipEncoder"]
