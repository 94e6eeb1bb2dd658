"""Builds the whole Hub folder of a checkpoint, checks it as a stranger would load it, and uploads it in one commit.

The check loads the folder twice: in a fresh process that cannot import this package, by the code in the folder
(`trust_remote_code=True`), and in this process with the package. Model, classifier, processor, video processor,
tokenizer, our pipeline and transformers' own must give the checkpoint's own outputs to the bit.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import load_file

from vitaclip_hf.data.video_writing import write_video
from vitaclip_hf.loading.checkpoint import load_checkpoint, save_checkpoint
from vitaclip_hf.loading.checksums import sha256_of
from vitaclip_hf.loading.guards import check_output
from vitaclip_hf.model.modeling_vita_clip import VitaClipModel
from vitaclip_hf.model.shown_names import one_line

from . import folder_outputs
from .hub_folder import build
from .model_card import make_card, read_author_texts


# Weights as this module names them.
WEIGHTS = ["model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors"]


class Publication(NamedTuple):
    """Result of [`publish`].

    Attributes:
        files (`list[tuple[str, int, str]]`): name, bytes and SHA-256 of each file of the folder.
        url (`str`, *optional*): address of the commit; None if nothing was uploaded.
    """

    files: list[tuple[str, int, str]]
    url: str | None = None


def check_repo_id(repo_id: str) -> None:
    validate_repo_id(repo_id)
    if repo_id.count("/") != 1:
        raise ValueError(f"`repo_id` {repo_id!r:.200}: give it as ORG/NAME.")


def write_test_video(file: Path, frames: int, size: int) -> None:
    """Writes a video of noise. Its outputs depend on every weight of both towers."""
    height, width = size + 16, size + 32
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height // 8, width // 8, 3), dtype=np.uint8)
    write_video(file, pixels.repeat(8, axis=1).repeat(8, axis=2))


def outputs_without_package(folder: Path, video: Path, scratch: Path) -> dict[str, torch.Tensor]:
    """The folder's outputs in a new, isolated process with its own module cache, without package and network."""
    output = scratch / "without_package.safetensors"
    command = [sys.executable, "-I", folder_outputs.__file__, str(folder), str(video), str(output)]
    environment = {"HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    command.append(str(torch.get_num_threads()))
    child = subprocess.run(command, cwd=scratch, env=os.environ | environment, capture_output=True, text=True)
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"the folder does not load without the package (exit {child.returncode}): {last}")
    return load_file(output)


def compare_outputs(expected: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor], where: str) -> None:
    """Raises ValueError unless both are equal to the bit and finite."""
    different = expected.keys() ^ outputs.keys()
    for name in expected.keys() & outputs.keys():
        if not torch.equal(expected[name], outputs[name]) or not outputs[name].isfinite().all():
            different.add(name)
    if different:
        raise ValueError(
            f"the folder computes something else {where}: {', '.join(sorted(different))} differ or are not finite."
        )


def check_folder(folder: Path, checkpoint: Path, frames: int, size: int, scratch: Path) -> None:
    """
    Checks that the folder gives the checkpoint's own outputs to the bit, with and without the package.

    Args:
        folder (`Path`): the built folder.
        checkpoint (`Path`): the whole model that it was made of.
        frames (`int`): frames of a clip.
        size (`int`): pixels along a side of a frame.
        scratch (`Path`): folder for temporary files.

    Raises:
        ValueError: the folder does not load, or its outputs differ.
    """
    video = scratch / "noise.mp4"
    write_test_video(video, 2 * frames, size)
    expected = folder_outputs.collect_outputs(str(checkpoint), str(video), trust_remote_code=None)
    compare_outputs(expected, outputs_without_package(folder, video, scratch), "without the package")
    outputs = folder_outputs.collect_outputs(str(folder), str(video), trust_remote_code=None)
    compare_outputs(expected, outputs, "with the package")


def upload(folder: Path, repo_id: str, revision: str | None, private: bool | None, commit_message: str) -> str:
    """
    Uploads the folder in one commit, whose address it returns.

    Weights of an earlier publication, by the names that this module writes, are deleted with it: they would be loaded
    instead of the new ones. Other files may be somebody else's and stay.
    """
    api = HfApi(token=get_token())
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message,
            delete_patterns=WEIGHTS,  # but for those that are uploaded
        )
    except (HTTPError, OSError, ValueError) as error:  # ValueError: the card's metadata, such as an unknown licence
        raise ValueError(f"the Hub at {api.endpoint} did not take {repo_id} ({one_line(error)})") from error
    return commit.commit_url


def publish(
    checkpoint: str | Path,
    repo_id: str,
    *,
    output: str | Path | None = None,
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
        checkpoint (`str` or `Path`):
            Folder of a whole model, or of prompts alone, which are published as a whole model on their CLIP.
        repo_id (`str`): ORG/NAME on the Hub. The model card names it too.
        output (`str` or `Path`, *optional*): new folder in which the built folder is kept.
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
        ValueError: the checkpoint cannot be published as it is; nothing was uploaded.
        OSError: files that cannot be read or written.

    Example:

    ```python
    >>> from vitaclip_hf.conversion.publish import publish

    >>> publish("runs/own", "ORG/NAME", output="folder")  # doctest: +SKIP

    ```
    """
    check_repo_id(repo_id)
    checkpoint, output = Path(checkpoint), None if output is None else Path(output)
    if push and get_token() is None:
        raise ValueError("`push` needs a token: run `hf auth login` or set HF_TOKEN. Nothing was built.")
    if push and "license" not in read_author_texts(checkpoint, license):
        raise ValueError(
            "`push` needs the licence of the weights: pass `license` (such as cc-by-nc-4.0), or write `license: ID` "
            f"into {checkpoint / 'card.yaml'}. Nothing was built."
        )
    if output is not None:
        check_output(output, is_replaced=True)
    if not checkpoint.is_dir():
        raise ValueError(f"{checkpoint}: no such folder.")
    beside = None if output is None else output.absolute().parent
    if beside is not None:
        beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=beside) as name:
        scratch = Path(name)
        folder, whole = scratch / "folder", checkpoint
        loaded = load_checkpoint(checkpoint, model_class=VitaClipModel)
        model, processor = loaded.model, loaded.processor
        if processor.video_processor.num_views * processor.video_processor.num_spatial_views > 1:
            raise ValueError(
                f"{checkpoint}: its processor reads several views, which transformers' own pipelines do not take; save "
                "it with `num_views=1` and `num_spatial_views=1`."
            )
        if loaded.kind == "prompts":
            whole = scratch / "whole"
            save_checkpoint(model, processor, whole)
        build(model, processor, folder, max_shard_size)
        card = make_card(checkpoint, repo_id, model, processor, license=license)
        (folder / "README.md").write_text(card, encoding="utf-8")
        clip, size = processor.video_processor.num_frames, processor.video_processor.crop_size["height"]
        del loaded, model
        check_folder(folder, whole, clip, size, scratch)
        files = [(path.name, path.stat().st_size, sha256_of(path)) for path in sorted(folder.iterdir())]
        if output is not None:
            folder = folder.replace(output)  # an empty folder may be there
        return Publication(files, upload(folder, repo_id, revision, private, commit_message) if push else None)
