"""The `vitaclip` command: its sub-commands are the files beside this one."""

from typing import Annotated

import typer

from .average import average
from .card import card
from .classify import classify
from .compare import compare
from .convert import convert_clip, convert_original
from .embed import embed
from .errors import Command, Group
from .evaluate import evaluate
from .explain import explain
from .export import export
from .index import index
from .info import info
from .publish import publish
from .search import search
from .serve import serve
from .terminal import guard_streams
from .timeline import timeline
from .train import train


HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# Everything behind the command goes to a parser of its own, `--help` too.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def help_alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app = typer.Typer(
    name="vitaclip",
    cls=Group,
    help="Vita-CLIP: video classification with a frozen CLIP, for your own classes and for any labels.",
    epilog="Each command has its own help with examples: vitaclip classify --help",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)
conversions = typer.Typer(
    cls=Group,
    help="Make a Vita-CLIP folder of a checkpoint of another format.",
    invoke_without_command=True,
    callback=help_alone,
    rich_markup_mode=None,
    context_settings=HELP,
)


def examples(*lines: str) -> str:
    """The end of a help text."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def show_version(asked: bool) -> None:
    if asked:
        from ..model.version import __version__

        print(f"vitaclip_hf {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    help_alone(context)


app.command(
    cls=Command,
    epilog=examples(
        "vitaclip classify clip.mp4 --model DIR --labels 'playing chess,juggling,riding a bike'",
        "vitaclip classify videos/ --model DIR --labels-file labels.txt --format csv --output scores.csv",
        "vitaclip classify 'videos/**/*.mp4' https://host/clip.mp4 --model ORG/NAME  # its own classes",
    ),
)(classify)
app.command(
    cls=Command,
    epilog=examples(
        "vitaclip timeline talk.mp4 --model DIR --labels 'a talk,applause,questions'",
        "vitaclip timeline talk.mp4 --model DIR --labels-file labels.txt --output talk.vtt --output talk.png",
    ),
)(timeline)
app.command(cls=Command, epilog=examples("vitaclip index videos --model DIR"))(index)
app.command(
    cls=Command,
    epilog=examples(
        "vitaclip search 'a red star moving left' --folder videos --contact-sheet hits.png",
        "vitaclip search --video query.mp4 --folder videos --top-k 3 --format json",
    ),
)(search)
app.command(
    cls=Command,
    epilog=examples("vitaclip explain clip.mp4 --model DIR --label 'riding a bike' --output grid.png"),
)(explain)
app.command(cls=Command, epilog=examples("vitaclip serve --model DIR --host 0.0.0.0 --port 8000"))(serve)
app.command(
    cls=Command,
    epilog=examples(
        "vitaclip embed videos/ --model DIR --output vectors",
        "vitaclip embed videos/ --model DIR --output vectors --engine ray --workers 14 --num-model-actors 2",
    ),
)(embed)
app.command(
    cls=Command,
    epilog=examples("vitaclip export MODEL --output DIR", "vitaclip export MODEL --output DIR --format openvino"),
)(export)
app.command(
    cls=Command,
    add_help_option=False,
    context_settings=PASS_ON,
    short_help="Train the prompts on your videos, from a recipe.",
)(train)
app.command(
    cls=Command,
    add_help_option=False,
    context_settings=PASS_ON,
    short_help="Measure a checkpoint under a protocol.",
)(evaluate)
app.command(
    cls=Command,
    epilog=examples(
        "vitaclip compare first/results.json second/results.json",
        "vitaclip compare run/results.json run/results.json --rows frozen_clip vita_clip  # CLIP and its prompts",
    ),
)(compare)
app.command(
    cls=Command,
    epilog=examples("vitaclip average seed0/results.json seed1/results.json seed2/results.json --output mean.json"),
)(average)
app.add_typer(conversions, name="convert")
conversions.command(
    "original",
    cls=Command,
    epilog=examples("vitaclip convert original k400.pth --classes classes.txt --output vita-clip-k400"),
)(convert_original)
conversions.command(
    "clip",
    cls=Command,
    epilog=examples(
        "vitaclip convert clip openai/clip-vit-base-patch16 --preset vita-clip-b16 --output untrained",
        "vitaclip convert clip laion.bin --activation gelu --classes classes.txt --output untrained",
    ),
)(convert_clip)
app.command(
    cls=Command,
    epilog=examples(
        "vitaclip publish runs/own --repo-id ORG/NAME --output folder  # uploads nothing",
        "vitaclip publish runs/own --repo-id ORG/NAME --license cc-by-nc-4.0 --push",
    ),
)(publish)
app.command(cls=Command, epilog=examples("vitaclip card runs/own --output MODEL_CARD.md"))(card)
app.command(
    cls=Command,
    epilog=examples("vitaclip info", "vitaclip info runs/own", "vitaclip info ORG/NAME --format json"),
)(info)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command with these arguments (those of this process by default); returns the exit code."""
    guard_streams()
    return app(args=arguments, prog_name="vitaclip", standalone_mode=False) or 0
