"""Builds the whole Hub folder of a checkpoint, checks it as a stranger would load it, and pushes it in one commit.

    python conversion/publish.py --checkpoint DIR --repo-id ORG/NAME --output FOLDER      # builds and checks
    python conversion/publish.py --checkpoint DIR --repo-id ORG/NAME --push --license ID  # and uploads

DIR holds a whole model, or prompts alone (`train.py --prompts_only`), which are published as a whole model on their
CLIP. ID is the weights' licence by the Hub's name, such as cc-by-nc-4.0; `license` in DIR/card.yaml says it too.

The check loads the folder in a fresh process that cannot import this package, by the code in the folder
(`trust_remote_code=True`), and here with the package: configuration, model, classifier, processor, video processor,
tokenizer and both pipelines must give the checkpoint's own outputs to the bit. Only then anything is uploaded, and only
with `--push` and a token (`hf auth login`, or HF_TOKEN).
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import load_file

from vitaclip_hf.data.motion_shapes import write_video

from . import folder_outputs
from .hub_folder import INDEX, WEIGHTS, PublishError, build, expected_errors, is_whole
from .model_card import make_card, read_author_texts


try:
    from huggingface_hub.utils import httpx  # its own choice of httpx or httpx2
except ImportError:
    import httpx


PROGRAM = "publish"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


@dataclass
class PublishedFile:
    name: str
    size: int  # bytes
    sha256: str


def check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"--repo-id {repo_id!r}: {error}") from error
    if repo_id.count("/") != 1:
        raise PublishError(f"--repo-id {repo_id!r}: give it as ORG/NAME.")


def write_test_video(file: Path, frames: int, size: int) -> None:
    """A clip of noise: the outputs for it depend on every weight of both towers."""
    height, width = size + 16, size + 32
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height // 8, width // 8, 3), dtype=np.uint8)
    write_video(file, pixels.repeat(8, axis=1).repeat(8, axis=2))


def outputs_without_package(folder: Path, video: Path, scratch: Path) -> dict[str, torch.Tensor]:
    """The folder's outputs in a new, isolated process that has its own module cache, no package and no network."""
    output = scratch / "without_package.safetensors"
    script = folder_outputs.__file__
    command = [sys.executable, "-I", script, "--folder", folder, "--video", video, "--output", output]
    command += ["--threads", torch.get_num_threads(), "--without-package"]
    environment = os.environ | {"HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    child = subprocess.run(
        [str(part) for part in command], cwd=scratch, env=environment, capture_output=True, text=True
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise PublishError(f"the folder does not load without the package (exit {child.returncode}): {last}")
    return load_file(output)


def compare_outputs(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], where: str) -> None:
    different = sorted(
        name
        for name in expected | found
        if name not in expected or name not in found or not torch.equal(expected[name], found[name])
    )
    if different:
        raise PublishError(f"the folder computes something else {where}: {', '.join(different)} differ.")


def check_folder(folder: Path, checkpoint: Path, frames: int, size: int, scratch: Path) -> list[str]:
    """Loads the folder with and without the package; returns the names of what agrees to the bit.

    Args:
        folder: the built one.
        checkpoint: the whole model that it was made of.
        frames: of a clip.
        size: of a frame in pixels.
        scratch: for files.

    Raises:
        PublishError: it does not load, or computes something else than the checkpoint.
    """
    video = scratch / "noise.mp4"
    write_test_video(video, 2 * frames, size)
    with expected_errors("--checkpoint: model and processor do not run together"):
        expected = folder_outputs.collect_outputs(str(checkpoint), str(video), trust_remote_code=None)
    if not all(torch.isfinite(tensor).all() for tensor in expected.values()):
        raise PublishError("--checkpoint: its outputs are not finite.")
    compare_outputs(expected, outputs_without_package(folder, video, scratch), "without the package")
    found = folder_outputs.collect_outputs(str(folder), str(video), trust_remote_code=None)
    compare_outputs(expected, found, "with the package")
    return sorted(expected)


def list_files(folder: Path) -> list[PublishedFile]:
    files = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _sha256(stream)
        files.append(PublishedFile(path.name, path.stat().st_size, digest.hexdigest()))
    return files


def _sha256(stream):
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest


def outdated_weights(there: Iterable[str], folder: Path) -> list[str]:
    """Which of a repository's files are weights of an earlier publication: by the very names that this script writes.

    They would be loaded, or confused, with the new ones. All else that is there may be somebody's.
    """
    ours = {file.name for file in folder.iterdir()}
    return [name for name in there if name not in ours and (name in (WEIGHTS, INDEX) or SHARD.fullmatch(name))]


def push(folder: Path, options: argparse.Namespace, token: str) -> tuple[str, list[str]]:
    """Uploads the folder in one commit; returns the commit's address and the outdated weights deleted with it."""
    api = HfApi(token=token)
    try:
        api.create_repo(options.repo_id, private=options.private, exist_ok=True)
        if options.revision:
            api.create_branch(options.repo_id, branch=options.revision, exist_ok=True)
        outdated = outdated_weights(api.list_repo_files(options.repo_id, revision=options.revision), folder)
        commit = api.upload_folder(
            repo_id=options.repo_id,
            folder_path=folder,
            revision=options.revision,
            commit_message=options.commit_message,
            delete_patterns=outdated,
        )
    except HfHubHTTPError as error:
        raise PublishError(f"the Hub refused {options.repo_id}: {_reason(error)}") from error
    except (httpx.HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise PublishError(f"the Hub at {api.endpoint} cannot be reached: {_reason(error)}") from error
    except ValueError as error:  # its answer to the card's metadata, such as a licence that it does not know
        raise PublishError(f"the Hub refused the card of {options.repo_id}: {_reason(error)}") from error
    return commit.commit_url, outdated


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def stated_license(options: argparse.Namespace) -> str | None:
    return options.license or read_author_texts(options.checkpoint).get("license")


def check_options(options: argparse.Namespace) -> None:
    check_repo_id(options.repo_id)
    if options.upload and get_token() is None:
        raise PublishError("--push needs a token: run `hf auth login` or set HF_TOKEN. Nothing was built.")
    if options.upload and stated_license(options) is None:
        raise PublishError(
            "--push needs the weights' licence, which nobody has stated: pass --license ID (such as cc-by-nc-4.0) "
            f"or write `license: ID` into {options.checkpoint / 'card.yaml'}. Nothing was built."
        )
    if not re.fullmatch(r"0*[1-9]\d*[KMGT]B", options.max_shard_size):
        raise PublishError(f"--max-shard-size {options.max_shard_size}: give a size such as 5GB or 500MB.")
    files = [path for path in options.output.parents if path.is_file()] if options.output else []
    if files:
        raise PublishError(f"--output {options.output}: {files[0]} is a file.")
    if options.output and options.output.exists() and (options.output.is_file() or any(options.output.iterdir())):
        raise PublishError(f"--output {options.output}: already there; give the name of a new or empty folder.")


def publish(options: argparse.Namespace) -> tuple[list[PublishedFile], str | None, list[str]]:
    """Builds, checks and, if asked to, pushes; returns the files, the commit's address and what it deleted."""
    check_options(options)
    with tempfile.TemporaryDirectory(prefix="publish-") as scratch_name:
        scratch = Path(scratch_name)
        folder = scratch / "folder"
        with expected_errors(f"--checkpoint {options.checkpoint}: the folder cannot be built"):
            model, processor = build(options.checkpoint, folder, options.max_shard_size)
            card = make_card(options.checkpoint, options.repo_id, model, processor, license=options.license)
            (folder / "README.md").write_text(card, encoding="utf-8")
            size = processor.video_processor.crop_size["height"]
            whole = options.checkpoint
            if not is_whole(whole):
                whole = scratch / "whole"
                model.save_pretrained(whole)
                processor.save_pretrained(whole)
        frames = processor.video_processor.num_frames
        del model
        check_folder(folder, whole, frames, size, scratch)
        files = list_files(folder)
        if options.output:
            with expected_errors(f"--output {options.output}: cannot be written"):
                shutil.copytree(folder, options.output, dirs_exist_ok=True)
        token = get_token()
        if not options.upload or token is None:
            return files, None, []
        return files, *push(folder, options, token)


def report(options: argparse.Namespace, files: list[PublishedFile], url: str | None, deleted: list[str]) -> None:
    for file in files:
        print(f"{file.sha256}  {file.size:>13,}  {file.name}")
    print(f"{len(files)} files, {sum(file.size for file in files):,} bytes")
    print("Loads alike, to the bit: in a fresh process without the package, and with it.")
    if options.output:
        print(f"Folder: {options.output}")
    if url:
        print(f"Pushed in one commit: {url}")
        if deleted:
            print(f"Deleted with it, weights of an earlier publication: {', '.join(deleted)}")
    else:
        print(f"Dry run, nothing pushed; to publish as {options.repo_id}, {', then '.join(steps_to_push(options))}.")


def steps_to_push(options: argparse.Namespace) -> list[str]:
    steps = [] if get_token() else ["run `hf auth login`"]
    if stated_license(options) is None:
        steps.append("state the weights' licence by --license")
    return [*steps, "leave out --dry-run" if options.push else "add --push"]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder with model, processor and tokenizer")
    parser.add_argument("--repo-id", required=True, help="ORG/NAME on the Hub; the card names it too")
    parser.add_argument("--output", type=Path, help="keep the built folder here")
    parser.add_argument("--push", action="store_true", help="upload after the check (needs a token)")
    parser.add_argument("--dry-run", action="store_true", help="build and check only, whatever else is given")
    parser.add_argument(
        "--license", metavar="ID", help="of the weights, by the Hub's name (default: that of card.yaml)"
    )
    parser.add_argument("--revision", help="branch to push to, made if it is not there (default: main)")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--commit-message", default="Publish Vita-CLIP checkpoint")
    parser.add_argument("--max-shard-size", default="5GB", help="of a weights file (default: 5GB)")
    options = parser.parse_args(arguments)
    options.upload = options.push and not options.dry_run
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        files, url, deleted = publish(options)
    except PublishError as error:
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    report(options, files, url, deleted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
