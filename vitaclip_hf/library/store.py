"""One table of vectors of videos in LanceDB: [`embed_videos`] fills it, [`VideoStore.search`] searches it.

A row is a window of a video, or a video that could not be read. Each change is one commit of the database: a run that
is killed leaves the table as it was after the last one.
"""

import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import torch
from lancedb.index import IvfFlat

from ..data.folder_lock import folder_lock
from ..data.output_files import unstored
from ..data.text_files import content_errors
from ..loading.checkpoint import Checkpoint
from ..loading.guards import check_utf8
from ..model.read_options import ReadOptions
from ..model.shown_names import one_line
from .windows import read_clips, window_features


FOLDER = ".vitaclip-index"
TABLE = "videos"
SETTINGS = b"vitaclip"  # in the table's metadata
COMPACTED_EVERY = 100  # versions
KEPT_FOR = timedelta(days=1)  # a version
FEW_WINDOWS = 10_000  # are always searched exactly

# Forked decoders and the processes of Ray do not use it.
warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)


@dataclass(frozen=True)
class Moment:
    """
    A hit of a search.

    Attributes:
        path (`str`): the video; within the folder for a table that follows one, else as given.
        start, end (`float`): the window in seconds.
        cosine (`float`): how near it is to what was searched for, from -1 to 1.
    """

    path: str
    start: float
    end: float
    cosine: float


class VideoStore:
    """
    A table of vectors of videos.

    Args:
        place (`str` or `Path`): a folder, or a URI of object storage that LanceDB knows, such as `s3://bucket/vectors`.

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint
    >>> from vitaclip_hf.library.embedding import embed_videos
    >>> from vitaclip_hf.library.store import VideoStore

    >>> checkpoint = load_checkpoint("examples/demo/checkpoint")  # doctest: +SKIP
    >>> embed_videos("videos", "vectors", checkpoint, window=4)  # doctest: +SKIP
    >>> store = VideoStore("vectors")  # doctest: +SKIP
    >>> store.search(store.embed_text(checkpoint, "a rocket rising"), top_k=3)  # doctest: +SKIP

    ```
    """

    def __init__(self, place: str | Path):
        self.place = str(place)
        self._is_folder = "://" not in self.place

    @cached_property  # since each connection to memory:// is a database of its own
    def _database(self) -> Any:
        check_utf8(self.place, "lancedb")
        if self._is_folder and any(map(Path.is_fifo, Path(self.place, f"{TABLE}.lance").rglob("*"))):
            raise ValueError(f"{self.place}: a pipe is in the place of a file; delete the folder.")  # else waited for
        return lancedb.connect(self.place)

    def lock(self) -> AbstractContextManager:
        """Keeps other runs out of a folder; object storage has no locks."""
        return folder_lock(self.place, "embedding") if self._is_folder else nullcontext()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of the database in one line that names the place."""
        try:
            yield
        except Exception as error:
            of_database = str(error).startswith(("lance error", "Invalid input"))
            if not of_database and type(error).__name__ != "RustPanic":  # a type that can be imported from nowhere
                raise
            reason = one_line(error).removeprefix("lance error: ").split(", /")[0]
            raise ValueError(f"{self.place}: the vectors cannot be read or written ({reason:.300}).") from error

    def _open(self) -> Any:
        """The table, or `None` if there is none yet."""
        if self._is_folder and not Path(self.place, f"{TABLE}.lance").exists():
            return None
        try:
            with self._errors():
                return self._database.open_table(TABLE)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
            return None

    @property
    def table(self) -> Any:
        """
        The table of LanceDB, for its own operations, such as versions.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        table = self._open()
        if table is None:
            raise ValueError(
                f"{self.place}: there are no vectors of this version; make them with `vitaclip index` or `embed`."
            )
        return table

    @property
    def settings(self) -> dict[str, Any] | None:
        """Model, fingerprint, number type, windows and labels of the table; `None` if there is none yet."""
        table = self._open()
        if table is None:
            return None
        with content_errors(f"{self.place}: the settings of the vectors are damaged", ValueError):
            return json.loads(table.schema.metadata[SETTINGS])

    def check_model(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """
        The model's part of the settings.

        Raises:
            ValueError: the vectors were made by another model, or in another number type, and cannot be compared.
        """
        model = model_settings(checkpoint)
        stored = self.settings or model
        if stored["fingerprint"] != model["fingerprint"]:
            raise ValueError(
                f"{self.place}: these vectors were made with {stored['model']} in `dtype` {stored['dtype']}, not with "
                f"{model['model']} in {model['dtype']}: another model. Pass the first one, or use another folder."
            )
        return model

    # Filling

    def create(self, settings: Mapping[str, Any]) -> None:
        """An empty table with these settings in its metadata."""
        columns = {"video": pa.string(), "start": pa.float64(), "end": pa.float64()}
        columns |= {"vector": pa.list_(pa.float32(), settings["width"]), "error": pa.string()}
        columns |= {"label": pa.string(), "score": pa.float32(), "scores": pa.list_(pa.float32())}
        columns |= {"size": pa.int64(), "changed": pa.int64(), "content": pa.string()}
        with self._errors():
            self._database.create_table(TABLE, schema=pa.schema(columns, {SETTINGS: json.dumps(settings)}))

    def write(self, rows: Any, known: Collection[str] = (), deleted: Collection[str] = ()) -> None:
        """
        Writes rows in one commit.

        Args:
            rows: all rows of some videos, a table or a list of dictionaries.
            known: videos that may have rows; those of `rows` take their place.
            deleted: videos whose rows are dropped.

        Raises:
            ValueError: a vector is not of length 1, or the table cannot be written.
        """
        table = self.table
        rows = pa.Table.from_pylist(rows, table.schema) if isinstance(rows, list) else rows
        check_vectors(rows, self.place)
        replaced = {*deleted, *(video for video in rows["video"].to_pylist() if video in known)}
        with self._errors():
            if replaced:
                merge = table.merge_insert(["video", "start"]).when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(is_one_of(replaced)).execute(rows, on_bad_vectors="null")
            elif len(rows):
                table.add(rows)
            if table.version % COMPACTED_EVERY == 0:
                self.compact()

    def compact(self) -> None:
        """Joins small files, brings the approximate index up to date, and drops versions older than a day."""
        with self._errors():
            self.table.optimize(cleanup_older_than=KEPT_FOR)

    # Reading

    def rows(self, columns: list[str] | None = None, where: str = "true") -> pa.Table:
        """Columns of the table, by default all; `where` is a condition in SQL."""
        table = self.table
        with self._errors():
            return table.search().where(where).select(columns or table.schema.names).to_arrow()

    def embed_text(self, checkpoint: Checkpoint, text: str, templates: Any = "{}") -> np.ndarray:
        """The normalised vector of a text, of shape `(projection_dim,)`."""
        self.check_model(checkpoint)
        return checkpoint.encoder().class_embeds((text,), templates)[1][0].float().cpu().numpy()

    def embed_video(self, checkpoint: Checkpoint, video: Any, **reading: Any) -> np.ndarray:
        """
        The normalised vector of a video, of shape `(projection_dim,)`: the mean of its windows; `reading` as for
        [`embed_videos`].

        Raises:
            VideoDecodingError: it cannot be read.
        """
        self.check_model(checkpoint)
        encoder, settings = checkpoint.encoder(), self.settings or {}
        clips = read_clips(encoder.reader(**reading), video, settings.get("window"), settings.get("stride"))
        vectors = [mean_vectors(encoder.embeds(window_features(encoder, [clip]))) for clip in clips]
        return mean_vectors(torch.stack(vectors, 1))[0].numpy()

    def search(self, query: np.ndarray, top_k: int = 10, per_video: int = 1, approximate: bool = False) -> list[Moment]:
        """
        The windows nearest to a query.

        Args:
            query (`np.ndarray` of shape `(projection_dim,)`): of [`embed_text`] or [`embed_video`].
            top_k (`int`, defaults to 10): how many hits.
            per_video (`int`, defaults to 1): most hits of one video; they do not overlap.
            approximate (`bool`, defaults to `False`): search with the database's index, which is made the first time,
                if there are more than 10,000 windows. It can miss hits.

        Returns:
            `list[Moment]`, nearest first.

        Raises:
            ValueError: there is no table, it is damaged, or the query has another length, or is NaN or infinite.
        """
        table, limit = self.table, max(100, 4 * top_k)
        width = table.schema.field("vector").type.list_size
        if query.shape != (width,) or not np.isfinite(query).all():
            raise ValueError(f"`query` must be {width} finite numbers, got an array of shape {query.shape}.")
        with self._errors():
            if approximate and not table.list_indices() and table.count_rows() > FEW_WINDOWS:
                table.create_index("vector", config=IvfFlat(distance_type="dot"))
            while True:
                nearest = table.search(query.astype(np.float32)).distance_type("dot").limit(limit)
                nearest = nearest if approximate else nearest.bypass_vector_index()
                rows = nearest.select(["video", "start", "end", "vector", "scores", "_distance"]).to_arrow()
                # Not the database's distances: the approximate index has vectors of its own, which may be damaged.
                cosines = np.einsum("ij,j->i", check_vectors(rows, self.place), query)
                rows = rows.select(["video", "start", "end"]).append_column("cosine", pa.array(cosines))
                hits = self._hits(rows.to_pylist(), per_video)
                if len(hits) >= top_k or len(rows) < limit:
                    return hits[:top_k]
                limit *= 8

    def _hits(self, rows: list[dict[str, Any]], per_video: int) -> list[Moment]:
        """The nearest windows of each video that do not overlap."""
        hits: list[Moment] = []
        taken: dict[str, list[Moment]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: (-row["cosine"], row["video"], row["start"])):
            hit = Moment(unstored(row["video"]), row["start"], row["end"], row["cosine"])
            others = taken[hit.path]
            if len(others) < per_video and all(hit.start >= other.end or other.start >= hit.end for other in others):
                others.append(hit)
                hits.append(hit)
        return hits


def read_embeddings(place: str | Path) -> pa.Table:
    """
    All rows of a [`VideoStore`], sorted by video and start.

    Raises:
        ValueError: there is no table, or it is damaged.
    """
    rows = VideoStore(place).rows()
    check_vectors(rows, str(place))
    return rows.sort_by([("video", "ascending"), ("start", "ascending")])


def is_one_of(videos: Collection[str]) -> str:
    """The condition in SQL that a row is of one of these videos."""
    return "video in ({})".format(", ".join("'" + video.replace("'", "''") + "'" for video in videos))


def check_vectors(rows: pa.Table, place: str) -> np.ndarray:
    """
    The vectors of the rows that have one.

    Raises:
        ValueError: a vector is not of length 1, so that it was changed; or another value is missing, NaN or infinite.
    """
    with content_errors(f"{place}: vectors, scores or times are damaged"):
        vectors, scores = (rows[name].combine_chunks().drop_null() for name in ("vector", "scores"))
        values = vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size)
        if not (np.abs(np.einsum("ij,ij->i", values, values) - 1) < 1e-3).all():
            raise ValueError("a vector is not of length 1")
        numbers = [scores.flatten(), rows["start"].to_numpy(), rows["end"].to_numpy()]
        if not np.isfinite(np.concatenate(numbers)).all() or rows["video"].null_count:
            raise ValueError("a value is missing, NaN or infinite")
        return values


def mean_vectors(embeds: torch.Tensor) -> torch.Tensor:
    """Means of normalised vectors `(batch_size, number, projection_dim)`, normalised again, float32 on the CPU."""
    return torch.nn.functional.normalize(embeds.float().mean(1), dim=-1).cpu()


def model_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """
    The model, and what its vectors depend on: the fingerprint covers all weights in their number type, and how frames
    are made into model input.
    """
    processor = checkpoint.processor.video_processor.to_dict()
    for name in (*vars(ReadOptions()), "processor_class", "return_metadata", "seed"):
        processor.pop(name, None)
    text = f"{checkpoint.fingerprint()} {json.dumps(processor, sort_keys=True, default=str)}"
    return {
        "model": str(Path(checkpoint.name).resolve()) if Path(checkpoint.name).is_dir() else checkpoint.name,
        "revision": checkpoint.revision,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
        "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
        "width": checkpoint.encoder().embed_dim,
    }
