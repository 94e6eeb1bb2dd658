"""Builds the whole Hub folder of a checkpoint, checks it as a stranger would load it, and uploads it in one commit.

The check loads the folder twice: in a fresh process that cannot import this package, by the code in the folder
(`trust_remote_code=True`), and in this process with the package. Model, classifier, processor, video processor,
tokenizer and both pipelines must give the checkpoint's own outputs to the bit.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import load_file

from vitaclip_hf.data.motion_shapes import write_video
from vitaclip_hf.loading.checkpoint import save_checkpoint

from . import folder_outputs
from .hub_folder import INDEX, WEIGHTS, PublishError, build, expected_errors, is_whole
from .model_card import make_card, read_author_texts


try:
    from huggingface_hub.utils import httpx  # its own choice of httpx or httpx2
except ImportError:
    import httpx


SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


@dataclass
class PublishedFile:
    """A file of the folder.

    Attributes:
        name (`str`): its name.
        size (`int`): its bytes.
        sha256 (`str`): its hash.
    """

    name: str
    size: int
    sha256: str


@dataclass
class Publication:
    """What [`publish`] did.

    Attributes:
        files (`list[PublishedFile]`): the files of the folder.
        url (`str`, *optional*): address of the commit; None if nothing was uploaded.
        deleted (`list[str]`): weights of an earlier publication that the commit deleted.
    """

    files: list[PublishedFile]
    url: str | None = None
    deleted: list[str] = field(default_factory=list)


def check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"`repo_id` {repo_id!r}: {error}") from error
    if repo_id.count("/") != 1:
        raise PublishError(f"`repo_id` {repo_id!r}: give it as ORG/NAME.")


def write_test_video(file: Path, frames: int, size: int) -> None:
    """Writes a video of noise. Its outputs depend on every weight of both towers."""
    height, width = size + 16, size + 32
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height // 8, width // 8, 3), dtype=np.uint8)
    write_video(file, pixels.repeat(8, axis=1).repeat(8, axis=2))


def outputs_without_package(folder: Path, video: Path, scratch: Path) -> dict[str, torch.Tensor]:
    """The folder's outputs in a new, isolated process with its own module cache, without package and network."""
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
    """
    Checks that the folder gives the checkpoint's own outputs to the bit, with and without the package.

    Args:
        folder (`Path`): the built folder.
        checkpoint (`Path`): the whole model that it was made of.
        frames (`int`): frames of a clip.
        size (`int`): pixels along a side of a frame.
        scratch (`Path`): folder for temporary files.

    Returns:
        The names of the outputs that agree.

    Raises:
        PublishError: the folder does not load, or its outputs differ.
    """
    video = scratch / "noise.mp4"
    write_test_video(video, 2 * frames, size)
    with expected_errors("`checkpoint`: model and processor do not run together"):
        expected = folder_outputs.collect_outputs(str(checkpoint), str(video), trust_remote_code=None)
    if not all(torch.isfinite(tensor).all() for tensor in expected.values()):
        raise PublishError("`checkpoint`: its outputs are not finite.")
    compare_outputs(expected, outputs_without_package(folder, video, scratch), "without the package")
    found = folder_outputs.collect_outputs(str(folder), str(video), trust_remote_code=None)
    compare_outputs(expected, found, "with the package")
    return sorted(expected)


def list_files(folder: Path) -> list[PublishedFile]:
    """The files of a folder with their sizes and hashes."""
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
    """The files of a repository that are weights of an earlier publication, by the names that this module writes.

    Left there, they would be loaded instead of the new ones. Other files may be somebody else's and stay.
    """
    ours = {file.name for file in folder.iterdir()}
    return [name for name in there if name not in ours and (name in (WEIGHTS, INDEX) or SHARD.fullmatch(name))]


def upload(
    folder: Path, repo_id: str, token: str, revision: str | None, private: bool | None, commit_message: str
) -> tuple[str, list[str]]:
    """Uploads the folder in one commit; returns the commit's address and the outdated weights deleted with it."""
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        outdated = outdated_weights(api.list_repo_files(repo_id, revision=revision), folder)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message,
            delete_patterns=outdated,
        )
    except HfHubHTTPError as error:
        raise PublishError(f"the Hub refused {repo_id}: {_reason(error)}") from error
    except (httpx.HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise PublishError(f"the Hub at {api.endpoint} cannot be reached: {_reason(error)}") from error
    except ValueError as error:  # the Hub's answer to the card's metadata, such as an unknown licence
        raise PublishError(f"the Hub refused the card of {repo_id}: {_reason(error)}") from error
    return commit.commit_url, outdated


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def stated_license(checkpoint: Path, license: str | None = None) -> str | None:
    """The licence of the weights: the argument's, else that of card.yaml beside the checkpoint."""
    return license or read_author_texts(checkpoint).get("license")


def _check_push(checkpoint: Path, license: str | None) -> None:
    if get_token() is None:
        raise PublishError("`push` needs a token: run `hf auth login` or set HF_TOKEN. Nothing was built.")
    if stated_license(checkpoint, license) is None:
        raise PublishError(
            "`push` needs the licence of the weights: pass `license` (such as cc-by-nc-4.0), or write `license: ID` "
            f"into {checkpoint / 'card.yaml'}. Nothing was built."
        )


def _check_output(output: Path) -> None:
    files = [path for path in output.parents if path.is_file()]
    if files:
        raise PublishError(f"`output` {output}: {files[0]} is a file.")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise PublishError(f"`output` {output}: already there; give the name of a new or empty folder.")


def publish(
    checkpoint: Path,
    repo_id: str,
    *,
    output: Path | None = None,
    push: bool = False,
    license: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    commit_message: str = "Publish Vita-CLIP checkpoint",
    max_shard_size: str = "5GB",
) -> Publication:
    """
    Builds the Hub folder of a checkpoint, checks it and, if asked to, uploads it.

    Args:
        checkpoint (`Path`):
            Folder of a whole model, or of prompts alone, which are published as a whole model on their CLIP.
        repo_id (`str`): ORG/NAME on the Hub. The model card names it too.
        output (`Path`, *optional*): new folder in which the built folder is kept.
        push (`bool`, defaults to `False`): upload after the check. Needs a token (`hf auth login`, or HF_TOKEN).
        license (`str`, *optional*):
            Licence of the weights by the Hub's name, such as `"cc-by-nc-4.0"`; by default that of card.yaml.
        revision (`str`, *optional*): branch to upload to, made if it is not there; main by default.
        private (`bool`, *optional*): make a new repository private.
        commit_message (`str`, *optional*): of the upload.
        max_shard_size (`str`, defaults to `"5GB"`): largest size of a weights file.

    Returns:
        [`Publication`]

    Raises:
        PublishError: the checkpoint cannot be published as it is; nothing was uploaded.

    Example:

    ```python
    >>> from pathlib import Path
    >>> from vitaclip_hf.conversion.publish import publish

    >>> publish(Path("runs/own"), "ORG/NAME", output=Path("folder"))  # doctest: +SKIP

    ```
    """
    check_repo_id(repo_id)
    if push:
        _check_push(checkpoint, license)
    if not re.fullmatch(r"0*[1-9]\d*[KMGT]B", max_shard_size):
        raise PublishError(f"`max_shard_size` {max_shard_size}: give a size such as 5GB or 500MB.")
    if output is not None:
        _check_output(output)
    with tempfile.TemporaryDirectory(prefix="publish-") as scratch_name:
        scratch = Path(scratch_name)
        folder = scratch / "folder"
        with expected_errors(f"`checkpoint` {checkpoint}: the folder cannot be built"):
            model, processor = build(checkpoint, folder, max_shard_size)
            card = make_card(checkpoint, repo_id, model, processor, license=license)
            (folder / "README.md").write_text(card, encoding="utf-8")
            size = processor.video_processor.crop_size["height"]
            whole = checkpoint
            if not is_whole(checkpoint):
                whole = scratch / "whole"
                save_checkpoint(model, processor, whole)
        frames = processor.video_processor.num_frames
        del model
        check_folder(folder, whole, frames, size, scratch)
        files = list_files(folder)
        if output is not None:
            with expected_errors(f"`output` {output}: cannot be written"):
                shutil.copytree(folder, output, dirs_exist_ok=True)
        token = get_token()
        if not push or token is None:
            return Publication(files)
        return Publication(files, *upload(folder, repo_id, token, revision, private, commit_message))
