"""torch and transformers, which a command loads when it starts to work: help and wrong usage need neither."""


def load_libraries(warnings: bool = True) -> None:
    """Registers the model with transformers, and shows no progress bars of loading weights."""
    from transformers.utils import logging

    from .. import registration  # noqa: F401

    logging.disable_progress_bar()
    if not warnings:
        logging.set_verbosity_error()
