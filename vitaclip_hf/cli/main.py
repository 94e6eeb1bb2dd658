"""The `vitaclip` command: its sub-commands are the files beside this one."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .classify import classify
from .compare import average, compare
from .convert import convert_clip, convert_original, convert_vifi
from .demo import demo
from .embed import embed, index
from .errors import Command, Group
from .evaluate import evaluate
from .explain import explain
from .export import export
from .info import info
from .publish import publish
from .search import search
from .serve import serve
from .terminal import guard_streams, interrupt_again
from .timeline import timeline
from .train import train


# Options are declared with hyphens; an underscore is the same.
HELP: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "token_normalize_func": lambda name: name.replace("_", "-"),
}
# Everything behind these commands goes to a parser of their own, which `--help-all` shows.
OWN_PARSER = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "options_metavar": "ARGUMENTS",
}
# Each command, in the order of the help, with the examples of its own help.
COMMANDS: dict[Callable, tuple[str, ...]] = {
    classify: (
        "vitaclip classify clip.mp4 --model DIR --labels 'playing chess,juggling,riding a bike'",
        "vitaclip classify videos/ --model DIR --labels-file labels.txt --format csv --output scores.csv",
        "vitaclip classify 'videos/**/*.mp4' https://host/clip.mp4 --model ORG/NAME  # its own classes",
    ),
    timeline: (
        "vitaclip timeline talk.mp4 --model DIR --labels 'a talk,applause,questions'",
        "vitaclip timeline talk.mp4 --model DIR --labels-file labels.txt --output talk.vtt --output talk.png",
    ),
    explain: ("vitaclip explain clip.mp4 --model DIR --label 'riding a bike' --output grid.png",),
    index: ("vitaclip index videos --model DIR",),
    search: (
        "vitaclip search 'a rocket rising' --folder videos --contact-sheet hits.png",
        "vitaclip search --video query.mp4 --folder videos --top-k 3 --format json",
    ),
    embed: (
        "vitaclip embed videos/ --model DIR --output vectors",
        "vitaclip embed videos/ --model DIR --output vectors --engine ray --workers 7 --num-model-actors 2",
    ),
    serve: ("vitaclip serve --model DIR --host 0.0.0.0 --port 8000",),
    demo: ("vitaclip demo", "vitaclip demo --model ORG/NAME --folder my_videos"),
    train: (
        "vitaclip train own-folder --videos my_videos",
        "vitaclip train own-folder --videos my_videos --resume  # goes on after an interruption",
        "accelerate launch -m vitaclip_hf.cli train vita-clip-k400 --videos videos --annotations lists --bf16",
    ),
    evaluate: (
        "vitaclip evaluate --model MODEL --protocol own-zero-shot --videos my_videos  # a folder for each class",
        "vitaclip evaluate --model MODEL --protocol hmdb51-zero-shot --videos hmdb51/videos --annotations hmdb51/lists",
        "accelerate launch -m vitaclip_hf.cli evaluate --model MODEL --protocol k400-supervised --videos k400/videos",
    ),
    compare: (
        "vitaclip compare evaluations/first evaluations/second",
        "vitaclip compare evaluations/run evaluations/run --rows frozen_clip vita_clip  # CLIP and its prompts",
    ),
    average: ("vitaclip average evaluations/seed0 evaluations/seed1 evaluations/seed2 --output mean.json",),
    export: ("vitaclip export --model DIR --output OUT", "vitaclip export --model DIR --output OUT --format openvino"),
    publish: (
        "vitaclip publish --model runs/own --repo-id ORG/NAME --output folder  # uploads nothing",
        "vitaclip publish --model runs/own --repo-id ORG/NAME --license cc-by-nc-4.0 --push",
    ),
    info: ("vitaclip info", "vitaclip info --model runs/own", "vitaclip info --model ORG/NAME --format json"),
}
CONVERSIONS: dict[Callable, tuple[str, ...]] = {
    convert_original: ("vitaclip convert original k400.pth --classes classes.txt --output vita-clip-k400",),
    convert_clip: (
        "vitaclip convert clip openai/clip-vit-base-patch16 --output untrained",
        "vitaclip convert clip laion.bin --activation gelu --classes classes.txt --output untrained",
    ),
    convert_vifi: ("vitaclip convert vifi vifi_clip_10_epochs_k400_full_finetuned.pth --output vifi-clip",),
}


def help_alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def show_version(asked: bool) -> None:
    if asked:
        from ..version import __version__

        print(f"vitaclip_hf {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=show_version, is_eager=True)
]


def options(context: typer.Context, version: Version = False) -> None:
    help_alone(context)


def group(commands: dict[Callable, tuple[str, ...]], **settings: Any) -> typer.Typer:
    made = typer.Typer(cls=Group, invoke_without_command=True, rich_markup_mode=None, context_settings=HELP, **settings)
    for command, lines in commands.items():
        name = command.__name__.removeprefix("convert_")
        own: dict[str, Any] = OWN_PARSER if command in (train, evaluate) else {}
        examples = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
        made.command(name, cls=Command, epilog=examples, **own)(command)
    return made


app = group(
    COMMANDS,
    name="vitaclip",
    help="Vita-CLIP: video classification with a frozen CLIP, for your own classes and for any labels.",
    epilog="Each command has its own help with examples: vitaclip classify --help",
    callback=options,
    pretty_exceptions_enable=False,
)
app.add_typer(
    group(CONVERSIONS, help="Make a folder for these commands of a checkpoint of another format.", callback=help_alone),
    name="convert",
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command with these arguments (those of this process by default); returns the exit code."""
    guard_streams()
    if arguments is None:
        sys.unraisablehook = interrupt_again
    return app(args=arguments, prog_name="vitaclip", standalone_mode=False) or 0
