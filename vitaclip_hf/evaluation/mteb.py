"""Vita-CLIP in mteb's harness: an encoder for its video tasks. Needs mteb, an optional package.

    import mteb
    from vitaclip_hf.evaluation.mteb import VitaClipEncoder

    mteb.evaluate(VitaClipEncoder("examples/demo/checkpoint"), mteb.get_tasks(tasks=["HMDB51ZeroShot"]))

A video's embedding is the normalised video feature, a text's the normalised feature of the plain text tower. Templates
are the task's. Frames are sampled and decoded by this package, not by mteb.
"""

from dataclasses import asdict, fields, replace
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

from ..data.video_sources import encoded_video
from ..loading.checkpoint import Checkpoint, load_checkpoint
from ..model.decoding import TorchcodecVideo, Video, open_video
from ..model.frame_sampling import ClipSpecification
from ..model.video_inputs import video_from
from ..model.video_reader import VideoReader
from ..model.zero_shot_classifier import embed_views
from .evaluator import DTYPES
from .result_files import fingerprint_of_json


try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import Licenses
except ImportError as error:  # not installed, or a version before 2
    raise ImportError(
        f'vitaclip_hf.evaluation.mteb needs mteb: pip install "mteb>=2.26", with Python 3.11 or newer ({error}).'
    ) from error

logger = logging.get_logger(__name__)

MODALITIES = ("video", "text")
VIEW_SETTINGS = tuple(field.name for field in fields(ClipSpecification))
# No error if the checkpoint has no card, or the machine no connection.
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
    A Vita-CLIP checkpoint as a model for mteb (`mteb.models.EncoderProtocol`).

    Args:
        model_name (`str`): Vita-CLIP folder or id, whole or prompts alone.
        revision (`str`, *optional*): of the id on the Hub.
        device (*optional*): by default the accelerator, if there is one.
        dtype (`str`, defaults to `"float32"`): of the model, `"float32"`, `"bfloat16"` or `"float16"`. Embeddings are
            float32.
        name (`str`, *optional*): `ORGANISATION/NAME` in the results; by default the id, or `local/FOLDER`.
        license (`str`, *optional*): of the weights; by default the one in the checkpoint's README.md, if mteb knows it.
        views (*optional*): `num_frames`, `sampling`, `frame_stride`, `num_views`, `num_spatial_views`, see
            [`ClipSpecification`]; by default the checkpoint's. The normalised features of several views are averaged
            and normalised again. (The package's own evaluation averages softmax scores, which mteb does not use.)

    Raises:
        CheckpointError: not a complete Vita-CLIP checkpoint.
        OSError: files that cannot be fetched or read.
        ValueError: an unknown setting, or a value that it cannot have.
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
        self.checkpoint = load_checkpoint(model_name, revision)
        own = self.checkpoint.processor.video_processor
        specification = chosen_specification(own.clip_specification, views)
        self.reader = VideoReader(own, **vars(specification))
        # mteb keeps apart the results of an experiment: of settings that are not the checkpoint's own.
        experiment = {key: value for key, value in asdict(specification).items() if value != getattr(own, key)}
        experiment |= {"dtype": dtype} if dtype != "float32" else {}
        version = content_revision(self.checkpoint)  # of the weights as loaded, before they are rounded to `dtype`
        self.model = self.checkpoint.model.to(device=device or "cpu", dtype=DTYPES[dtype])
        self.mteb_model_meta = model_meta(self.checkpoint, version, name, license, experiment)

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
        Embeds the rows of a task.

        Args:
            inputs (`DataLoader`): of mteb; its data set has a column `video`, `text` or both. If a row has both, their
                embeddings are added and normalised again.
            show_progress_bar (`bool`, defaults to `True`): over the batches.

        Returns:
            `np.ndarray` of shape `(num_rows, projection_dim)`, float32, normalised.

        Raises:
            VideoDecodingError: a video that cannot be read.
            ValueError: a row without video and text, or another `precision` than float32.
        """
        if kwargs.get("precision") not in (None, "float32"):
            raise ValueError(f"VitaClipEncoder gives float32 embeddings, not `precision={kwargs['precision']!r}`.")
        batches = tqdm(self._batches(inputs), desc=task_metadata.name, disable=not show_progress_bar, leave=False)
        return torch.cat([self._embed_batch(batch) for batch in batches]).numpy()

    def _batches(self, inputs: DataLoader) -> DataLoader:
        """The same rows in a loader that decodes their videos with this package, in the loader's processes."""
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
        """
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_views, num_frames, 3, height, width)`):
                All views of each video.

        Returns:
            `torch.Tensor` of shape `(batch_size, projection_dim)`, normalised, float32 on the CPU.
        """
        views = embed_views(self.model, pixel_values_videos).float().unflatten(0, pixel_values_videos.shape[:2])
        return normalize(views.mean(1), dim=-1).cpu()

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """
        Args:
            texts (`list[str]`): a text that is too long for the text tower is cut.

        Returns:
            `torch.Tensor` of shape `(batch_size, projection_dim)`, normalised, float32 on the CPU.
        """
        longest = self.model.config.text_config.max_position_embeddings
        tokenizer: Any = self.checkpoint.processor.tokenizer
        too_long = sum(len(ids) > longest for ids in tokenizer(texts, verbose=False)["input_ids"])
        if too_long:
            logger.warning(f"{too_long} of {len(texts)} texts are longer than {longest} tokens and were cut.")
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        features = self.model.get_text_features(**inputs.to(self.model.device)).pooler_output
        return normalize(features.float(), dim=-1).cpu()


class RowCollator:
    """
    Makes a batch of a task's rows: clips and texts, each with the numbers of their rows.

    A row can have a video, a text or both. What it does not have is `None`.

    Args:
        reader ([`VideoReader`]): reads the views of a video.
    """

    def __init__(self, reader: VideoReader):
        self.reader = reader

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        having = {column: [i for i, row in enumerate(rows) if row.get(column) is not None] for column in MODALITIES}
        if set(having["video"]) | set(having["text"]) != set(range(len(rows))):
            raise ValueError("VitaClipEncoder: a row of the data has neither video nor text.")
        videos = [opened(rows[i]["video"], self.reader.options.decoder) for i in having["video"]]
        clips = [self.reader.read(video)[0] for video in videos]  # [views, T, 3, S, S] each
        return {
            "rows": len(rows),
            "video_rows": having["video"],
            "pixel_values_videos": torch.stack(clips) if clips else None,
            "text_rows": having["text"],
            "texts": [rows[i]["text"] for i in having["text"]],
        }


def opened(video: Any, decoder: str) -> Video:
    """
    Opens a video in any form that a data set of mteb may have.

    Args:
        video: an undecoded value of a `datasets.Video` column (path and bytes); a path, bytes or a file object; a
            torchcodec `VideoDecoder`; or all frames of a video, as an array, a tensor or a list of images.
        decoder (`str`): for encoded videos, see [`open_video`].

    Raises:
        VideoDecodingError: a video that cannot be read.
    """
    if isinstance(video, dict):
        return open_video(encoded_video(video, "of the task"), decoder=decoder)
    if hasattr(video, "get_frames_at"):
        return TorchcodecVideo(getattr(video.metadata, "path", None) or "of the task", video)
    return video_from(video, decoder=decoder, scale=False)


def chosen_specification(own: ClipSpecification, views: dict[str, Any]) -> ClipSpecification:
    """How videos are read: the checkpoint's own specification with the settings that are given.

    Raises:
        ValueError: an unknown setting, a value that it cannot have, or a random sampling.
    """
    unknown = sorted(set(views) - set(VIEW_SETTINGS))
    if unknown:
        raise ValueError(f"VitaClipEncoder: unknown setting {unknown[0]!r}; known are {', '.join(VIEW_SETTINGS)}.")
    specification = replace(own, **{name: value for name, value in views.items() if value is not None})
    if specification.is_random:
        raise ValueError(f"`sampling` must be uniform or dense for evaluation, got {specification.sampling!r}.")
    return specification


def model_meta(
    checkpoint: Checkpoint, version: str, name: str | None, license: str | None, experiment: dict[str, Any]
) -> ModelMeta:
    """
    What mteb records about the model. Facts that the checkpoint does not state (its data, its date) are `None`.

    Args:
        checkpoint ([`Checkpoint`]): the model.
        version (`str`): revision of a checkpoint that has no commit on the Hub, of [`content_revision`].
        name (`str`, *optional*): `ORGANISATION/NAME`; by default the id, or `local/FOLDER`.
        license (`str`, *optional*): of the weights; by default the one in the checkpoint's card.
        experiment (`dict`): settings that are not the checkpoint's own.
    """
    model, folder = checkpoint.model, Path(checkpoint.name)
    is_folder = folder.is_dir()
    parameters = list(model.parameters())
    facts: dict[str, Any] = {
        "loader": None if is_folder else VitaClipEncoder,
        "name": name or (f"local/{folder.resolve().name}" if is_folder else checkpoint.name),
        "revision": version if is_folder or checkpoint.revision is None else checkpoint.revision,
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
    """A revision for a folder: a hash of its weights and of its video processor."""
    return fingerprint_of_json([checkpoint.fingerprint(), checkpoint.processor.video_processor.to_dict()])[:40]


def stated_license(checkpoint: Checkpoint) -> str | None:
    """The licence in the checkpoint's README.md, if mteb knows it."""
    card = cached_file(checkpoint.name, "README.md", revision=checkpoint.revision, **QUIET)
    stated = (metadata_load(card) or {}).get("license") if card else None
    return stated if stated in get_args(Licenses) else None


def register(model_name: str, revision: str | None = None, **options: Any) -> ModelMeta:
    """
    Enters a checkpoint into mteb's registry. `mteb.get_model` and mteb's commands then find it by its name.

    The entry holds for this process. The checkpoint is loaded once, for the facts that the entry states.

    Args:
        model_name (`str`): Vita-CLIP folder or id, whole or prompts alone.
        revision (`str`, *optional*): of the id on the Hub.
        options: as for [`VitaClipEncoder`].

    Returns:
        `ModelMeta`: the entry.

    Raises:
        CheckpointError: not a complete Vita-CLIP checkpoint.
        OSError: files that cannot be fetched or read.
        ValueError: an unknown setting, or a value that it cannot have.
    """

    def load(name: str, **settings: Any) -> VitaClipEncoder:
        return VitaClipEncoder(model_name, **{**options, **settings, "revision": revision})

    facts: Any = VitaClipEncoder(model_name, revision, **options).mteb_model_meta
    entry = facts.model_copy(update={"loader": load})
    MODEL_REGISTRY[str(entry.name)] = entry
    return entry


__all__ = ["VitaClipEncoder", "register"]
