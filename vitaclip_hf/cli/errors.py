"""How the command reports errors: one line on stderr that names the command, and exit code 2."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..model.shown_names import shown


# typer brings its own copy of click, older versions use click itself: this is the base of usage errors in both.
UsageError: Any = typer.BadParameter.__base__


class CommandError(Exception):
    """A command cannot start or go on; the message is for the user. It names parameters in backticks."""


@contextmanager
def reported(*kinds: type[BaseException], about: str = "") -> Iterator[None]:
    """Within it, exceptions of these kinds end the command with their message, which names `about`."""
    try:
        yield
    except BrokenPipeError:  # whoever read stdout has stopped
        raise
    except kinds as error:
        message = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"
        raise CommandError(message if about in message else f"{about}: {message}") from error


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Within it, a package that is not installed is reported with the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the package {error.name} is missing; install what this command needs: pip install 'vitaclip_hf[{extra}]'"
        ) from error


class Command(TyperCommand):
    """A command that reports a [`CommandError`] in one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            return report(ctx.command_path, with_flags(str(error), self.params))


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
    print(f"{command}: {shown(' '.join(message.split()))}", file=sys.stderr)
    return 2


def with_flags(message: str, parameters: list[Any]) -> str:
    """The message with `name` as the command line writes it: `--name`, or the placeholder of a positional argument."""
    written = {
        parameter.name: parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        for parameter in parameters
    }
    # A library speaks of `templates` where an option is repeated, `--template`.
    return re.sub(r"`(\w+?)(s?)`", lambda name: written.get(name[1] + name[2], written.get(name[1], name[0])), message)
