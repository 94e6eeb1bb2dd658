"""What people see of a training: one progress bar while it runs, and its curves as a picture at the end."""

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback


class TrainingProgress(TrainerCallback):
    """One bar over the optimizer steps, with time left, loss, learning rate, videos per second and waiting for data.

    Evaluations are printed above it as one line each.
    """

    def __init__(self, num_trainable: int):
        self.num_trainable = num_trainable
        self.bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", file=sys.stderr)
            self.bar.write(f"{self.num_trainable:,} parameters train", file=sys.stderr)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs):
        if self.bar is None or not logs:
            return
        if "loss" in logs:
            self.bar.set_postfix_str(step_summary(logs))
        elif "eval_top1" in logs:
            self.bar.write(f"step {state.global_step}: {evaluation_summary(logs)}", file=sys.stderr)

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """Ends the bar, so that what is printed next has a line of its own."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


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
    """`top-1 71.2%, top-5 90.1%, loss 1.02`, with the videos that could not be read, if any."""
    top1, top5, loss, missing = (logs[f"{prefix}_{name}"] for name in ("top1", "top5", "loss", "missing"))
    return f"top-1 {top1:.1%}, top-5 {top5:.1%}, loss {loss:.3g}" + (
        f", {missing} videos unreadable" if missing else ""
    )


def plot_curves(log_history: list[dict[str, Any]], path: str | Path) -> None:
    """Loss, learning rate and accuracy over the steps, as a picture.

    Args:
        log_history: `trainer.state.log_history`.
        path: the PNG to write.
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
