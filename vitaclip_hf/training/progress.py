"""The progress bar of a training, its lines of text, and its curves as a picture."""

import sys
from pathlib import Path
from typing import Any

from transformers import ProgressCallback
from transformers.utils import logging

from .estimate import free_disk, needed_disk, start_summary


logger = logging.get_logger(__name__)
# Of one panel each: its title, and its curves by their names in the log.
CURVES = (
    ("Loss", {"loss": "training", "eval_loss": "validation"}),
    ("Validation accuracy, %", {"eval_top1": "top-1", "eval_top5": "top-5"}),
    ("Learning rate", {"learning_rate": "learning rate"}),
)


class TrainingProgress(ProgressCallback):
    """
    transformers' bar, with the last losses and rates at its end and one line for each evaluation.

    A line before the first step says what the training takes in steps and disk.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.current_step = state.global_step
        if self.training_bar is not None:
            self.training_bar.initial = self.training_bar.n = state.global_step  # of a resumed run
            disk = needed_disk(args, state, model)
            self.training_bar.write(start_summary(args, state, model, disk), file=sys.stderr)
            if disk > free_disk(args.output_dir):
                logger.warning(
                    "checkpoints and model need more than the free disk space; lower `save_total_limit`, pass "
                    "`prompts_only`, or choose another `output_dir`"
                )

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.training_bar is None or not logs:
            return
        if "loss" in logs:
            self.training_bar.set_postfix_str(step_summary(logs))
        elif "eval_top1" in logs:
            self.training_bar.write(f"step {state.global_step}: {evaluation_summary(logs)}", file=sys.stderr)

    def close(self) -> None:
        """Ends the bars after an error, so that the message has a line of its own."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()


def step_summary(logs: dict[str, Any]) -> str:
    """`loss 1.234, lr 4.0e-04, 12.3 videos/s, 5% waiting for data`; `measuring speed` in the first steps."""
    speed = "measuring speed"
    if "videos_per_second" in logs:
        speed = f"{logs['videos_per_second']:.3g} videos/s, {logs['waiting_for_data']:.0%} waiting for data"
    unreadable = f", {logs['unreadable_videos']} unreadable" if logs.get("unreadable_videos") else ""
    return f"loss {logs['loss']:.4g}, lr {logs['learning_rate']:.1e}, {speed}{unreadable}"


def evaluation_summary(logs: dict[str, Any], prefix: str = "eval") -> str:
    """`top-1 71.2%, top-5 90.1%, loss 1.02`, and the number of unreadable videos, if any."""
    top1, top5, loss, missing = (logs[f"{prefix}_{name}"] for name in ("top1", "top5", "loss", "missing"))
    unreadable = f", {missing} videos unreadable" if missing else ""
    return f"top-1 {top1:.1%}, top-5 {top5:.1%}, loss {loss:.3g}{unreadable}"


def plot_curves(log_history: list[dict[str, Any]], path: str | Path) -> None:
    """
    Draws loss, learning rate and accuracy over the steps.

    Args:
        log_history (`list[dict]`): `trainer.state.log_history`.
        path (`str` or `Path`): the PNG file to write.
    """
    from ..charts import BEST, DOTS_PER_INCH, OTHER, QUIET, TRACK, charts, title

    figure, panels = charts(3, width=12)
    for axes, (heading, names) in zip(panels, CURVES, strict=True):
        title(axes, heading)
        for (name, label), color in zip(names.items(), (BEST, OTHER), strict=False):
            scale = 100 if "top" in name else 1
            points = [(entry["step"], scale * entry[name]) for entry in log_history if name in entry]
            always_right = name == "eval_top5" and all(value == 100 for _, value in points)  # of a few classes
            if points and not always_right:
                style = {"color": color, "linewidth": 2, "marker": "o" if len(points) == 1 else None}
                axes.plot(*zip(*points, strict=True), label=label, **style)
        axes.set_xlabel("step")
        axes.grid(axis="y", color=TRACK)
        if len(axes.lines) > 1:
            axes.legend(frameon=False, labelcolor=QUIET)
    figure.savefig(path, dpi=DOTS_PER_INCH)
