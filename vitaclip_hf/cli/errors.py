"""How the command reports errors: one line on stderr that names the command, and exit code 2."""

import os
import re
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..model.shown_names import one_line
from ..option_names import with_options


# typer brings its own copy of click, older versions use click itself: this is the base of usage errors in both.
UsageError: Any = typer.BadParameter.__base__
# The extra that installs a package.
EXTRAS = {
    **dict.fromkeys(("accelerate", "datasets", "pyarrow"), "train"),
    **dict.fromkeys(("fastapi", "prometheus_client", "uvicorn"), "serve"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx"),
    **dict.fromkeys(("nncf", "openvino"), "openvino"),
    **{"gradio": "demo", "lancedb": "search", "matplotlib": "plots", "opentimelineio": "timeline", "ray": "ray"},
}
OWN_ERRORS = ("vitaclip_hf.", "huggingface_hub.")
OF_RANKS = r"(?s)torch\.distributed\.Dist|RuntimeError.*gloo"  # gloo has no type of its own


class Command(TyperCommand):
    """A command that reports the user's errors in one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            message = message_of(error)
            if message is None:
                raise
            options: Any = {
                item.name: item.opts[0] if item.param_type_name == "option" else item.metavar for item in self.params
            }
            options |= ctx.obj or {}
            if "batch_size" not in options:
                message = message.removesuffix("; lower `batch_size`.")
            return report(ctx.command_path, with_options(message, options))


def message_of(error: Exception) -> str | None:
    """The message of an error that users can mend; `None` for others, whose traceback says more."""
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        extra = f"'vitaclip_hf[{EXTRAS[error.name]}]'"
        return f"the package {error.name} is missing; install what this command needs: pip install {extra}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of torch
        return "out of memory; lower `batch_size`."
    if isinstance(error, BrokenPipeError):  # whoever read stdout has stopped
        return None
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = str(error).strip() or type(error).__name__
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and re.search(OF_RANKS, f"{type(error)} {text}"):
        return "another rank stopped, its message says why"
    if isinstance(error, (ImportError, OSError, ValueError)) or type(error).__module__.startswith(OWN_ERRORS):
        # From a process of a data loader: the last line is the message.
        return text.splitlines()[-1].partition(": ")[2] if "Original Traceback" in text else text
    return None


class Group(TyperGroup):
    """A group of commands that reports wrong usage in one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: name == "convert")  # typer lists groups first

    def main(self, *args: Any, **kwargs: Any) -> Any:
        exits = kwargs.pop("standalone_mode", True)
        try:
            code = super().main(*args, **kwargs | {"standalone_mode": False})
        except UsageError as error:
            code = report(error.ctx.command_path if error.ctx else "vitaclip", error.format_message())
        except typer.Abort:
            print("vitaclip: interrupted", file=sys.stderr)
            code = 130
        if exits:
            sys.exit(code)
        return code


def report(command: str, message: str) -> int:
    """Prints one line on stderr; returns the exit code."""
    rank = f"rank {os.environ.get('RANK', '0')}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    print(f"{command}: {rank}{one_line(message, 4000)}", file=sys.stderr)
    return 2
