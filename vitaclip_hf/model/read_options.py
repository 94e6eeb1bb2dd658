"""How videos are opened and decoded: one object that is handed down from the user to the decoder."""

from dataclasses import dataclass


CHOICES = {
    "decoder": ("auto", "pyav", "torchcodec", "decord"),
    "verify": ("read", "full"),
    "on_damage": ("error", "skip"),
    "pixel_aspect": ("displayed", "coded"),
}


@dataclass(frozen=True)
class ReadOptions:
    """
    How a video is opened and decoded.

    Args:
        decoder (`str`, defaults to `"auto"`): `"auto"` is `"pyav"`; `"torchcodec"` and `"decord"` return wrong frames
            of some files, see docs/decoding.md. The next three are of PyAV.
        verify (`str`, defaults to `"read"`): `"read"` decodes, and notices damage in, what the frames asked for need;
            `"full"` the whole file.
        on_damage (`str`, defaults to `"error"`): `"skip"` leaves damaged frames out, numbers the others, and
            says in `metadata.frames_left_out` how many were left out.
        pixel_aspect (`str`, defaults to `"displayed"`): `"displayed"` changes the width of frames whose pixels are not
            square, as players do; `"coded"`, the default of evaluation and training, does not, as papers.
        max_seconds (`float`, *optional*): most time for opening and all readings together, without the download. The
            video is then decoded in a process of its own, which is ended after this time.
        max_bytes, max_frame_pixels (`int`, *optional*): limits on the frames of one reading, with copies of them, and
            on the pixels of one frame; `None` for no limit.
        max_download_bytes (`int`, *optional*), download_seconds (`float`, *optional*): limits of a whole download.
        allow_private_addresses (`bool`, defaults to `True`): whether URLs may lead to addresses that are not public. A
            service that takes URLs from others needs `False`.

    Raises:
        ValueError: an unknown choice, or a limit that is no positive number.
    """

    decoder: str = "auto"
    verify: str = "read"
    on_damage: str = "error"
    pixel_aspect: str = "displayed"
    max_seconds: float | None = None
    max_bytes: int | None = 2 << 30
    max_frame_pixels: int | None = 36_000_000  # 8K in cinema format has 8192 x 4320
    max_download_bytes: int | None = 4 << 30
    download_seconds: float | None = 300.0
    allow_private_addresses: bool = True

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"unknown {name} {value!r:.100}; choose one of {', '.join(choices)}.")
        for name in ("max_seconds", "max_bytes", "max_frame_pixels", "max_download_bytes", "download_seconds"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise ValueError(f"`{name}` must be a positive number, got {value!r:.100}.")
        if self.on_damage == "skip" and self.decoder in ("torchcodec", "decord"):
            raise ValueError(f'`on_damage="skip"` needs the decoder "pyav", got {self.decoder!r}.')
