"""`vitaclip publish`: builds, checks and uploads a Hub folder."""

from pathlib import Path
from typing import Annotated

import typer

from .libraries import load_libraries


def publish(
    model: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of a whole model, or of prompts alone, with its processor.")
    ],
    repo_id: Annotated[str, typer.Option(metavar="ORG/NAME", help="Name on the Hub; the model card has it too.")],
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the built folder here.")] = None,
    push: Annotated[
        bool, typer.Option("--push", help="Upload after the check. Needs a token (hf auth login).")
    ] = False,
    license: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Licence of the weights by the Hub's name. Default: that of card.yaml."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch to upload to, made if missing. Default: main.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    commit_message: Annotated[str, typer.Option(metavar="TEXT", help="Of the upload.")] = (
        "Publish Vita-CLIP checkpoint"
    ),
    max_shard_size: Annotated[str, typer.Option(metavar="SIZE", help="Largest size of a weights file.")] = "5GB",
) -> None:
    """Build, check and upload the Hub folder of a checkpoint.

    The folder holds weights, processor, code, model card and licence. It must give the checkpoint's own outputs to the
    bit, with the package and without it. Nothing is uploaded without --push; all files go up in one commit.
    """
    load_libraries(warnings=False)
    from ..conversion import publish as publishing

    publication = publishing.publish(
        model,
        repo_id,
        output=output,
        push=push,
        license=license,
        revision=revision,
        private=private or None,  # None: as the organisation's setting says
        commit_message=commit_message,
        max_shard_size=max_shard_size,
    )
    for name, size, sha256 in publication.files:
        print(f"{sha256}  {size:>13,}  {name}")
    print(f"{len(publication.files)} files, {sum(size for _, size, _ in publication.files):,} bytes")
    print("Checked: bit-identical outputs in a fresh process without the package, and with it.")
    if output is not None:
        print(f"Folder: {output}")
    if publication.url is None:
        print(f"Nothing pushed; to publish as {repo_id}, run `hf auth login` once, then add --push and --license.")
    else:
        print(f"Pushed in one commit: {publication.url}")
