"""The progress bar of a training, its lines of text, and its curves as a picture."""

import sys
from pathlib import Path
from typing import Any

from transformers import ProgressCallback


class TrainingProgress(ProgressCallback):
    """transformers' bar, with the last losses and rates at its end and one line for each evaluation."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.current_step = state.global_step
        if self.training_bar is not None:
            self.training_bar.initial = self.training_bar.n = state.global_step  # of a resumed run
            self.training_bar.write(f"{model.num_parameters(only_trainable=True):,} parameters train", file=sys.stderr)

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
    """`loss 1.234, lr 4.0e-04, 12.3 videos/s, 5% waiting for data`."""
    parts = [f"loss {logs['loss']:.4g}", f"lr {logs['learning_rate']:.1e}"]
    if "videos_per_second" in logs:
        parts.append(f"{logs['videos_per_second']:.3g} videos/s")
        parts.append(f"{logs['waiting_for_data']:.0%} waiting for data")
    if logs.get("unreadable_videos"):
        parts.append(f"{logs['unreadable_videos']} unreadable")
    return ", ".join(parts)


def evaluation_summary(logs: dict[str, Any], prefix: str = "eval") -> str:
    """`top-1 71.2%, top-5 90.1%, loss 1.02`, and the number of unreadable videos, if any."""
    top1, top5, loss, missing = (logs[f"{prefix}_{name}"] for name in ("top1", "top5", "loss", "missing"))
    return f"top-1 {top1:.1%}, top-5 {top5:.1%}, loss {loss:.3g}" + (
        f", {missing} videos unreadable" if missing else ""
    )


def plot_curves(log_history: list[dict[str, Any]], path: str | Path) -> None:
    """
    Draws loss, learning rate and accuracy over the steps.

    Args:
        log_history (`list[dict]`): `trainer.state.log_history`.
        path (`str` or `Path`): the PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = {
        "loss": ("loss", "eval_loss"),
        "accuracy": ("eval_top1", "eval_top5"),
        "learning rate": ("learning_rate",),
    }
    for axes, (title, names) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for name in names:
            points = [(entry["step"], entry[name]) for entry in log_history if name in entry]
            if points:
                axes.plot(*zip(*points, strict=True), label=name.removeprefix("eval_") if title == "accuracy" else name)
        axes.set(title=title, xlabel="step")
        if axes.lines:
            axes.legend()
    figure.savefig(path, dpi=120)
