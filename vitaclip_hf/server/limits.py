"""What a request may take."""

from dataclasses import dataclass, fields


MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """
    Limits of the server; each is above 0.

    Args:
        upload_bytes (`int`, defaults to 64 MiB): of a request.
        decoded_bytes (`int`, defaults to 1 GiB): of the decoded frames of one video.
        frame_pixels (`int`, defaults to 36,000,000): of one frame.
        upload_seconds (`float`, defaults to 30): to receive a request.
        decode_seconds (`float`, defaults to 20): to decode a video; its process is ended then.
        wait_seconds (`float`, defaults to 30): from the upload to the answer.
        labels (`int`, defaults to 1000): of a request.
        sentences (`int`, defaults to 2000): labels times templates of a request; the model reads each.
        label_length (`int`, defaults to 300): characters of a label or template.
        queue (`int`, defaults to 32): requests in flight; more are answered with 503.
        batch (`int`, defaults to 8): videos of a forward pass.
        decoders (`int`, defaults to 2): processes that decode.

    Raises:
        ValueError: a limit that is not above 0.
    """

    upload_bytes: int = 64 * MEBIBYTE
    decoded_bytes: int = 1024 * MEBIBYTE
    frame_pixels: int = 36_000_000
    upload_seconds: float = 30.0
    decode_seconds: float = 20.0
    wait_seconds: float = 30.0
    labels: int = 1000
    sentences: int = 2000
    label_length: int = 300
    queue: int = 32
    batch: int = 8
    decoders: int = 2

    def __post_init__(self):
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"`{field.name}` must be above 0, got {getattr(self, field.name)}.")
