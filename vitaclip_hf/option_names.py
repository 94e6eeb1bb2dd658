"""Argument names in messages as the options of a command line."""

import re
from collections.abc import Mapping


def option(name: str) -> str:
    """`--batch-size` of `batch_size`."""
    return "--" + name.replace("_", "-")


def with_options(message: str, options: Mapping[str, str]) -> str:
    """
    Replaces argument names in backticks by options.

    A library's `templates` is also found as `template`, an option that is repeated.

    Args:
        message (`str`): of a library, which names its arguments in backticks.
        options (`dict[str, str]`): argument names and what the command line has for them.
    """
    return re.sub(r"`(\w+?)(s?)`", lambda name: options.get(name[1] + name[2], options.get(name[1], name[0])), message)
