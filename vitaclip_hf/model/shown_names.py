"""How names of files, models and classes are shown: they can hold control sequences, or bytes that are not UTF-8."""

import re


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """A text as one line: a line break is shown as `\\n`, the byte FF, which is no UTF-8, as `\\udcff`."""
    return _UNPRINTABLE.sub(lambda sign: ascii(sign[0])[1:-1], text)


_ADVICE_OF_TORCH = re.compile(  # to run the code of a file
    r"This file can still be loaded, .*? following error message\. |In PyTorch 2\.6, .*? trusted source\. ?"
    r"| Please use `torch\.serialization\..*? trust this class/function\."
)


def one_line(error: BaseException | str, most: int = 1000) -> str:
    """A text, or the message of an exception, as one line; a longer one loses its middle. Its type if it is empty."""
    text = _ADVICE_OF_TORCH.sub("", " ".join(str(error).split()))
    text = shown(text) or type(error).__name__
    return text if len(text) <= most else f"{text[: most // 2]} … {text[3 - most // 2 :]}"
