"""Video processor for Vita-CLIP: any video source to `pixel_values_videos` `[B * views, T, 3, H, W]`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
    load_image,
)
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils import TensorType
from transformers.utils.type_validators import positive_int
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from .frame_sampling import SAMPLINGS, sample_clips
from .video_decoding import decode_video


class VitaClipVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Arguments beside those of every video processor.

    sampling (`str`): `"uniform"` (default), `"dense"`, `"segment_random"` or `"dense_random"`.
    frame_stride (`int`): distance of a dense clip's frames (default 16).
    num_views (`int`): temporal views of a video (default 1).
    num_spatial_views (`int`): 1, a centre crop, or 3, along the longer side (default 1).
    antialias (`bool`): low-pass before downsizing (default `True`; the released code does not).
    decoder (`str`): `"auto"` (default), `"torchcodec"`, `"pyav"` or `"decord"`.
    seed (`int`, *optional*): of the random samplings; video i of a batch draws with `seed + i`.
    """

    sampling: str | None
    frame_stride: Annotated[int | None, positive_int()]
    num_views: Annotated[int | None, positive_int()]
    num_spatial_views: Annotated[int | None, positive_int()]
    antialias: bool | None
    decoder: str | None
    seed: int | None


# What this processor decides itself, before transformers' own steps.
SAMPLING_ARGUMENTS: tuple[str, ...] = (
    "sampling",
    "frame_stride",
    "num_views",
    "num_spatial_views",
    "antialias",
    "decoder",
    "seed",
)
SAMPLING_ARGUMENTS += ("do_sample_frames", "num_frames", "input_data_format")


class VitaClipVideoProcessor(BaseVideoProcessor):
    r"""
    Turns videos into model inputs: decodes only the frames it samples, resizes the shorter side (antialiased bicubic,
    as CLIP was trained with), crops and normalises with CLIP's mean and standard deviation.

    A video may be a path (`str` or `Path`), an http(s) URL, bytes, a binary file object, an array or tensor of frames
    `[T, H, W, 3]` or `[T, 3, H, W]` (uint8, or floats in 0 … 1), or a list of frames: images, arrays, or paths of image
    files within a nested list. A list of any of these is a batch. Frames are sampled from all of them alike;
    `do_sample_frames=False` takes every frame.

    The output has one row for each view: `[B * num_views * num_spatial_views, T, 3, H, W]`, the views of a video next
    to each other, spatial views innermost.
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
    num_frames = 8
    sampling = "uniform"
    frame_stride = 16
    num_views = 1
    num_spatial_views = 1
    antialias = True
    decoder = "auto"
    seed = None
    valid_kwargs = VitaClipVideoProcessorKwargs
    model_input_names = ["pixel_values_videos"]

    def __init__(self, **kwargs: Unpack[VitaClipVideoProcessorKwargs]):
        super().__init__(**kwargs)
        self._check_choices(self.sampling, self.num_spatial_views, self.fps)

    @staticmethod
    def _check_choices(sampling: str, num_spatial_views: int, fps: float | None) -> None:
        if sampling not in SAMPLINGS:
            raise ValueError(f"`sampling` must be one of {', '.join(SAMPLINGS)}, got {sampling!r}.")
        if num_spatial_views not in (1, 3):
            raise ValueError(f"`num_spatial_views` must be 1 (centre) or 3, got {num_spatial_views}.")
        if fps is not None:
            raise ValueError("`fps` is not a rule of this processor; choose `sampling`, `num_frames`, `frame_stride`.")

    def preprocess(self, videos, **kwargs: Unpack[VitaClipVideoProcessorKwargs]) -> BatchFeature:
        """
        Args:
            videos: one video or a list of them, see the class.

        Returns:
            `pixel_values_videos`, and `video_metadata` (one a video) with `return_metadata=True`.

        Raises:
            VideoDecodingError: a source that cannot be read.
            TypeError, ValueError: something that is no video, or an unknown choice.
        """
        validate_typed_dict(self.valid_kwargs, kwargs)
        chosen = {name: kwargs.pop(name, None) for name in SAMPLING_ARGUMENTS}
        chosen = {name: getattr(self, name, None) if value is None else value for name, value in chosen.items()}
        self._check_choices(chosen["sampling"], chosen["num_spatial_views"], kwargs.get("fps", self.fps))
        do_rescale = self.do_rescale if kwargs.get("do_rescale") is None else kwargs["do_rescale"]
        given = kwargs.pop("video_metadata", None)
        sources = batch_of_videos(videos)
        if not isinstance(given, (list, tuple)):
            given = [given] * len(sources) if given is None else [given]
        if len(given) != len(sources):
            raise ValueError(f"`video_metadata` describes {len(given)} videos, but there are {len(sources)}.")
        clips, metadata = [], []
        for index, source in enumerate(sources):
            seed = None if chosen["seed"] is None else chosen["seed"] + index
            views, about = self._load_views(source, chosen | {"seed": seed}, given[index], scale=do_rescale)
            clips.extend(views)
            metadata.append(about)
        batch = super().preprocess(
            clips,
            do_sample_frames=False,
            input_data_format=ChannelDimension.FIRST,
            num_spatial_views=chosen["num_spatial_views"],
            antialias=chosen["antialias"],
            **kwargs,
        )
        if "video_metadata" in batch:
            batch["video_metadata"] = metadata
        return batch

    def _load_views(self, source, chosen: dict, given, scale: bool) -> tuple[list[torch.Tensor], VideoMetadata]:
        """The temporal views of one video, each `[T, 3, H, W]`."""
        clips: list[list[int]] = []

        def sample_indices(metadata: VideoMetadata, **kwargs) -> list[int]:
            if chosen["do_sample_frames"]:
                rule = (chosen["sampling"], chosen["frame_stride"], chosen["num_views"], chosen["seed"])
                clips[:] = sample_clips(metadata.total_num_frames, chosen["num_frames"], *rule)
            else:
                clips[:] = [list(range(metadata.total_num_frames))] * chosen["num_views"]
            return sorted({index for clip in clips for index in clip})

        if is_encoded(source):
            pictures, metadata = decode_video(source, sample_indices, decoder=chosen["decoder"])
            frames = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        else:
            frames = to_frames(source, chosen["input_data_format"], scale)
            metadata = VideoMetadata(**({"total_num_frames": len(frames)} | dict(given or {})))
            metadata.total_num_frames = len(frames)
            metadata.width, metadata.height = frames.shape[-1], frames.shape[-2]
            frames = frames[sample_indices(metadata)]
        # Views overlap: each frame is decoded once and looked up here.
        row = {index: position for position, index in enumerate(sorted({i for clip in clips for i in clip}))}
        metadata.frames_indices = [index for clip in clips for index in clip]
        return [frames[[row[index] for index in clip]] for clip in clips], metadata

    def _preprocess(
        self,
        videos: list[torch.Tensor],
        do_resize: bool,
        size: SizeDict,
        resample,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float] | None,
        image_std: float | list[float] | None,
        num_spatial_views: int = 1,
        antialias: bool = True,
        return_tensors: str | TensorType | None = None,
        **kwargs,
    ) -> BatchFeature:
        rows = []
        for video in videos:
            if do_resize:
                video = self.resize(video, size=size, resample=resample, antialias=antialias)
            if num_spatial_views == 3:
                crops = three_crops(video, crop_size)
            else:
                crops = [self.center_crop(video, crop_size) if do_center_crop else video]
            for crop in crops:
                rows.append(
                    self.rescale_and_normalize(
                        crop, do_rescale, rescale_factor, do_normalize, image_mean, image_std
                    ).contiguous()
                )
        shapes = sorted({tuple(row.shape) for row in rows})
        if return_tensors is not None and len(shapes) > 1:
            raise ValueError(
                f"These videos do not make one batch, their clips differ in shape: {', '.join(map(str, shapes))}. "
                "Sample a fixed number of frames and crop, or process them one by one."
            )
        return BatchFeature(data={"pixel_values_videos": rows}, tensor_type=return_tensors)


def three_crops(video: torch.Tensor, crop_size: SizeDict) -> list[torch.Tensor]:
    """Crops at the beginning, the centre and the end of the longer side of `[T, 3, H, W]`."""
    height, width = video.shape[-2:]
    if height < crop_size.height or width < crop_size.width:
        raise ValueError(
            f"Frames of {height} x {width} are smaller than the crop, {crop_size.height} x {crop_size.width}."
        )
    room_down, room_right = height - crop_size.height, width - crop_size.width
    corners = [(room_down * third // 2, room_right * third // 2) for third in range(3)]
    if height > width:
        corners = [(top, room_right // 2) for top, _ in corners]
    else:
        corners = [(room_down // 2, left) for _, left in corners]
    return [video[..., top : top + crop_size.height, left : left + crop_size.width] for top, left in corners]


def is_encoded(source) -> bool:
    """Whether the decoder has to read it: a path, a URL, bytes or a file object."""
    return isinstance(source, (str, Path, bytes, bytearray, memoryview)) or callable(getattr(source, "read", None))


def is_frame(item) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim in (2, 3))


def is_single_video(videos) -> bool:
    """Whether this is one video: an encoded one, an array `[T, …]`, or a list of frames."""
    if is_encoded(videos):
        return True
    if isinstance(videos, (np.ndarray, torch.Tensor)):
        return videos.ndim == 4
    return isinstance(videos, (list, tuple)) and len(videos) > 0 and all(is_frame(item) for item in videos)


def batch_of_videos(videos) -> list:
    """One video, or a list of them, as a list of videos."""
    if is_single_video(videos):
        return [videos]
    if isinstance(videos, (np.ndarray, torch.Tensor)) and videos.ndim == 5:
        return list(videos)
    if isinstance(videos, (list, tuple)) and len(videos) and not any(is_frame(item) for item in videos):
        return [_one_video(item) for item in videos]
    raise TypeError(
        "Expected a video or a list of videos: paths, URLs, bytes, file objects, arrays [T, H, W, 3], or lists of "
        f"frames; got {_describe(videos)}."
    )


def _one_video(item):
    image_files = isinstance(item, (list, tuple)) and item and all(isinstance(part, (str, Path)) for part in item)
    if is_single_video(item) or image_files:
        return item
    raise TypeError(f"Expected a video within the list of videos, got {_describe(item)}.")


def _describe(item) -> str:
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return f"an array of shape {list(item.shape)}"
    if isinstance(item, (list, tuple)):
        return f"a {type(item).__name__} of {', '.join(sorted({type(part).__name__ for part in item})) or 'nothing'}"
    return type(item).__name__


def to_frames(video, layout: str | ChannelDimension | None = None, scale: bool = True) -> torch.Tensor:
    """Frames that are already there as one tensor `[T, 3, H, W]`, uint8 or float32.

    Args:
        video: array or tensor `[T, H, W, C]` or `[T, C, H, W]`, or a list of images, arrays or image files.
        layout: where the channels are (`"channels_first"` or `"channels_last"`), if the shape does not tell.
        scale: whether floats, which lie in 0 … 1, become 0 … 255 as uint8 frames are.
    """
    if isinstance(video, (list, tuple)):
        frames = [_image_to_frame(frame, layout, scale) for frame in video]
        if len({frame.shape for frame in frames}) > 1:
            sizes = ", ".join(sorted({f"{frame.shape[-2]} x {frame.shape[-1]}" for frame in frames}))
            raise ValueError(f"All frames of a video must have one size, got {sizes}.")
        return torch.stack(frames)
    return _to_rgb(_to_tensor(video), layout, scale)


def _to_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array.detach()


def _image_to_frame(image, layout, scale: bool) -> torch.Tensor:
    if isinstance(image, (str, Path)):
        image = load_image(str(image))
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    array = _to_tensor(image)
    if array.ndim == 2:
        array, layout = array[None], ChannelDimension.FIRST
    return _to_rgb(array[None], layout, scale)[0]


def _to_rgb(frames: torch.Tensor, layout, scale: bool) -> torch.Tensor:
    """`[T, H, W, C]` or `[T, C, H, W]` with 1, 3 or 4 channels to `[T, 3, H, W]`."""
    if 0 in frames.shape:
        raise ValueError(f"A video needs at least one frame, got an array of shape {list(frames.shape)}.")
    if layout is None:
        layout = ChannelDimension.LAST if frames.shape[-1] in (1, 3, 4) else ChannelDimension.FIRST
    if ChannelDimension(layout) == ChannelDimension.LAST:
        frames = frames.permute(0, 3, 1, 2)
    if frames.shape[1] not in (1, 3, 4):
        raise ValueError(f"Frames must have 1, 3 or 4 channels, first or last; got the shape {list(frames.shape)}.")
    frames = frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]
    if frames.dtype == torch.uint8:
        return frames
    if frames.dtype == torch.bool:
        raise TypeError("Frames of booleans are no pictures; give uint8, or floats in 0 … 1.")
    if not frames.is_floating_point():
        frames = frames.to(torch.int64)
        if frames.min() < 0 or frames.max() > 255:
            found = f"{int(frames.min())} … {int(frames.max())}"
            raise ValueError(f"Whole-number frames must lie in 0 … 255, got {found}.")
        return frames.to(torch.uint8)
    low, high = float(frames.min()), float(frames.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"Floating-point frames must lie in 0 … 1, got {low:.3g} … {high:.3g}; normalising comes later."
        )
    return frames.float() * 255 if scale else frames.float()


__all__ = ["VitaClipVideoProcessor"]
