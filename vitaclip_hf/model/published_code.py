"""Copies the pipelines' code when a model that was loaded by a published folder's code is saved again."""

import os
import shutil
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_cached_module_file, get_relative_import_files
from transformers.utils import HF_MODULES_CACHE


def copy_pipeline_modules(config: Any, directory: str | os.PathLike) -> None:
    """
    Copies the modules of the pipelines that a configuration names (`custom_pipelines`) into a folder.

    transformers copies the modules of model, configuration and processor itself, but not those of pipelines. Only the
    configuration of a model that was loaded with a published folder's own code names pipelines.
    """
    folder, revision = Path(directory), getattr(config, "_commit_hash", None)
    for pipeline in (getattr(config, "custom_pipelines", None) or {}).values():
        name = pipeline["impl"].split(".")[0]
        module = Path(HF_MODULES_CACHE, get_cached_module_file(config.name_or_path, f"{name}.py", revision=revision))
        for file in (module, *get_relative_import_files(module)):
            shutil.copy(file, folder)
