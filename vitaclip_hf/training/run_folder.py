"""What a training run leaves in its folder about itself, and whether a run may go on from there."""

import json
import os
import shlex
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.configuration_files import RECIPE_FILE
from ..model.version import package_versions
from .recipes import RecipeError, read_recipe, write_recipe


RUN_FILE = "run.json"
FINAL_MODELS = ("model.safetensors", "model.safetensors.index.json", "prompts.safetensors")
# What a resumed run may have otherwise than the run that it resumes, with the same result.
MAY_CHANGE = {
    *("output_dir", "logging_steps", "save_total_limit", "resume", "check_data", "disable_tqdm", "tensorboard"),
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory", "dataloader_persistent_workers"),
    "per_device_eval_batch_size",
}


def complete_checkpoints(run: str | Path) -> list[Path]:
    """The checkpoints of a run that training can go on from, the newest last."""
    folders = [path for path in Path(run).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[-1].isdigit()]
    # FSDP writes its optimizer as a folder; checkpoints of weights only have neither.
    needed = (TRAINER_STATE_NAME, "scheduler.pt", "optimizer*")
    complete = [path for path in folders if all(any(path.glob(name)) for name in needed)]
    return sorted(complete, key=lambda path: int(path.name.split("-")[-1]))


def last_checkpoint(run: str | Path) -> Path | None:
    """The newest complete checkpoint of a run, and `None` if it has none."""
    return next(reversed(complete_checkpoints(run)), None)


def read_through(path: Path) -> None:
    """Reads a file of a checkpoint; raises SafetensorError, BadZipFile or ValueError if it is damaged."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):
            pass
    elif path.suffix in (".pt", ".pth"):
        with path.open("rb") as file:
            read_archive(file)
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))


def read_archive(file: BinaryIO) -> None:
    """Reads what `torch.save` wrote, which is an archive with checksums; raises BadZipFile if it is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            changed = archive.testzip()
    except (OSError, EOFError, NotImplementedError) as error:  # a damaged index names places and methods that are none
        raise zipfile.BadZipFile(str(error)) from error
    if changed:
        raise zipfile.BadZipFile(f"wrong checksum of {changed}")


def check_readable(checkpoint: Path, otherwise: Path | None) -> None:
    """Raises RecipeError that names the first damaged file of a checkpoint, and the checkpoint to use otherwise."""
    for path in sorted(checkpoint.iterdir()):
        try:
            read_through(path)
        except (SafetensorError, zipfile.BadZipFile, ValueError) as error:
            instead = f"go on from {otherwise.name}" if otherwise else "start anew, in another --output_dir"
            reason = " ".join(str(error).split())
            raise RecipeError(f"--resume: {path} is damaged ({reason}); delete {checkpoint} to {instead}") from error


class CheckpointWriteError(OSError):
    """A model or a checkpoint could not be written; the message says where and why."""


# What errors of writing say that are no OSErrors: those of safetensors and tokenizers, which are Rust; of torch.save.
WRITERS = ("(os error ", "inline_container", "iostream", "Parent directory")


@contextmanager
def writing(target: Path, *unfinished: Path) -> Iterator[None]:
    """On a full disk and the like, removes what is unfinished and raises CheckpointWriteError.

    Other errors pass: saving a divided model talks with other ranks, too.
    """
    try:
        yield
    except Exception as error:
        reason = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0]
        if not isinstance(error, OSError) and not any(name in reason for name in WRITERS):
            raise
        for path in unfinished:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise CheckpointWriteError(
            f"{target} could not be written ({reason}); see to the space and the permissions there"
        ) from error


def sync(path: Path) -> None:
    """Returns when a file, or a folder's list of files, is on the disk itself."""
    if path.is_dir() and os.name != "posix":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's state at a checkpoint."""
    return json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))


def is_finished(checkpoint: Path) -> bool:
    """Whether the checkpoint is of the last step of its training."""
    state = read_state(checkpoint)
    return state["global_step"] >= state["max_steps"]


class RunFolder:
    """The output folder of a training.

    Args:
        path: the folder; it need not be there yet.
        known_fields: names of all arguments, to read the resolved recipe.
    """

    def __init__(self, path: str | Path, known_fields: Iterable[str]):
        self.path, self.known_fields = Path(path), set(known_fields)

    def start(self) -> None:
        """Raises RecipeError if another run's results are there, which a new one would overwrite."""
        if self.path.exists() and not self.path.is_dir():
            raise RecipeError(f"--output_dir {self.path} is a file; give the name of a folder")
        checkpoint = last_checkpoint(self.path)
        if checkpoint is not None:
            raise RecipeError(f"{self.path} holds {checkpoint.name} of a run; pass --resume, or another --output_dir")
        if any((self.path / name).exists() for name in FINAL_MODELS):
            raise RecipeError(f"{self.path} holds a trained model; choose another --output_dir")

    def resume(self, chosen: dict[str, Any]) -> Path:
        """The checkpoint to go on from.

        Args:
            chosen: the values that recipe and command line set now.

        Raises:
            RecipeError: there is no complete checkpoint, it or the best one is damaged, or the run had another recipe.
        """
        checkpoints = complete_checkpoints(self.path)
        if not checkpoints:
            raise RecipeError(f"--resume: {self.path} holds no complete checkpoint")
        checkpoint = checkpoints.pop()
        check_readable(checkpoint, otherwise=checkpoints[-1] if checkpoints else None)
        best = self.path / f"{PREFIX_CHECKPOINT_DIR}-{read_state(checkpoint)['best_global_step']}"
        if best != checkpoint and best.is_dir():
            check_readable(best, otherwise=checkpoint)
        before = read_recipe(self.path / RECIPE_FILE, self.known_fields)
        for name in sorted((before.keys() | chosen.keys()) - MAY_CHANGE):
            if before.get(name) != chosen.get(name):
                raise RecipeError(
                    f"--resume: {name} was {before.get(name)!r} and is now {chosen.get(name)!r}; go on with the same "
                    f"values ({self.path / RECIPE_FILE}), or start anew in another --output_dir"
                )
        return checkpoint

    def check_same_run(self, data: dict[str, Any], ranks: int) -> None:
        """Raises RecipeError if the videos, the classes or the number of ranks are not those of the recorded run."""
        before = self._read_record()
        if before["ranks"] != ranks:
            raise RecipeError(
                f"--resume: the run has {before['ranks']} ranks and this is {ranks}; another number would see other "
                "batches. Go on with as many, or start anew in another --output_dir"
            )
        changed = [name for name in sorted(before["data"].keys() | data) if before["data"].get(name) != data.get(name)]
        if changed:
            was, now = before["data"].get(changed[0]), data.get(changed[0])
            raise RecipeError(
                f"--resume: the data has changed since the run began ({changed[0]}: {was} then, {now} now); restore "
                "it, or start anew in another --output_dir"
            )

    def record(self, chosen: dict[str, Any], about: dict[str, Any], resumed_from: Path | None) -> None:
        """Writes the resolved recipe, and what is needed to know and to do again what was done here.

        Args:
            chosen: the values that recipe and command line set.
            about: of the run: data, ranks, parameters, arguments.
            resumed_from: a checkpoint; the record of the run's beginning then stays, and this one is added to it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        session: dict[str, Any] = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": shlex.join(["python", *sys.argv]),
            "environment": package_versions(),
        }
        if resumed_from is None:
            write_recipe(self.path / RECIPE_FILE, {name: v for name, v in chosen.items() if name != "check_data"})
            record = session | about
        else:
            record = self._read_record()
            record.setdefault("resumed", []).append(session | {"from": resumed_from.name})
        content = json.dumps(record, indent=2, ensure_ascii=False)
        (self.path / RUN_FILE).write_text(content + "\n", encoding="utf-8")

    def _read_record(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"--resume: {self.path / RUN_FILE} cannot be read ({' '.join(str(error).split())}); it says what "
                "data the run began with. Restore it, or start anew in another --output_dir"
            ) from error
