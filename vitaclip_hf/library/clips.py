"""Moments of videos cut out as files."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..data.output_files import replace_file
from ..model.containers import opened_container
from ..model.decoding import open_video
from ..model.read_options import ReadOptions
from ..model.sources import VideoDecodingError
from .windows import MOMENT


NEAR = 0.1  # seconds between a keyframe and the start of a moment, at most, for a copy
UNIT = Fraction(1, 90_000)  # of the stamps of frames that are encoded
COLORS = ("color_range", "colorspace", "color_primaries", "color_trc")


def write_clips(
    folder: str | Path, moments: Iterable[tuple[Any, float, float, str]], options: ReadOptions | None = None
) -> Iterator[tuple[Path, str]]:
    """
    Cuts moments out as files `001 label.mp4`, with their sound.

    MP4, QuickTime and 3GP keep their format, other videos become Matroska. Where a keyframe lies within a tenth of a
    second of the start, the data is copied; else the pictures are encoded anew as H.264. Of a video whose stamps begin
    anew, leave out an hour or are missing, or whose keyframes are rare, or of which damaged frames are left out, the
    pictures are cut without sound; so are those whose sound the format cannot hold.

    Args:
        folder: where to; made if missing.
        moments: of each the video (a path or URL), start and end in seconds, and its label.
        options ([`ReadOptions`], *optional*): how the videos are read; clips have no time limit.

    Yields:
        The path of each file, and `"copied"` or `"re-encoded"`.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    options = replace(options or ReadOptions(), max_seconds=None)
    opened = lru_cache(1)(partial(open_video, options=options))
    for number, (source, start, end, label) in enumerate(moments, start=1):
        ending = Path(urlsplit(str(source)).path if "://" in str(source) else str(source)).suffix.lower()
        name = re.sub(r"[^\w.-]+", " ", label).strip()[:80]
        path = Path(folder, f"{number:03d} {name}{ending if ending in ('.mp4', '.mov', '.m4v', '.3gp') else '.mkv'}")
        how = _write_whole(path, opened(source), start - MOMENT, end - MOMENT)
        yield path, how


def _write_whole(path: Path, *moment: Any) -> str:
    """Nothing is left of a clip that was stopped."""
    how = []

    def write(file: Path) -> None:
        try:
            how.append(_write_clip(file, *moment))
        except VideoDecodingError as error:
            cause: Any = error.cause
            if getattr(cause, "filename", None) == str(file):  # the video is not at fault
                raise cause from error
            raise

    replace_file(path, write)
    return how[0]


def _write_clip(path: Path, reader: Any, start: float, end: float) -> str:
    import av

    opened = opened_container(reader.name, reader.video, None)
    kind = "mp4" if path.suffix == ".m4v" else None  # FFmpeg's own choice for .m4v takes few codecs
    with av.open(str(path), "w", kind) as output, opened as (container, video):
        sample = next(reader.frames()).picture.args[0]  # knows what is stored with frames, such as their rotation
        zero = max(container.start_time or 0, 0) / av.time_base
        finds_keyframes = not {"mov", "matroska"}.isdisjoint(container.format.name.split(","))
        packets: Any = container.demux(video, *container.streams.audio)
        first = None
        if reader.has_plain_stamps and not reader.metadata.frames_left_out:
            # Where each picture is a keyframe, the last one near the start is not the first of the moment.
            for place in (zero + start + 2 * MOMENT, zero + start + NEAR) if finds_keyframes else (max(start - 10, 0),):
                with suppress(av.error.FFmpegError):  # of a file that marks no keyframes
                    container.seek(round(place * av.time_base))
                    first = next((packet for packet in packets if packet.stream is video and packet.is_keyframe), None)
                if first is not None and abs(_time(first) - zero - start) <= NEAR:
                    break
        if first is None or _time(first) > zero + start + NEAR:  # all pictures as the reader has them
            encoder: Any = _Encoder(output, video, sample)
            for frame in takewhile(lambda frame: frame.time < end, reader.frames()):
                encoder.write(frame.picture.args[0], frame.time - start, end - start)
            encoder.close()
            return "re-encoded"
        start, end = zero + start, zero + end
        copies = finds_keyframes and abs(_time(first) - start) <= NEAR
        start = _time(first) if copies else start
        encoder = None if copies else _Encoder(output, video, sample)
        streams = {video.index: encoder.stream if encoder else output.add_stream_from_template(video, opaque=True)}
        if video.sample_aspect_ratio:  # the container's, too
            streams[video.index].codec_context.sample_aspect_ratio = video.sample_aspect_ratio
        for sound in container.streams.audio:
            with suppress(ValueError):  # sound that this format cannot hold
                streams[sound.index] = output.add_stream_from_template(sound)
        is_over = False  # a frame or, of a copy, a keyframe after the end has come
        latest = first.pts if first.dts is None else first.dts
        for packet in chain([first], packets):
            stream, is_video = streams.get(packet.stream.index), packet.stream is video
            if copies and is_video and packet.pts is not None:  # Matroska's first pictures have no time of decoding
                packet.dts = latest = max(latest, latest if packet.dts is None else packet.dts)
            has_time = packet.dts is not None
            if has_time and _time(packet) > end + 1 and is_over:  # sound may come later than its pictures
                break
            is_over |= copies and is_video and packet.is_keyframe and _time(packet) >= end
            if is_video and encoder:
                for frame in packet.decode():
                    is_over |= frame.time >= end
                    encoder.write(frame, frame.time - start, end - start)
            elif (
                stream is not None
                and has_time
                and start <= _time(packet)
                and packet.dts * packet.time_base < end
                and not (is_video and is_over)
            ):
                shift = round(start / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                output.mux(packet)
        if encoder:
            encoder.close()
    return "copied" if copies else "re-encoded"


def _time(packet: Any) -> float:
    return float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)


class _Encoder:
    """Writes frames like this one as H.264."""

    def __init__(self, output: Any, video: Any, frame: Any):
        rate = video.guessed_rate
        self.output, self.latest, self.held = output, -1, None
        self.stream = stream = output.add_stream(
            "libx264", rate=rate if rate and 1 <= rate <= 1000 else 25, options={"crf": "18"}
        )
        stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
        stream.pix_fmt = "yuv420p10le" if frame.format.components[0].bits > 8 else "yuv420p"
        stream.time_base = stream.codec_context.time_base = UNIT
        for name in COLORS:
            if (value := getattr(video.codec_context, name)) is not None:
                setattr(stream.codec_context, name, value)
        if video.sample_aspect_ratio:  # the container's, too
            stream.codec_context.sample_aspect_ratio = video.sample_aspect_ratio
        if (matrix := frame.side_data.get("DISPLAYMATRIX")) is not None:
            a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
            mirrored = a * d < b * c
            stream.set_display_rotation(180 - frame.rotation if mirrored else frame.rotation, hflip=mirrored)

    def write(self, frame: Any, seconds: float, length: float = 1) -> None:
        """Writes a frame that begins in the moment; one before it is for a moment in which none begins."""
        self.held = frame if seconds < 0 else self.held
        if 0 <= seconds < length:
            frame = frame.reformat(self.stream.width, self.stream.height, self.stream.pix_fmt)
            self.latest = max(round(seconds / UNIT), self.latest + 1)  # formats take no stamp twice
            frame.pts, frame.time_base = self.latest, UNIT
            self.output.mux(self.stream.encode(frame))

    def close(self) -> None:
        if self.latest < 0 and self.held is not None:
            self.write(self.held, 0)
        self.output.mux(self.stream.encode())
