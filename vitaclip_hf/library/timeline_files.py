"""Segments as files that other tools read: JSON, CSV, subtitles, and timelines of editing programs."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..data.output_files import replace_file, storable
from .timeline import Segment


def activitynet_form(segments: Sequence[Segment], video: str) -> dict[str, Any]:
    """
    Results as ActivityNet's evaluation reads them.

    Args:
        segments ([`Segment`]): the segments.
        video (`str`): the video's name in the results.
    """
    rows = [
        {
            "label": segment.label,
            "score": round(segment.score, 6),
            "cosine": round(segment.cosine, 6),
            "segment": [round(segment.start, 3), round(segment.end, 3)],
        }
        for segment in segments
    ]
    return {"version": "VERSION 1.3", "results": {video: rows}, "external_data": {"used": False, "details": ""}}


def clock(seconds: float, decimal: str = ".") -> str:
    """`"01:02:03.456"`, as subtitles write times."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    whole, thousandths = divmod(milliseconds, 1000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{whole:02d}{decimal}{thousandths:03d}"


def write_json_segments(path: Path, segments: Sequence[Segment], source: Path, fps: float | None) -> None:
    content = activitynet_form(segments, source.stem)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(storable(text) + "\n", encoding="utf-8")


def write_csv(path: Path, segments: Sequence[Segment], source: Path, fps: float | None) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("start", "end", "label", "score", "cosine"))
        for segment in segments:
            times = (f"{segment.start:.3f}", f"{segment.end:.3f}")
            writer.writerow((*times, segment.label, f"{segment.score:.6f}", f"{segment.cosine:.6f}"))


def write_vtt(path: Path, segments: Sequence[Segment], source: Path, fps: float | None) -> None:
    cues = ["WEBVTT\n"]
    for segment in segments:
        label = one_line(segment.label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{clock(segment.start)} --> {clock(segment.end)}\n{label} ({segment.score:.0%})\n")
    path.write_text("\n".join(cues), encoding="utf-8")


def write_srt(path: Path, segments: Sequence[Segment], source: Path, fps: float | None) -> None:
    cues = [
        f"{number}\n{clock(segment.start, ',')} --> {clock(segment.end, ',')}\n"
        f"{one_line(segment.label)} ({segment.score:.0%})\n"
        for number, segment in enumerate(segments, start=1)
    ]
    path.write_text("\n".join(cues), encoding="utf-8")


def one_line(text: str) -> str:
    return " ".join(text.split())


def opentimelineio_timeline(segments: Sequence[Segment], source: Path, fps: float, duration: float) -> Any:
    """
    An OpenTimelineIO timeline: the video as one clip, with a marker for each segment.

    Args:
        segments ([`Segment`]): the segments.
        source (`Path`): the video file.
        fps (`float`): its frame rate.
        duration (`float`): its length in seconds.

    Returns:
        `opentimelineio.schema.Timeline`
    """
    import opentimelineio as otio

    def span(start: float, end: float) -> Any:
        first = otio.opentime.RationalTime(round(start * fps), fps)
        return otio.opentime.TimeRange(first, otio.opentime.RationalTime(max(round(end * fps) - first.value, 1), fps))

    whole = span(0, duration)
    media = otio.schema.ExternalReference(target_url=source.absolute().as_uri(), available_range=whole)
    clip = otio.schema.Clip(name=source.name, media_reference=media, source_range=whole)
    colors = otio.schema.MarkerColor
    palette = [colors.BLUE, colors.GREEN, colors.ORANGE, colors.MAGENTA, colors.CYAN, colors.YELLOW, colors.RED]
    labels = list(dict.fromkeys(segment.label for segment in segments))
    for segment in segments:
        marker = otio.schema.Marker(
            name=one_line(segment.label),
            marked_range=span(segment.start, segment.end),
            color=palette[labels.index(segment.label) % len(palette)],
            metadata={"vitaclip": {"score": segment.score, "cosine": segment.cosine}},
        )
        clip.markers.append(marker)
    timeline = otio.schema.Timeline(name=source.stem)
    track = otio.schema.Track(name="video", kind=otio.schema.TrackKind.Video)
    track.append(clip)
    timeline.tracks.append(track)
    return timeline


def write_otio(path: Path, segments: Sequence[Segment], source: Path, fps: float | None) -> None:
    import opentimelineio as otio

    end = max((segment.end for segment in segments), default=1.0)
    otio.adapters.write_to_file(opentimelineio_timeline(segments, source, fps or 25.0, end), str(path))


def write_edl(path: Path, segments: Sequence[Segment], source: Path, fps: float | None) -> None:
    """In the nearest frame rate that has a time code: 16 frames a second have none. Times in seconds stay."""
    import opentimelineio as otio

    rate = otio.opentime.RationalTime.nearest_valid_timecode_rate(fps or 25.0) or 25.0  # 0 where none is near
    end = max((segment.end for segment in segments), default=1.0)
    timeline = opentimelineio_timeline(segments, source, rate, end)
    otio.adapters.write_to_file(timeline, str(path), adapter_name="cmx_3600", rate=rate)


WRITERS: dict[str, Callable[[Path, Sequence[Segment], Path, float | None], None]] = {
    ".json": write_json_segments,
    ".csv": write_csv,
    ".vtt": write_vtt,
    ".srt": write_srt,
    ".otio": write_otio,
    ".edl": write_edl,
}


def write_timeline(path: str | Path, segments: Sequence[Segment], source: str | Path, fps: float | None = None) -> None:
    """
    Writes segments in the format that the file's ending names.

    Args:
        path: `.json` (ActivityNet's form), `.csv`, `.vtt`, `.srt`, `.otio` or `.edl`. The last two need
            opentimelineio, EDL its adapter too (`pip install 'vitaclip_hf[timeline]'`).
        segments ([`Segment`]): in any order; they are written by start.
        source: the video.
        fps (`float`, *optional*): its frame rate, by which editing programs count.

    Raises:
        ValueError: another ending.
        ImportError: opentimelineio is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"`path` {path}: the name must end in {', '.join(WRITERS)}.")
    ordered = sorted(segments, key=lambda segment: (segment.start, segment.end))
    replace_file(path, lambda beside: WRITERS[path.suffix.lower()](beside, ordered, Path(source), fps))
