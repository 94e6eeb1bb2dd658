"""Segments of a video, and their files for other tools: JSON, CSV, subtitles, and timelines of editing programs."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..data.output_files import csv_text, replace_file, storable
from ..model.shown_names import one_line
from .moments import clock, write_page


SRT_TAGS = str.maketrans("<>{}", "‹›()")  # SRT cannot escape the signs of its tags


@dataclass(frozen=True)
class Segment:
    """
    A stretch of a video with a label.

    Attributes:
        start, end (`float`): seconds.
        label (`str`): what it shows.
        score (`float`): mean score over the segment.
        cosine (`float`): mean cosine over the segment.
    """

    start: float
    end: float
    label: str
    score: float
    cosine: float


def write_json(path: Path, segments: Sequence[Segment], source: str, **media: Any) -> None:
    """In the form that ActivityNet's evaluation reads."""
    rows = [
        {
            "label": segment.label,
            "score": round(segment.score, 6),
            "cosine": round(segment.cosine, 6),
            "segment": [round(segment.start, 3), round(segment.end, 3)],
        }
        for segment in segments
    ]
    results = {"results": {Path(source).stem: rows}, "external_data": {"used": False, "details": ""}}
    text = json.dumps({"version": "VERSION 1.3"} | results, indent=1, ensure_ascii=False)
    path.write_text(storable(text) + "\n", encoding="utf-8")


def write_csv(path: Path, segments: Sequence[Segment], source: str, **media: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("start", "end", "label", "score", "cosine"))
        for segment in segments:
            times = (f"{segment.start:.3f}", f"{segment.end:.3f}")
            writer.writerow((*times, csv_text(segment.label), f"{segment.score:.6f}", f"{segment.cosine:.6f}"))


def write_subtitles(path: Path, segments: Sequence[Segment], source: str, **media: Any) -> None:
    """WebVTT, or SRT with numbers and commas."""
    is_vtt = path.suffix.lower() == ".vtt"
    cues, decimal = (["WEBVTT\n"], ".") if is_vtt else ([], ",")
    for number, segment in enumerate(segments, start=1):
        label = one_line(segment.label)
        label = escape(label, quote=False) if is_vtt else label.translate(SRT_TAGS)
        times = f"{clock(segment.start, 3, decimal)} --> {clock(segment.end, 3, decimal)}"
        cue = f"{times}\n{label} ({segment.score:.0%})\n"
        cues.append(cue if is_vtt else f"{number}\n{cue}")
    path.write_text("\n".join(cues), encoding="utf-8")


def write_edit(path: Path, segments: Sequence[Segment], source: str, **media: Any) -> None:
    """
    An OpenTimelineIO timeline: the video as one clip, with a marker for each segment; or an EDL: a cut list, where each
    segment is a clip with its label as marker, at its place in the video.

    An EDL is in the nearest frame rate that has a time code: 16 frames a second have none. Times in seconds stay. The
    video's own time code is that of its first frame.
    """
    import opentimelineio as otio

    rate, options, name = media["fps"] or 25.0, {}, storable(Path(source).name)
    if path.suffix.lower() == ".edl":
        rate = otio.opentime.RationalTime.nearest_valid_timecode_rate(rate) or 25.0  # 0 where none is near
        options = {"adapter_name": "cmx_3600", "rate": rate}

    zero = otio.opentime.RationalTime(0, rate)
    if code := re.fullmatch(r"(\d\d):(\d\d):(\d\d)[:;](\d\d)", media["timecode"] or ""):
        if ";" in code[0] and otio.opentime.RationalTime.is_valid_timecode_rate(rate):  # leaves out numbers of frames
            zero = otio.opentime.from_timecode(code[0], rate)
        else:
            hours, minutes, seconds, frames = map(int, code.groups())
            zero = otio.opentime.RationalTime(((hours * 60 + minutes) * 60 + seconds) * round(rate) + frames, rate)

    def span(start: float, end: float) -> Any:
        first, length = round(start * rate), max(round(end * rate) - round(start * rate), 1)
        first_time = zero + otio.opentime.RationalTime(first, rate)
        return otio.opentime.TimeRange(first_time, otio.opentime.RationalTime(length, rate))

    whole = span(0, max((end for end in (media["end"], *(one.end for one in segments)) if end), default=1.0))
    url = source if "://" in source else Path(source).absolute().as_uri()
    reference = otio.schema.ExternalReference(target_url=url, available_range=whole)

    def clip_of(part: Any) -> Any:
        return otio.schema.Clip(name=name, media_reference=reference.clone(), source_range=part)

    whole_clip, cuts, end = clip_of(whole), [], whole.start_time
    colors = ("BLUE", "GREEN", "ORANGE", "MAGENTA", "CYAN", "YELLOW", "RED")
    labels = list(dict.fromkeys(segment.label for segment in segments))
    for segment in segments:
        marker = otio.schema.Marker(
            name=one_line(segment.label),
            marked_range=span(segment.start, segment.end),
            color=colors[labels.index(segment.label) % len(colors)],
            metadata={"vitaclip": {"score": segment.score, "cosine": segment.cosine}},
        )
        if options:
            part = marker.marked_range
            if part.start_time < end:
                raise ValueError("`segments` overlap; an EDL holds one event after another. Write an .otio file.")
            if part.start_time > end:
                cuts.append(otio.schema.Gap(duration=part.start_time - end))
            cuts.append(clip_of(part))
            end = part.end_time_exclusive()
        (cuts[-1] if cuts else whole_clip).markers.append(marker)
    timeline = otio.schema.Timeline(name=Path(name).stem)
    timeline.tracks.append(
        otio.schema.Track(name="video", kind=otio.schema.TrackKind.Video, children=cuts or [whole_clip])
    )
    text = otio.adapters.write_to_string(timeline, **{"adapter_name": "otio_json"} | options)
    path.write_text(text, encoding="utf-8")  # opentimelineio opens no path that is not UTF-8


def write_players(path: Path, segments: Sequence[Segment], source: str, **media: Any) -> None:
    rows = [(source, segment.start, segment.end, segment.label, f"{segment.score:.0%}") for segment in segments]
    write_page(path, Path(source).name, rows)


WRITERS: dict[str, Callable[..., None]] = {
    ".json": write_json,
    ".csv": write_csv,
    **dict.fromkeys((".vtt", ".srt"), write_subtitles),
    ".html": write_players,
    **dict.fromkeys((".otio", ".edl"), write_edit),
}


def write_timeline(
    path: str | Path,
    segments: Sequence[Segment],
    source: str | Path,
    fps: float | None = None,
    timecode: str | None = None,
    end: float | None = None,
) -> None:
    """
    Writes segments in the format that the file's ending names.

    Args:
        path: `.json` (ActivityNet's form), `.csv`, `.vtt`, `.srt`, `.html`, `.otio` or `.edl`. The last two
            need opentimelineio, EDL its adapter too (`pip install 'vitaclip_hf[timeline]'`).
        segments ([`Segment`]): in any order; they are written by start.
        source: the video, a path or a URL.
        fps (`float`, *optional*): its frame rate, by which editing programs count.
        end (`float`, *optional*): when it ends, in seconds; by default with the last segment.
        timecode (`str`, *optional*): its own time code, of its first frame: `"01:00:00:00"`.

    Raises:
        ValueError: another ending, or segments that overlap for an EDL.
        ImportError: opentimelineio is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"`path` {path}: the name must end in {', '.join(WRITERS)}.")
    writer = WRITERS[path.suffix.lower()]
    ordered = sorted(segments, key=lambda segment: (segment.start, segment.end))
    replace_file(path, lambda beside: writer(beside, ordered, str(source), fps=fps, timecode=timecode, end=end))
