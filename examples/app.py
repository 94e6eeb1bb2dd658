"""The page of `vitaclip demo`: classify a video, see what happens when, search a folder. Works offline."""

import base64
import io
import shutil
import sys
import tempfile
import time
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio_client.utils import is_http_url_like
from PIL import Image

from vitaclip_hf import Checkpoint
from vitaclip_hf.cli.inputs import find_videos
from vitaclip_hf.data.listings import VIDEO_EXTENSIONS
from vitaclip_hf.data.output_files import storable
from vitaclip_hf.data.video_writing import write_video
from vitaclip_hf.library.contact_sheet import middle_frame
from vitaclip_hf.library.embedding import embed_videos
from vitaclip_hf.library.figure import format_percent, format_times
from vitaclip_hf.library.store import FOLDER, VideoStore
from vitaclip_hf.library.timeline import Thumbnails, VideoTimeline
from vitaclip_hf.library.timeline_picture import MOST_LANES, thumbnail_row
from vitaclip_hf.library.windows import thumbnail_of
from vitaclip_hf.model.read_options import ReadOptions
from vitaclip_hf.model.sources import VideoDecodingError
from vitaclip_hf.server.limits import Limits


DEMO = Path(__file__).resolve().parent / "demo"  # in a clone
LONG_SAMPLE = "joined_scenes.mp4"
MOST_SECONDS = 600  # of a video
SHOWN_LABELS, SHOWN_HITS = 8, 6
QUERY_LENGTH = 300
START = "rocket_rising.mp4"
# By their names too: a browser may not know what an `IMG_0042.MOV` is.
UPLOADED = ["video", *VIDEO_EXTENSIONS]
# What a person gave cannot be used; the message says why.
UNUSABLE = (VideoDecodingError, OSError, ValueError)

CSS = """
.gradio-container {width: 100% !important; max-width: 1240px !important; margin: 0 auto !important}
#header h1 {font-size: 26px; font-weight: 650; margin: 0 0 2px; letter-spacing: -.01em}
#header p, .quiet {color: var(--body-text-color-subdued); margin: 0}
#status:not(:has(.panel)), #player .icon-button-wrapper:not(:has(*)) {display: none}
.gradio-container .block > .html-container {padding-left: 0; padding-right: 0}
#player video {background: #0b0d10; max-height: 340px}
.panel {--ink-bar: #0072b2; --other-bar: #9db7cb; --track: #eef1f4; font-size: 15px; line-height: 1.4}
.dark .panel {--ink-bar: #4aa8e0; --other-bar: #4a6478; --track: #2a2f36}
.panel h2 {font-size: 22px; font-weight: 650; margin: 0 0 2px; overflow-wrap: anywhere}
.panel h3 {font-size: 13px; font-weight: 600; margin: 20px 0 8px; color: var(--body-text-color-subdued)}
.empty {border: 1px dashed var(--border-color-primary); border-radius: 8px; padding: 44px 20px; text-align: center;
        color: var(--body-text-color-subdued)}
.problem {border: 1px solid #d64545; border-left-width: 4px; border-radius: 8px; padding: 12px 16px;
          overflow-wrap: anywhere}
.problem b {color: #c02f2f} .dark .problem b {color: #ff8d8d}
.frames {display: grid; grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)); gap: 8px; margin: 0}
.frames figure, .hit figure {margin: 0}
.panel img {width: 100%; border-radius: 5px; display: block}
.frames figcaption {font-size: 12px; text-align: center; color: var(--body-text-color-subdued); padding-top: 3px}
.bars {display: grid; grid-template-columns: minmax(90px, max-content) 1fr max-content max-content; gap: 9px 14px;
       align-items: center}
.bars .row {display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; align-items: center}
.bars .bar {height: 14px; border-radius: 3px; background: var(--track)}
.bars .bar i {display: block; height: 100%; border-radius: 3px; min-width: 1px; background: var(--other-bar);
              width: calc(var(--score) * 100%)}
.bars .best {font-weight: 650} .bars .best + .bar i {background: var(--ink-bar)}
.panel button {font: inherit; font-weight: 400; background: none; border: 0}
.number {text-align: right; font-variant-numeric: tabular-nums} .small {font-size: 12px}
.time-line {display: grid; grid-template-columns: minmax(80px, max-content) 1fr; gap: 6px 14px; align-items: center}
.strip {display: flex; gap: 3px; overflow: hidden} .strip img {flex: 1 1 0; min-width: 0; width: 0}
.lane {position: relative; height: 34px; background: var(--track); border-radius: 4px; cursor: pointer;
       overflow: hidden}
.lane button, .lane i {position: absolute; left: calc(100% * var(--start) / var(--duration)); bottom: 0;
                       width: calc(100% * (var(--end) - var(--start)) / var(--duration))}
.panel .lane button {height: 100%; padding: 0; margin: 0; border-radius: 4px;
                     background: color-mix(in srgb, var(--ink-bar) 18%, transparent)}
.panel .lane button:hover, .lane button:focus-visible {background: color-mix(in srgb, var(--ink-bar) 40%, transparent);
                                                       outline: 2px solid var(--ink-bar); outline-offset: -2px}
.lane i {height: calc(var(--score) * 100%); background: var(--other-bar); pointer-events: none}
.lane i.in {background: var(--ink-bar)}
.ends {display: flex; justify-content: space-between; font-size: 12px; color: var(--body-text-color-subdued)}
.segments button {display: flex; gap: 14px; width: 100%; text-align: left; padding: 7px 10px; border-radius: 6px}
.segments button span:nth-child(1) {min-width: 56px} .segments button span:nth-child(2) {flex: 1}
.panel .segments button:hover, .panel .hit:hover {background: var(--background-fill-secondary)}
.hits {display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px}
.panel .hit {display: flex; flex-direction: column; text-align: left; padding: 8px; width: 100%; height: 100%;
             border: 1px solid var(--border-color-primary); border-radius: 8px}
.hit b {display: block; font-size: 13px; font-weight: 600; margin-top: 6px; overflow-wrap: anywhere}
@media (max-width: 600px) {
  .bars {grid-template-columns: 1fr max-content max-content; gap: 10px 12px} .bars .row {row-gap: 3px}
  .bars .bar {grid-column: 1 / -1; grid-row: 2}
  .hits {grid-template-columns: 1fr 1fr}
  .time-line {grid-template-columns: 1fr; gap: 3px} .time-line .name {margin-top: 6px} .corner {display: none}
}
"""

# A click on anything with a time tells the page which video and when.
JUMP = """
element.addEventListener('click', event => {
  const place = event.target.closest('[data-time]');
  if (!place) return;
  const time = Number(place.dataset.time), name = place.dataset.video;
  trigger('click', {time: time, video: name || ''});
  // A new video begins at 0: it is moved once it is loaded.
  const move = tries => {
    const video = document.querySelector('#player video');
    if (video && decodeURIComponent(video.src).endsWith('/' + name) && video.readyState >= 2) {
      setTimeout(() => { video.currentTime = time; }, 150);
    } else if (tries) setTimeout(() => move(tries - 1), 100);
  };
  if (name) setTimeout(() => move(100), 150);
});
"""


def uploaded_file(text: str, **settings: Any) -> gr.UploadButton:
    """
    An upload button that takes files only: gradio itself would download an address that a program sends.

    No subclass, since gradio writes a stub file beside the module of one.
    """
    button = gr.UploadButton(text, **settings)
    cached = button.async_move_resource_to_block_cache

    async def of_a_file(source: str | Path | None) -> str | None:
        if source is not None and is_http_url_like(str(source)):
            raise gr.Error("URLs are not read; upload the file.")
        return await cached(source)

    button.async_move_resource_to_block_cache = of_a_file
    return button


# Panels


def panel(content: str) -> str:
    return f'<div class="panel">{content}</div>'


def empty(text: str) -> str:
    return panel(f'<div class="empty">{escape(text)}</div>')


def problem(error: Exception | str, path: str | None = None) -> str:
    """One line that says what is wrong, without paths of this machine."""
    text = " ".join(str(error).split())[:600] or type(error).__name__
    if path is not None:
        text = text.replace(path, Path(path).name)
    return panel(f'<div class="problem" role="alert"><b>That did not work.</b><br>{escape(text)}</div>')


def picture(pixels: np.ndarray, about: str) -> str:
    """A picture `(height, width, 3)` within the page."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=88)
    return f'<img alt="{escape(about)}" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def answer_panel(answer: dict[str, Any], frames: dict[int, np.ndarray]) -> str:
    """The answer, the frames that were read with their times, and a bar for each of the best labels."""
    reason, numbers, times = answer.get("reason"), answer["frames"], answer["times"]
    found = f"<h2>{escape(answer['answer'])}</h2>"
    found += f'<p class="quiet">{escape(reason or "fits best of the labels you gave")}</p>'
    stamps = [f"frame {number}" for number in numbers] if times is None else format_times(times)
    figures = "".join(
        f"<figure>{picture(frames[number], stamp)}<figcaption>{stamp}</figcaption></figure>"
        for number, stamp in zip(numbers, stamps, strict=True)
    )
    rows = "".join(
        f'<div class="row"><span class="label {"" if place or reason else "best"}">{escape(row["label"])}</span>'
        f'<span class="bar" style="--score:{row["score"]:.4f}"><i></i></span>'
        f'<span class="number">{escape(format_percent(row["score"]))}</span>'
        f'<span class="number small quiet">cosine {row["cosine"]:.2f}</span></div>'
        for place, row in enumerate(answer["scores"][:SHOWN_LABELS])
    )
    count = len(answer["scores"])
    heading = "Scores" if count <= SHOWN_LABELS else f"Best {SHOWN_LABELS} of {count} labels"
    return panel(
        f'{found}<h3>Frames that were read</h3><div class="frames">{figures}</div>'
        f'<h3>{heading}</h3><div class="bars">{rows}</div>'
    )


def timeline_panel(segments: list[Any], labels: tuple[str, ...], cells: list[Any], thumbnails: Any, note: str) -> str:
    """Thumbnails along the time, a lane for each label with segments, and the segments as a list."""
    duration = cells[-1].end
    segments = sorted(segments, key=lambda segment: segment.start)
    shown = list(dict.fromkeys(segment.label for segment in segments))[:MOST_LANES]
    pictures = "".join(
        picture(thumbnail, f"at {time:.1f} s") for time, thumbnail in thumbnail_row(thumbnails, duration, 8)
    )
    lanes = ""
    for label in shown:
        column = labels.index(label)
        of_label = [segment for segment in segments if segment.label == label]
        parts = "".join(
            f'<button type="button" data-time="{segment.start:.3f}" style="--start:{segment.start};--end:{segment.end}"'
            f' aria-label="{escape(label)}, {segment.start:.1f} s"></button>'
            for segment in of_label
        )
        scores = "".join(
            f'<i{within(cell, of_label)} style="--start:{cell.start};--end:{cell.end};'
            f'--score:{cell.scores[column]:.4f}"></i>'
            for cell in cells
        )
        lanes += f'<span class="name">{escape(label)}</span><div class="lane">{parts}{scores}</div>'
    start, end = format_times([0.0, duration])
    begins = format_times([segment.start for segment in segments]) if segments else []
    rows = "".join(
        f'<button type="button" data-time="{segment.start:.3f}"><span class="number">{escape(begin)}</span>'
        f'<span>{escape(segment.label)}</span><span class="number quiet">{escape(format_percent(segment.score))}</span>'
        "</button>"
        for segment, begin in zip(segments, begins, strict=True)
    )
    heading = (
        f"<h2>{len(segments)} segment{'s' * (len(segments) > 1)}</h2>"
        if segments
        else "<h2>No label reaches the threshold</h2>"
    )
    hint = "Click a segment to move the player there." if segments else "Try other labels, or lower the threshold."
    return panel(
        f'{heading}<p class="quiet">{escape(" ".join((hint, note)))}</p><h3>Scores over time</h3>'
        f'<div class="time-line" style="--duration:{duration}"><span class="corner"></span>'
        f'<div class="strip">{pictures}</div>{lanes}<span class="corner"></span>'
        f'<div class="ends"><span>{start}</span><span>{end}</span></div></div>'
        f'<h3>Segments</h3><div class="segments">{rows}</div>'
    )


def within(cell: Any, segments: list[Any]) -> str:
    """The mark of a bar in the middle of a segment."""
    middle = (cell.start + cell.end) / 2
    return ' class="in"' if any(segment.start <= middle < segment.end for segment in segments) else ""


def search_panel(hits: list[Any], folder: Path, options: ReadOptions) -> str:
    """A card for each hit."""
    cards = "".join(
        f'<button type="button" class="hit" data-time="{hit.start:.3f}" data-video="{escape(hit.path)}">'
        f"{picture(middle_frame(folder, hit, options), hit.path)}<b>{escape(hit.path).replace('_', '_<wbr>')}</b>"
        f'<span class="small quiet">{" – ".join(format_times([hit.start, hit.end]))}</span>'
        f'<span class="small quiet">cosine {hit.cosine:.2f}</span>'
        "</button>"
        for hit in hits
    )
    return panel(
        f'<p class="quiet">Nearest first. Click one to play it there.</p><h3></h3><div class="hits">{cards}</div>'
    )


# Work


class Door:
    """
    What the page asks of the package.

    Args:
        checkpoint ([`Checkpoint`]): the model.
        folder (`Path`): an empty folder for the demo's samples and their index.
        limits ([`Limits`]): of an upload and its decoding, those of the server.
        videos (`Path`, *optional*): a folder of videos, whose index is that of `vitaclip index`. By default the demo's
            samples; outside a clone there are none, and uploads alone.
    """

    def __init__(self, checkpoint: Checkpoint, folder: Path, limits: Limits, videos: Path | None = None):
        self.checkpoint, self.limits, self.folder = checkpoint, limits, videos or folder / "samples"
        place, encoder = Path(checkpoint.name), checkpoint.encoder()
        self.name = "/".join(place.resolve().parts[-2:]) if place.is_dir() else checkpoint.name
        prompts = getattr(encoder.model, "class_prompts", None)  # a CLIP has none
        self.classes = encoder.own_classes()[0] if prompts is not None and prompts.have_names else ()
        self.labels_at_start = "\n".join(self.classes)
        self.samples: dict[str, str] = {}
        if videos is None and DEMO.is_dir():
            self.copy_demo()
        if videos is not None or DEMO.is_dir():
            self.read_samples(own=videos is not None)
        self.start = START if START in self.samples else next(iter(self.samples), None)
        self.classifier = self.checkpoint.classifier(return_details=True)
        self.reading = {"max_bytes": limits.decoded_bytes, "max_frame_pixels": limits.frame_pixels}
        self.reading["max_seconds"] = limits.decode_seconds
        self.reader = encoder.reader(**self.reading)

    def copy_demo(self) -> None:
        sys.path.append(str(DEMO))
        from evaluate_timeline import FPS, joined_scenes

        shutil.copytree(DEMO / "videos", self.folder)
        write_video(self.folder / LONG_SAMPLE, joined_scenes(10, seed=7)[0], FPS)
        self.labels_at_start = (DEMO / "labels.txt").read_text(encoding="utf-8").strip()

    def read_samples(self, own: bool) -> None:
        found = [Path(path).absolute() for path, reason in find_videos([str(self.folder)]).items() if reason is None]
        found = [path for path in found if storable(str(path)) == str(path)]  # a page is JSON, which is UTF-8
        self.samples = {path.relative_to(self.folder.absolute()).as_posix(): str(path) for path in found}
        self.index = VideoStore(self.folder / FOLDER)
        window = None if self.index.settings else 4.0 if own else 2.0
        embed_videos(self.folder, self.index.place, self.checkpoint, window=window)

    def labels(self, text: str) -> list[str]:
        """
        Labels as typed, one a line or with commas between. A class of the model is one label, whatever its commas.

        Raises:
            ValueError: none, too many, too long, or an address.
        """
        lines = (text or "").splitlines()
        parts = [[line] if line.strip() in self.classes else line.split(",") for line in lines]
        labels = [label.strip() for part in parts for label in part if label.strip()]
        if not labels:
            raise ValueError("Type at least one label, one a line or with commas between them.")
        if "://" in text:
            raise ValueError("URLs are not read. Upload the file, and type labels as words.")
        if len(labels) > self.limits.labels:
            raise ValueError(f"There are {len(labels)} labels; the limit is {self.limits.labels}.")
        longest = max(map(len, labels))
        if longest > self.limits.label_length:
            raise ValueError(f"A label has {longest} characters; the limit is {self.limits.label_length}.")
        return labels

    def check(self, path: str | None) -> str:
        """
        The path of a video within the limits.

        Raises:
            ValueError: none was chosen, or it is too large or too long.
            VideoDecodingError: it cannot be read.
        """
        if path is None:
            raise ValueError("Choose a video or upload one first.")
        if path in self.samples.values():
            return path
        size = Path(path).stat().st_size
        if size > self.limits.upload_bytes:
            raise ValueError(f"The file has {size:,} bytes; the limit is {self.limits.upload_bytes:,}.")
        about = self.reader.open(path).metadata
        if about.duration is not None and about.duration > MOST_SECONDS:
            raise ValueError(f"The video is {about.duration:.0f} s long; the limit is {MOST_SECONDS} s.")
        return path

    def classify(self, path: str | None, text: str, min_score: float, min_cosine: float) -> str:
        try:
            labels, path = self.labels(text), self.check(path)
            thresholds = {"min_score": min_score, "min_cosine": min_cosine}
            answer = self.classifier(path, candidate_labels=labels, **thresholds, **self.reading)
            numbers = sorted(set(answer["frames"]))
            read = self.reader.open(path).read(numbers)
            frames = {
                number: thumbnail_of(frame.permute(1, 2, 0).numpy(), 160)
                for number, frame in zip(numbers, read, strict=True)
            }
            return answer_panel(answer, frames)
        except UNUSABLE as error:
            return problem(error, path)

    def timeline(self, path: str | None, text: str, window: float, high: float) -> str:
        try:
            labels, path = self.labels(text), self.check(path)
            settings = {"window": window, "stride": window / 4, "high": high, "low": high / 3} | self.reading
            settings["max_seconds"] = self.limits.wait_seconds
            timeline = VideoTimeline(self.checkpoint.encoder(), labels, **settings)
            opened = timeline.reader.open(path)
            drawn, thumbnails, note = [], Thumbnails(), ""
            until = time.monotonic() + self.limits.wait_seconds

            def windows():
                nonlocal note
                scored = None
                try:
                    for scored in timeline.scores(opened, thumbnails=True):
                        yield scored
                        if time.monotonic() > until:
                            note = f"Reading was stopped after {self.limits.wait_seconds:g} s, at {scored.end:.0f} s."
                            return
                except VideoDecodingError as error:
                    if scored is None:
                        raise
                    note = str(error).replace(path, Path(path).name)

            def cells():
                for cell in timeline.cells(windows()):
                    drawn.append(cell)
                    thumbnails.add((cell.start + cell.end) / 2, cell.thumbnail)
                    yield cell

            segments = list(timeline.separate(cells(), opened))
            return timeline_panel(segments, timeline.labels, drawn, thumbnails, note)
        except UNUSABLE as error:
            return problem(error, path)

    def search(self, query: str) -> str:
        try:
            query = (query or "").strip()
            if not query:
                raise ValueError("Type what to look for.")
            if "://" in query:
                raise ValueError("URLs are not read. Type what to look for in words.")
            if len(query) > QUERY_LENGTH:
                raise ValueError(f"The text has {len(query)} characters; the limit is {QUERY_LENGTH}.")
            # The index was compared with the model at the start.
            vector = self.classifier.encoder.class_embeds((query,))[1][0].float().cpu().numpy()
            hits = self.index.search(vector, SHOWN_HITS)
            hits = [hit for hit in hits if Path(self.samples.get(hit.path, "")).is_file()]  # not deleted since
            return search_panel(hits, self.folder, self.reader.options)
        except UNUSABLE as error:
            return problem(error, str(self.folder))


EMPTY_ANSWER = "Choose a video, type labels, and press Classify."
EMPTY_TIMELINE = "For a longer video: press Show timeline."
EMPTY_SEARCH = "Describe what you are looking for in these videos."
WORKING = '<div class="empty" role="status">Reading the video …</div>'


def build(door: Door) -> gr.Blocks:
    """The page."""
    alone = door.checkpoint.encoder().activation == "sigmoid"  # each label; a right one rarely comes near 1
    gr.set_static_paths(list(door.samples.values()))  # no other file of the folder, and no copies of these
    with gr.Blocks(title="What does a video show?", analytics_enabled=False) as page:
        path = gr.State(door.samples.get(door.start))
        gr.HTML(
            f"<h1>What does a video show?</h1><p>Labels are free text. Model: {escape(door.name)}</p>",
            elem_id="header",
        )
        with gr.Row(elem_id="main"):
            with gr.Column(scale=4, min_width=320, elem_id="left"):
                player = gr.Video(
                    door.samples.get(door.start), label=door.start or "Video", interactive=False, elem_id="player",
                    buttons=[],
                )  # fmt: skip
                status = gr.HTML("", elem_id="status")
                sample = gr.Dropdown(
                    list(door.samples), value=door.start, label="Video", visible=bool(door.samples), elem_id="sample"
                )
                upload = uploaded_file("Upload a video", file_types=UPLOADED, size="sm", elem_id="upload")
                labels = gr.Textbox(
                    door.labels_at_start,
                    label="Labels, one a line or with commas",
                    lines=4,
                    max_lines=8,
                    elem_id="labels",
                )
                with gr.Accordion('When to say "something else"', open=False, elem_id="thresholds"):
                    min_score = gr.Slider(
                        0, 1, 0.5 if alone else 0, label="Least score of the best label", elem_id="min_score"
                    )
                    min_cosine = gr.Slider(-1, 1, -1, label="Least cosine of the best label", elem_id="min_cosine")
            with gr.Column(scale=6, min_width=320, elem_id="right"), gr.Tabs(elem_id="tabs"):
                with gr.Tab("Answer", elem_id="tab_answer"):
                    classify = gr.Button("Classify", variant="primary", elem_id="classify")
                    answer = gr.HTML(empty(EMPTY_ANSWER), elem_id="answer", min_height=120)
                with gr.Tab("Timeline", elem_id="tab_timeline"):
                    with gr.Row(elem_id="timeline_settings"):
                        window = gr.Slider(1, 8, 2, step=0.5, label="Window in seconds", elem_id="window")
                        high = gr.Slider(0.01, 1, 0.3, step=0.01, label="Threshold", elem_id="high")
                    show = gr.Button("Show timeline", variant="primary", elem_id="show_timeline")
                    strip = gr.HTML(empty(EMPTY_TIMELINE), elem_id="timeline", js_on_load=JUMP, min_height=120)
                with gr.Tab("Search", visible=bool(door.samples), elem_id="tab_search"):
                    query = gr.Textbox(
                        label="Search these videos", placeholder="a rocket rising", elem_id="query",
                        max_length=QUERY_LENGTH,
                    )  # fmt: skip
                    search = gr.Button("Search", variant="primary", elem_id="search")
                    hits = gr.HTML(empty(EMPTY_SEARCH), elem_id="hits", js_on_load=JUMP, min_height=120)

        fresh = [answer, strip]

        def chosen(name: str):
            video = gr.Video(door.samples[name], label=name, playback_position=0)
            return door.samples[name], video, "", empty(EMPTY_ANSWER), empty(EMPTY_TIMELINE)

        def uploaded(file: str):
            reset = (empty(EMPTY_ANSWER), empty(EMPTY_TIMELINE))
            try:
                door.check(file)
            except UNUSABLE as error:
                return None, gr.Video(None, label="Video"), None, problem(error, file), *reset
            return file, gr.Video(file, label=Path(file).name, playback_position=0), None, "", *reset

        def jumped(event: gr.EventData):
            return gr.Video(playback_position=float(event.time))

        def found(event: gr.EventData):
            video = door.samples[event.video]
            return video, gr.Video(video, label=event.video, playback_position=0), event.video, ""

        def working():
            return panel(WORKING)

        private: dict[str, Any] = {"api_visibility": "private"}
        sample.input(chosen, sample, [path, player, status, *fresh], **private)
        hidden: dict[str, Any] = private | {"show_progress": "hidden"}
        reading = upload.upload(lambda: (working(), "", ""), None, [status, *fresh], **hidden)
        reading.then(uploaded, upload, [path, player, sample, status, *fresh], **hidden)
        classifying = classify.click(working, None, answer, **hidden)
        classifying.then(door.classify, [path, labels, min_score, min_cosine], answer, **hidden)
        showing = show.click(working, None, strip, **hidden)
        showing.then(door.timeline, [path, labels, window, high], strip, **hidden)
        strip.click(jumped, None, player, **hidden)
        gr.on([search.click, query.submit], door.search, query, hits, **private)
        hits.click(found, None, [path, player, sample, status], **hidden)
    page.queue(max_size=door.limits.queue, default_concurrency_limit=1)
    return page


def launch(page: gr.Blocks, door: Door, **settings: Any) -> Any:
    """Starts the page with fonts of the system and without anything from outside."""
    theme = gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"),
        font_mono=("ui-monospace", "Consolas", "monospace"),
    ).set(body_text_color_subdued="*neutral_500")
    return page.launch(
        share=False,
        ssr_mode=False,
        theme=theme,
        css=CSS,
        footer_links=[],
        max_file_size=door.limits.upload_bytes,
        allowed_paths=list(door.samples.values()),  # a video that is shown is looked for here, not in static paths
        quiet=True,  # gradio's own advice
        **settings,
    )


def run(checkpoint: Checkpoint, folder: Path | None, host: str, port: int) -> None:
    """Shows the page until Ctrl-C."""
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="vitaclip-demo-") as empty_folder:
        if folder:
            print(f"Bringing the index of {folder} up to date …", flush=True)
        door = Door(checkpoint, Path(empty_folder), limits, folder)
        place: dict[str, Any] = {"server_name": host, "server_port": port or None}
        page = build(door)
        _, address, _ = launch(page, door, prevent_thread_lock=True, **place)
        print(f"{address} (Ctrl-C ends it)", flush=True)
        page.block_thread()
