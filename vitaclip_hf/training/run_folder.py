"""What a training run writes about itself into its folder, and whether a run may continue from there."""

import json
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..data.configuration_files import RECIPE_FILE
from ..data.output_files import storable
from ..model.version import package_versions
from .checkpoints import (
    FINAL_MODELS,
    check_readable,
    checkpoint_folder,
    complete_checkpoints,
    last_checkpoint,
    read_state,
)
from .recipes import RecipeError, read_recipe, write_recipe


RUN_FILE = "run.json"
# Arguments that may differ when a run is resumed, because the result stays the same.
MAY_CHANGE = {
    *("output_dir", "logging_steps", "save_total_limit", "resume", "check_data", "disable_tqdm", "tensorboard"),
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("per_device_eval_batch_size", "max_seconds"),
}


class RunFolder:
    """
    The output folder of a training.

    Args:
        path (`str` or `Path`): the folder; it need not exist.
        known_fields (`Iterable[str]`): names of all arguments, to read the resolved recipe.
    """

    def __init__(self, path: str | Path, known_fields: Iterable[str]):
        self.path, self.known_fields = Path(path), set(known_fields)

    def start(self) -> None:
        """
        Checks that a new run overwrites nothing.

        Raises:
            RecipeError: the folder holds results of another run, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RecipeError(f"`output_dir` {self.path} is a file; give the name of a folder")
        checkpoint = last_checkpoint(self.path)
        if checkpoint is not None:
            raise RecipeError(f"{self.path} holds {checkpoint.name} of a run; pass `resume`, or another `output_dir`")
        if any((self.path / name).exists() for name in FINAL_MODELS):
            raise RecipeError(f"{self.path} holds a trained model; choose another `output_dir`")

    def resume(self, chosen: dict[str, Any]) -> Path:
        """
        Finds the checkpoint to continue from.

        Args:
            chosen (`dict`): the values that recipe and command line set now.

        Returns:
            `Path`: the last complete checkpoint.

        Raises:
            RecipeError: there is no complete checkpoint, it or the best one is damaged, or the run had another recipe.
        """
        checkpoints = complete_checkpoints(self.path)
        if not checkpoints:
            raise RecipeError(f"`resume`: {self.path} holds no complete checkpoint")
        checkpoint = checkpoints.pop()
        check_readable(checkpoint, otherwise=checkpoints[-1] if checkpoints else None)
        best = checkpoint_folder(self.path, read_state(checkpoint)["best_global_step"])
        if best != checkpoint and best.is_dir():
            check_readable(best, otherwise=checkpoint)
        before = read_recipe(self.path / RECIPE_FILE, self.known_fields)
        for name in sorted((before.keys() | chosen.keys()) - MAY_CHANGE):
            if before.get(name) != chosen.get(name):
                raise RecipeError(
                    f"`resume`: `{name}` was {before.get(name)!r} and is now {chosen.get(name)!r}; continue with the "
                    f"same values ({self.path / RECIPE_FILE}), or start anew in another `output_dir`"
                )
        return checkpoint

    def check_same_run(self, data: dict[str, Any], ranks: int) -> None:
        """
        Checks that videos, classes and the number of ranks are those of the recorded run.

        Args:
            data (`dict`): the record of the data now.
            ranks (`int`): the number of ranks now.

        Raises:
            RecipeError: something differs.
        """
        before = self._read_record()
        if before["ranks"] != ranks:
            raise RecipeError(
                f"`resume`: the run has {before['ranks']} ranks and this is {ranks}; another number would see other "
                "batches. Continue with as many, or start anew in another `output_dir`"
            )
        changed = [name for name in sorted(before["data"].keys() | data) if before["data"].get(name) != data.get(name)]
        if changed:
            was, now = before["data"].get(changed[0]), data.get(changed[0])
            raise RecipeError(
                f"`resume`: the data has changed since the run began ({changed[0]}: {was} then, {now} now); restore "
                "it, or start anew in another `output_dir`"
            )

    def record(self, chosen: dict[str, Any], about: dict[str, Any], resumed_from: Path | None) -> None:
        """
        Writes the resolved recipe, and the record that is needed to repeat the run.

        Args:
            chosen (`dict`): the values that recipe and command line set.
            about (`dict`): the data, ranks, parameters and arguments of the run.
            resumed_from (`Path`, *optional*): a checkpoint. The record of the first start is then kept, and this one
                is added to it.
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
        (self.path / RUN_FILE).write_text(storable(content) + "\n", encoding="utf-8")

    def _read_record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.path / RUN_FILE).read_text(encoding="utf-8"))
            if not isinstance(record["data"], dict) or not isinstance(record["ranks"], int):
                raise ValueError("it holds no record of data and ranks")
            return record
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecipeError(
                f"`resume`: {self.path / RUN_FILE} cannot be read ({' '.join(str(error).split())[:300]}); it records "
                "the data of the run. Restore it, or start anew in another `output_dir`"
            ) from error
