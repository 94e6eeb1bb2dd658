"""Vita-CLIP in mteb's harness: an encoder for its video tasks. Needs `pip install '.[mteb]'`, Python 3.11 or newer.

    import mteb
    from mteb_encoder import MtebEncoder

    mteb.evaluate(MtebEncoder("examples/demo/checkpoint"), mteb.get_tasks(tasks=["HMDB51ZeroShot"]))

A video's embedding is the normalised video feature, a text's the normalised feature of the plain text tower. Templates
are the task's. Frames are sampled and decoded by vitaclip_hf, not by mteb.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Video
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.model_meta import ModelMeta, ScoringFunction
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from tqdm import tqdm

from vitaclip_hf import load_checkpoint
from vitaclip_hf.data.video_sources import encoded_video
from vitaclip_hf.evaluation.progress_log import fingerprint_of_json
from vitaclip_hf.model.decoding import torchcodec_video
from vitaclip_hf.model.video_inputs import VideoReader


logger = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16", "float16")


class MtebEncoder(AbsEncoder):
    """
    A Vita-CLIP or another dual encoder as a model for mteb (`mteb.models.EncoderProtocol`).

    Args:
        model_name (`str`): folder or id of a Vita-CLIP, whole or prompts alone, or of another dual encoder.
        revision (`str`, *optional*): of the id on the Hub.
        device (*optional*): by default the accelerator, if there is one.
        dtype (`str`, defaults to `"float32"`): of the model, `"float32"`, `"bfloat16"` or `"float16"`. Embeddings are
            float32.
        name (`str`, *optional*): `ORGANISATION/NAME` in the results; by default the id, or `local/FOLDER`.
        license (`str`, *optional*): of the weights, one that mteb knows.
        settings: fields of [`ClipSpecification`] and [`ReadOptions`], such as `num_views` or `max_seconds`; by default
            the checkpoint's. The normalised features of several views are averaged and normalised again. (The package's
            own evaluation averages scores, which mteb does not use.)

    Raises:
        CheckpointError: not a complete checkpoint.
        OSError: files that cannot be fetched or read.
        TypeError: an unknown setting.
        ValueError: an unusable value of a setting.
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
        **settings: Any,
    ):
        if dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        if device is None:
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.checkpoint = load_checkpoint(model_name, revision)
        self.encoder = self.checkpoint.encoder()
        self.reader = self.encoder.reader(**settings)
        if self.reader.specification.is_random:
            raise ValueError(f"`sampling` must be uniform or dense, got {self.reader.specification.sampling!r}.")
        # mteb keeps apart the results of an experiment: of settings that are not the checkpoint's own.
        own, chosen = self.encoder.video_processor, vars(self.reader.specification) | vars(self.reader.options)
        experiment = {key: value for key, value in chosen.items() if value != getattr(own, key)}
        experiment |= {"dtype": dtype} if dtype != "float32" else {}
        # A hash of the weights as loaded, before they are rounded to `dtype`.
        version = fingerprint_of_json([self.checkpoint.fingerprint(), own.to_dict()])[:40]
        self.model = self.checkpoint.model.to(device=device or "cpu", dtype=getattr(torch, dtype))
        # Facts that the checkpoint does not state (its data, its date) are `None`.
        folder, revision = Path(self.checkpoint.name), self.checkpoint.revision
        facts = {
            "loader": None if folder.is_dir() else MtebEncoder,
            "name": name or (f"local/{folder.resolve().name}" if folder.is_dir() else self.checkpoint.name),
            "revision": version if folder.is_dir() or revision is None else revision,
            "languages": ["eng-Latn"],
            "n_parameters": self.model.num_parameters(),
            "max_tokens": self.encoder.max_tokens,
            "embed_dim": self.encoder.embed_dim,
            "license": license,
            "framework": ["PyTorch", "Transformers"],
            "reference": None if self.checkpoint.kind == "encoder" else "https://arxiv.org/abs/2304.03307",
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
            "modalities": ["video", "text"],
            "experiment_kwargs": experiment or None,
        }
        self.mteb_model_meta = ModelMeta.create_empty(facts)

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
            ValueError: a row without video and text.
        """
        dataset = inputs.dataset
        columns = [column for column in ("video", "text") if column in dataset.column_names]
        if not columns:
            raise ValueError(f"MtebEncoder takes `video` and `text`; the data has {', '.join(dataset.features)}.")
        dataset = dataset.select_columns(columns)
        if isinstance(dataset.features.get("video"), Video) and dataset.format["type"] != "custom":
            dataset = dataset.cast_column("video", Video(decode=False))  # decoded here, in the loader's processes
        collate = partial(read_rows, reader=self.reader)
        loader = DataLoader(dataset, inputs.batch_size, num_workers=inputs.num_workers, collate_fn=collate)
        batches = tqdm(loader, desc=task_metadata.name, disable=not show_progress_bar, leave=False)
        return torch.cat([self.embed_rows(rows) for rows in batches]).numpy()

    def embed_rows(self, rows: list[dict[str, Any]]) -> torch.Tensor:
        """Normalised embeddings of rows of [`read_rows`], of shape `(num_rows, projection_dim)`, float32 on the CPU."""
        embeds = torch.zeros(len(rows), self.encoder.embed_dim)
        for column, embed in (("video", self.embed_videos), ("text", self.embed_texts)):
            places = [place for place, row in enumerate(rows) if row.get(column) is not None]
            if places:
                embeds[places] += embed([rows[place][column] for place in places])
        return normalize(embeds, dim=-1)

    def embed_videos(self, clips: list[torch.Tensor]) -> torch.Tensor:
        """Normalised embeddings of all views of videos, each `[num_views, num_frames, 3, height, width]`."""
        embeds = self.encoder.embeds(self.encoder.video_features(torch.stack(clips)))
        return normalize(embeds.float().mean(1), dim=-1).cpu()

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """Normalised embeddings of texts; a text that is too long for the text tower is cut, with a warning."""
        longest = self.encoder.max_tokens
        cut = sum(len(ids) > longest for ids in self.encoder.tokenizer(texts, verbose=False)["input_ids"])
        if cut:
            logger.warning(f"{cut} of {len(texts)} texts are longer than {longest} tokens and were cut.")
        return self.encoder.embeds(self.encoder.text_features(texts, truncation=True).float()).cpu()


def read_rows(rows: list[dict[str, Any]], reader: VideoReader) -> list[dict[str, Any]]:
    """
    A task's rows with all views of their videos as model input. A row has a video, a text or both.

    A video is an undecoded value of a `datasets.Video` column (path and bytes); a path, bytes or a file object; a
    torchcodec `VideoDecoder`; or all frames of a video, as an array, a tensor or a list of images.
    """
    batch = []
    for row in rows:
        video = row.get("video")
        if video is None and row.get("text") is None:
            raise ValueError("MtebEncoder: a row of the data has neither video nor text.")
        if isinstance(video, dict):
            video = encoded_video(video, "of the task", reader.options)
        elif hasattr(video, "get_frames_at"):
            name = getattr(video.metadata, "path", None) or "of the task"
            video = torchcodec_video(name, video, reader.options.max_bytes)
        batch.append(row | {"video": None if video is None else reader.read(video)[0]})
    return batch


def register(model_name: str, revision: str | None = None, **options: Any) -> ModelMeta:
    """
    Enters a checkpoint into mteb's registry. `mteb.get_model` and mteb's commands then find it by its name.

    The entry holds for this process. The checkpoint is loaded once, for the facts that the entry states.

    Args:
        model_name (`str`): folder or id of a Vita-CLIP, whole or prompts alone, or of another dual encoder.
        revision (`str`, *optional*): of the id on the Hub.
        options: as for [`MtebEncoder`].

    Returns:
        `ModelMeta`: the entry.
    """

    def load(name: str, **settings: Any) -> MtebEncoder:
        return MtebEncoder(model_name, **{**options, **settings, "revision": revision})

    facts = MtebEncoder(model_name, revision, **options).mteb_model_meta
    entry = MODEL_REGISTRY[facts.name] = facts.model_copy(update={"loader": load})
    return entry
