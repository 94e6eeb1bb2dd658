"""`vitaclip serve`: an HTTP server that classifies uploaded videos."""

import sys
from contextlib import suppress
from typing import Annotated, Literal

import typer

from .libraries import loaded_checkpoint
from .options import AnyModel, BatchSize, Device, Dtype, Host, Port


def serve(
    model: AnyModel = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    device: Device = None,
    dtype: Dtype = "auto",
    batch_size: BatchSize = 8,
    queue: Annotated[int, typer.Option(min=1, metavar="N", help="Requests at a time; more are answered 503.")] = 32,
    decoders: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that decode.")] = 2,
    max_upload: Annotated[int, typer.Option(min=1, metavar="MIB", help="Largest request.")] = 64,
    max_decoded: Annotated[int, typer.Option(min=1, metavar="MIB", help="Most decoded frames of a video.")] = 1024,
    decode_seconds: Annotated[float, typer.Option(min=0.1, metavar="S", help="Most time to decode a video.")] = 20.0,
    wait_seconds: Annotated[float, typer.Option(min=0.1, metavar="S", help="Most time from upload to answer.")] = 30.0,
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug", "trace"], typer.Option(help="What the log holds.")
    ] = "info",
) -> int:
    """Classify videos over HTTP.

    POST /classify takes a file and labels, GET /health says that the server is up, GET /metrics counts requests. URLs
    are not read. There is no password and no TLS: put a proxy in front of it that has them.

    SIGTERM and Ctrl-C end the server after the requests that it is working on.
    """
    import uvicorn

    from ..server.app import create_app
    from ..server.connections import TimedProtocol, raise_open_files
    from ..server.limits import MEBIBYTE, Limits

    limits = Limits(
        upload_bytes=max_upload * MEBIBYTE,
        decoded_bytes=max_decoded * MEBIBYTE,
        decode_seconds=decode_seconds,
        wait_seconds=wait_seconds,
        queue=queue,
        batch=batch_size,
        decoders=decoders,
    )
    app = create_app(loaded_checkpoint(model, device, dtype), limits)
    config = uvicorn.Config(
        app,
        host,
        port,
        log_level=log_level,
        http=TimedProtocol,
        timeout_graceful_shutdown=round(wait_seconds) + 5,
        server_header=False,
    )
    TimedProtocol.seconds = limits.upload_seconds
    raise_open_files()
    server = uvicorn.Server(config)
    # After its work uvicorn raises the signal again, by which the process ends as its starter expects.
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        print(f"vitaclip serve: could not start on {host}:{port}; the log above says why", file=sys.stderr)
        return 2
    return 0
