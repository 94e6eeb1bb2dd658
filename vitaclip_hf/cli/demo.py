"""`vitaclip demo`: a web page to try a model on. The page itself is examples/app.py, which the wheel carries."""

from pathlib import Path
from typing import Annotated

import typer

from .libraries import loaded_checkpoint
from .options import AnyModel, Device, Host, Port


def demo(
    model: AnyModel = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your videos; they are indexed for search.")
    ] = None,
    device: Device = None,
    host: Host = "127.0.0.1",
    port: Port = 7860,
) -> None:
    """Open a web page that classifies a video, shows what happens when, and searches a folder.

    In a clone, without --folder, the demo's videos and model are there at the start. There is no password.
    """
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder} is not a folder.")
    from ..examples import app
    from ..library.store import FOLDER, VideoStore

    index = (VideoStore(folder / FOLDER).settings if folder else None) or {}
    model, revision = (model, None) if model else (index.get("model"), index.get("revision"))
    if model is None and folder is None and app.DEMO.is_dir():
        model = str(app.DEMO / "checkpoint")
    app.run(loaded_checkpoint(model, device, index.get("dtype", "auto"), revision=revision), folder, host, port)
