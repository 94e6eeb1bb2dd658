"""The record of a training run in its folder, and the check that a run may continue from there."""

import json
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..data.configuration_files import RECIPE_FILE
from ..data.output_files import replace_file, storable
from ..data.text_files import content_errors
from ..version import package_versions
from .checkpoints import FINAL_MODELS, check_readable, checkpoint_folder, complete_checkpoints, read_state
from .recipes import read_recipe, write_recipe


RUN_FILE = "run.json"
ANEW = "or start anew in another `output_dir`"
# Arguments that may differ when a run is resumed, because the result stays the same.
MAY_CHANGE = {
    *("output_dir", "logging_steps", "save_total_limit", "resume", "check_data", "disable_tqdm", "tensorboard"),
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_multiprocessing_context", "per_device_eval_batch_size", "max_seconds"),
}


class RunFolder:
    """
    The output folder of a training.

    Args:
        path (`str` or `Path`): the folder; it need not exist.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def start(self) -> None:
        """
        Checks that a new run overwrites nothing.

        Raises:
            ValueError: the folder holds results of another run.
        """
        if checkpoints := complete_checkpoints(self.path):
            raise ValueError(
                f"{self.path} holds {checkpoints[-1].name} of a run; pass `resume`, or another `output_dir`"
            )
        if any(any(self.path.glob(name)) for name in (*FINAL_MODELS, "checkpoint-*")):  # also of weights alone
            raise ValueError(f"{self.path} holds a trained model; choose another `output_dir`")

    def resume(self, chosen: dict[str, Any]) -> Path:
        """
        Finds the checkpoint to continue from.

        Args:
            chosen (`dict`): the values that recipe and command line set now.

        Returns:
            `Path`: the last complete checkpoint.

        Raises:
            ValueError: there is no complete checkpoint, it or the best one is damaged, or the run had another recipe.
        """
        checkpoints = complete_checkpoints(self.path)
        if not checkpoints:
            raise ValueError(f"`resume`: {self.path} holds no complete checkpoint")
        *earlier, checkpoint = checkpoints
        check_readable(checkpoint, otherwise=earlier[-1] if earlier else None)
        best = checkpoint_folder(self.path, read_state(checkpoint)["best_global_step"])
        if best != checkpoint and best.is_dir():
            check_readable(best, otherwise=checkpoint)
        before = read_recipe(self.path / RECIPE_FILE)
        for name in sorted((before.keys() | chosen.keys()) - MAY_CHANGE):
            if before.get(name) != chosen.get(name):
                raise ValueError(
                    f"`resume`: `{name}` was {before.get(name)!r} and is now {chosen.get(name)!r}; continue with the "
                    f"same values ({self.path / RECIPE_FILE}), {ANEW}"
                )
        return checkpoint

    def check_same_run(self, data: dict[str, Any], ranks: int) -> None:
        """
        Checks that videos, classes and the number of ranks are those of the recorded run.

        Args:
            data (`dict`): the record of the data now.
            ranks (`int`): the number of ranks now.

        Raises:
            ValueError: something differs.
        """
        before = self._read_record()
        if before["ranks"] != ranks:
            raise ValueError(f"`resume`: the run has {before['ranks']} ranks and this is {ranks}; use as many, {ANEW}")
        for name in sorted(before["data"].keys() | data):
            was, now = before["data"].get(name), data.get(name)
            if was != now:
                raise ValueError(
                    f"`resume`: the data has changed since the run began ({name}: {was} then, {now} now); restore it, "
                    f"{ANEW}"
                )

    def record(self, chosen: dict[str, Any], run: dict[str, Any], resumed_from: Path | None) -> None:
        """
        Writes the resolved recipe, and the record that is needed to repeat the run.

        Args:
            chosen (`dict`): the values that recipe and command line set.
            run (`dict`): the data, ranks, parameters and arguments of the run.
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
            record = session | run
        else:
            record = self._read_record()
            record.setdefault("resumed", []).append(session | {"from": resumed_from.name})
        content = json.dumps(record, indent=2, ensure_ascii=False)
        replace_file(self.path / RUN_FILE, lambda file: file.write_text(storable(content) + "\n", encoding="utf-8"))

    def _read_record(self) -> dict[str, Any]:
        file = self.path / RUN_FILE
        with content_errors(f"`resume`: {file}, the record of the run, cannot be read; restore it, {ANEW}"):
            return json.loads(file.read_text(encoding="utf-8"))
