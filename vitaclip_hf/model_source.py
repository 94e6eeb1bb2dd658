"""Where a model may come from: a folder here or an id on the Hub."""

from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id


class ModelSourceError(ValueError):
    """A name that is neither; the message is one line."""


def require_model_source(name: str) -> None:
    """
    Raises:
        ModelSourceError: a name that is no folder here and cannot be an id on the Hub.
    """
    if Path(name).is_dir():
        return
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ModelSourceError(
            f"{name}: no such folder, and no id on the Hub (which is ORG/NAME); give one."
        ) from error
