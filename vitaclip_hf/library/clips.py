"""Moments of videos cut out as files."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from ..model.containers import opened_container
from ..model.decoding import open_video
from .windows import MOMENT


NEAR = 0.1  # seconds between a keyframe and the start of a moment, at most, for a copy
COLORS = ("color_range", "colorspace", "color_primaries", "color_trc", "sample_aspect_ratio")


def write_clips(folder: str | Path, moments: Iterable[tuple[Any, float, float, str]]) -> Iterator[tuple[Path, str]]:
    """
    Cuts moments out as files `001 label.mp4`, with their sound.

    MP4 and QuickTime keep their format, other videos become Matroska. Where a keyframe lies within a tenth of a second
    of the start, the data is copied; else the pictures are encoded anew as H.264. Of a video whose stamps begin anew,
    leave out an hour or are missing, or whose keyframes are rare, the pictures are cut without sound.

    Args:
        folder: where to; made if missing.
        moments: of each the video (a path or URL), start and end in seconds, and its label.

    Yields:
        The path of each file, and `"copied"` or `"re-encoded"`.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    opened = lru_cache(1)(open_video)
    for number, (source, start, end, label) in enumerate(moments, start=1):
        ending = Path(str(source)).suffix.lower()
        name = re.sub(r"[^\w.-]+", " ", label).strip()[:80]
        path = Path(folder, f"{number:03d} {name}{ending if ending in ('.mp4', '.mov', '.m4v') else '.mkv'}")
        yield path, _write_clip(path, opened(source), start - MOMENT, end - MOMENT)


def _write_clip(path: Path, reader: Any, start: float, end: float) -> str:
    import av

    opened = opened_container(reader.name, reader._video, None)
    with opened as (container, video), av.open(str(path), "w") as output:
        sample = next(container.decode(video))  # knows what is stored with frames, such as their rotation
        zero = max(container.start_time or 0, 0) / av.time_base
        finds_keyframes = not {"mov", "matroska"}.isdisjoint(container.format.name.split(","))
        packets: Any = container.demux(video, *container.streams.audio)
        first = None
        if reader.has_plain_stamps:
            place = zero + start + NEAR if finds_keyframes else max(start - 10, 0)
            with suppress(av.error.FFmpegError):  # of a file that marks no keyframes
                container.seek(round(place * av.time_base))
                first = next((packet for packet in packets if packet.stream is video and packet.is_keyframe), None)
        if first is None or _time(first) > zero + start + NEAR:  # all pictures as the reader has them
            stream = _encoder(output, video, sample)
            for frame in reader.frames():
                if start <= frame.time < end:
                    output.mux(_encoded(stream, frame.picture.args[0], frame.time - start))
            output.mux(stream.encode())
            return "re-encoded"
        start, end = zero + start, zero + end
        copies = finds_keyframes and abs(_time(first) - start) <= NEAR
        start = _time(first) if copies else start
        streams = {video.index: output.add_stream_from_template(video) if copies else _encoder(output, video, sample)}
        streams |= {sound.index: output.add_stream_from_template(sound) for sound in container.streams.audio}
        is_over = False  # a frame or, of a copy, a keyframe after the end has come
        for packet in chain([first], packets):
            stream, is_video, has_time = streams[packet.stream.index], packet.stream is video, packet.dts is not None
            if has_time and _time(packet) > end + 1 and is_over:  # sound may come later than its pictures
                break
            is_over |= copies and is_video and packet.is_keyframe and _time(packet) >= end
            if is_video and not copies:
                for frame in packet.decode():
                    is_over |= frame.time >= end
                    if start <= frame.time < end:
                        output.mux(_encoded(stream, frame, frame.time - start))
            elif (
                has_time
                and start <= _time(packet)
                and packet.dts * packet.time_base < end
                and not (is_video and is_over)
            ):
                shift = round(start / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                output.mux(packet)
        if not copies:
            output.mux(streams[video.index].encode())
    return "copied" if copies else "re-encoded"


def _encoded(stream: Any, frame: Any, seconds: float) -> Any:
    """The packets of a frame at its place in the clip."""
    frame = frame.reformat(stream.width, stream.height, stream.pix_fmt)
    frame.pts = round(seconds / frame.time_base)
    return stream.encode(frame)


def _time(packet: Any) -> float:
    return float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)


def _encoder(output: Any, video: Any, frame: Any) -> Any:
    """A stream of H.264 for frames like this one."""
    stream = output.add_stream("libx264", rate=video.guessed_rate or 25, options={"crf": "18"})
    stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
    stream.pix_fmt = "yuv420p10le" if "10" in frame.format.name else "yuv420p"
    stream.time_base = stream.codec_context.time_base = frame.time_base
    for name in COLORS:
        if (value := getattr(video.codec_context, name)) is not None:
            setattr(stream.codec_context, name, value)
    if frame.rotation:
        stream.set_display_rotation(frame.rotation)
    return stream
