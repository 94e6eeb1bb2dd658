"""Video processor for Vita-CLIP: any video source to `pixel_values_videos` `[B, views, T, 3, H, W]`."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, ChannelDimension, PILImageResampling, SizeDict
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from .frame_sampling import ClipSpecification
from .read_options import ReadOptions
from .video_inputs import SETTINGS, batch_of_videos, check_shape, video_from


class VitaClipVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Arguments beside those of every video processor: the fields of [`ClipSpecification`] and [`ReadOptions`], and

    antialias (`bool`): low-pass before downsizing (default `True`; the released code does not).
    seed (`int`, *optional*): of the random samplings; video i of a batch draws with `seed + i`.
    """

    antialias: bool | None
    seed: int | None


VitaClipVideoProcessorKwargs.__annotations__.update(dict.fromkeys(SETTINGS, Any))


class VitaClipVideoProcessor(BaseVideoProcessor):
    r"""
    Turns videos into model inputs: decodes only the frames it samples, resizes the shorter side (antialiased bicubic,
    as CLIP was trained with), crops and normalises with CLIP's mean and standard deviation.

    A video may be a path (`str` or `os.PathLike`), an http(s) or file URL, bytes, a binary file object,
    `{"path": …, "bytes": …}` as in `datasets`, an opened [`Video`], an array or tensor of frames `[T, H, W, 3]` or
    `[T, 3, H, W]` (uint8, or floats in 0 … 1), or a list of frames: images, arrays, or paths of image files within a
    nested list. A list of any of these is a batch. `do_sample_frames=False` takes every frame.

    The output `pixel_values_videos` has one row for each video: shape `(batch_size, num_frames, 3, height, width)`, or
    with several views `(batch_size, num_views * num_spatial_views, num_frames, 3, height, width)`, spatial views
    innermost. The pipeline averages the scores of several views.
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 224}
    crop_size = {"height": 224, "width": 224}
    default_to_square = False
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = True
    antialias = True
    seed = None
    valid_kwargs = VitaClipVideoProcessorKwargs
    model_input_names = ["pixel_values_videos"]

    def __init__(self, **kwargs: Unpack[VitaClipVideoProcessorKwargs]):
        super().__init__(**kwargs)
        self.clip_specification, self.read_options  # noqa: B018  checks the values

    @property
    def clip_specification(self) -> ClipSpecification:
        """Which frames of a video are read, of this processor's own values."""
        return _of(ClipSpecification, self._chosen({}))

    @property
    def read_options(self) -> ReadOptions:
        """How videos are opened and decoded, of this processor's own values."""
        return _of(ReadOptions, self._chosen({}))

    def _chosen(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, and the processor's own values for those that are missing or `None`."""
        own = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        chosen = own | {name: value for name, value in arguments.items() if value is not None}
        if chosen["fps"] is not None:
            raise ValueError("`fps` is not a rule of this processor; choose `sampling`, `num_frames`, `frame_stride`.")
        return chosen

    def sample_frames(self, metadata: VideoMetadata, seed: int | None = None, **kwargs: Any) -> np.ndarray:
        """The frame numbers that a video is read at, view after view; `kwargs` as for [`ClipSpecification`]."""
        specification = _of(ClipSpecification, self._chosen(kwargs))
        return np.concatenate(specification.frame_numbers(metadata.total_num_frames, seed))

    def preprocess(self, videos, **kwargs: Unpack[VitaClipVideoProcessorKwargs]) -> BatchFeature:
        """`pixel_values_videos` of one video or a list of them, and `video_metadata` with `return_metadata=True`."""
        # transformers' hook for decoding gives one clip a video; so the videos are read here.
        validate_typed_dict(self.valid_kwargs, kwargs)
        chosen = self._chosen(kwargs)
        specification, options = _of(ClipSpecification, chosen), _of(ReadOptions, chosen)
        layout, scale, sample = chosen["input_data_format"], chosen["do_rescale"], chosen["do_sample_frames"]
        sources = batch_of_videos(videos)
        described = _metadata_of(sources, chosen["video_metadata"])
        clips, metadata = list[torch.Tensor](), list[VideoMetadata]()
        for index, (source, known) in enumerate(zip(sources, described, strict=True)):
            video = video_from(source, options, metadata=known, layout=layout, scale=scale)
            if chosen["do_resize"]:
                check_shape(video)
            seed = None if chosen["seed"] is None else chosen["seed"] + index
            views = video.read_clips(specification if sample else None, seed)
            clips.extend(views if sample else views * specification.num_views)
            metadata.append(video.metadata)
        arguments = {"do_sample_frames": False, "input_data_format": ChannelDimension.FIRST, "video_metadata": None}
        batch = super().preprocess(clips, **kwargs | vars(specification) | arguments)
        if "video_metadata" in batch:
            batch["video_metadata"] = metadata
        return batch

    def _preprocess(
        self, videos: list[torch.Tensor], size: SizeDict, crop_size: SizeDict, return_tensors=None, **options
    ) -> BatchFeature:
        rows = []
        normalising = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
        for video in videos:
            if options["do_resize"]:
                video = self.resize(video, size=size, resample=options["resample"], antialias=options["antialias"])
            if options["num_spatial_views"] == 3:
                crops = three_crops(video, crop_size)
            else:
                crops = [self.center_crop(video, crop_size) if options["do_center_crop"] else video]
            for crop in crops:
                pixels = self.rescale_and_normalize(crop, *(options[name] for name in normalising))
                rows.append(pixels.contiguous())
        views = options["num_views"] * options["num_spatial_views"]
        if views > 1:
            rows = [torch.stack(rows[start : start + views]) for start in range(0, len(rows), views)]
        shapes = sorted({tuple(row.shape) for row in rows})
        if return_tensors is not None and len(shapes) > 1:
            kinds = f"their clips differ in shape: {', '.join(map(str, shapes))}"
            raise ValueError(f"These videos do not make one batch, {kinds}. Sample a fixed number of frames, and crop.")
        return BatchFeature(data={"pixel_values_videos": rows}, tensor_type=return_tensors)


def three_crops(video: torch.Tensor, crop_size: SizeDict) -> list[torch.Tensor]:
    """Crops at the beginning, the centre and the end of the longer side of `[T, 3, H, W]`."""
    height, width = video.shape[-2:]
    down, right = height - crop_size.height, width - crop_size.width
    if min(down, right) < 0:
        crop = f"{crop_size.height} x {crop_size.width}"
        raise ValueError(f"Frames of {height} x {width} are smaller than the crop, {crop}.")
    corners = [(down * k // 2, right // 2) if height > width else (down // 2, right * k // 2) for k in range(3)]
    return [video[..., top : top + crop_size.height, left : left + crop_size.width] for top, left in corners]


def _of(kind: Any, values: dict[str, Any]) -> Any:
    """A dataclass with those of the values that are its fields."""
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})


def _metadata_of(sources: list, metadata: Any) -> list:
    """`video_metadata` of a call, which may be nested by sample: one for each video."""
    if metadata is None:
        return [None] * len(sources)
    entries = metadata if isinstance(metadata, (list, tuple)) else [metadata]
    entries = [part for entry in entries for part in (entry if isinstance(entry, (list, tuple)) else [entry])]
    if len(entries) != len(sources):
        raise ValueError(f"`video_metadata` describes {len(entries)} videos, but there are {len(sources)}.")
    return entries


for _name, _default in SETTINGS.items():
    setattr(VitaClipVideoProcessor, _name, _default)

__all__ = ["VitaClipVideoProcessor"]
