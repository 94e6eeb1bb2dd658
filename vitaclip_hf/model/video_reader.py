"""The one way from a source to model input: frames by a clip specification and options, pixels by a processor."""

from dataclasses import fields, replace
from typing import Any

import torch
from transformers.image_utils import ChannelDimension
from transformers.video_utils import VideoMetadata

from .decoding import Video
from .frame_sampling import ClipSpecification
from .read_options import ReadOptions
from .sources import NotAVideoError
from .video_inputs import video_from


# What can be set of reading a video, with the defaults.
SETTINGS = {field.name: field.default for kind in (ClipSpecification, ReadOptions) for field in fields(kind)}


class VideoReader:
    """
    Reads videos as a video processor says. Every tool of the package reads videos with it.

    Args:
        video_processor ([`VitaClipVideoProcessor`]): resizes, crops and normalises.
        settings: fields of [`ClipSpecification`] and [`ReadOptions`]; `None` keeps the processor's own.
    """

    def __init__(self, video_processor: Any, **settings: Any):
        self.video_processor = video_processor
        if unknown := sorted(settings.keys() - SETTINGS):
            raise TypeError(f"unknown setting `{unknown[0]:.100}`; known are {', '.join(SETTINGS)}.")
        chosen = {name: value for name, value in settings.items() if value is not None}
        clip = {field.name: chosen.pop(field.name) for field in fields(ClipSpecification) if field.name in chosen}
        self.specification: ClipSpecification = replace(video_processor.clip_specification, **clip)
        self.options: ReadOptions = replace(video_processor.read_options, **chosen)

    def open(self, source: Any) -> Video:
        """A source as a [`Video`], see [`VitaClipVideoProcessor`] for what it may be."""
        return video_from(source, self.options)

    def read(self, source: Any, seed: int | None = 0) -> tuple[torch.Tensor, VideoMetadata]:
        """
        Model input of one video, `(num_views, num_frames, 3, height, width)`, where the spatial views of one temporal
        view follow each other; and the metadata, whose `frames_indices` and `timestamps` say what was read.
        """
        settings = vars(self.specification) | vars(self.options)
        batch = self.video_processor([source], return_tensors="pt", return_metadata=True, seed=seed, **settings)
        metadata = batch["video_metadata"]
        if len(metadata) != 1:
            raise NotAVideoError(f"Expected one video, got a list of {len(metadata)} videos.")
        return batch["pixel_values_videos"].flatten(0, -5), metadata[0]

    def frames(self, source: Any, seed: int | None = 0) -> torch.Tensor:
        """The frames of one temporal view as they are, of shape `(num_frames, 3, height, width)`: for augmentation."""
        return self.open(source).read_clips(replace(self.specification, num_views=1), seed)[0]

    def process(self, clip: torch.Tensor) -> torch.Tensor:
        """Model input `(num_spatial_views, num_frames, 3, height, width)` of uint8 frames `(num_frames, 3, …)`."""
        batch = self.video_processor(
            [clip],
            do_sample_frames=False,
            num_views=1,
            num_spatial_views=self.specification.num_spatial_views,
            input_data_format=ChannelDimension.FIRST,
            return_tensors="pt",
        )
        return batch["pixel_values_videos"].flatten(0, -5)


__all__ = ["VideoReader"]
