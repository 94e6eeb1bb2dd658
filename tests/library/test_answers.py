"""Answers: their scores, cosines, frames and times against arithmetic of their own; thresholds; the command."""

import json
from pathlib import Path

import pytest
import torch

from vitaclip_hf import VideoDecodingError, load_checkpoint, open_video
from vitaclip_hf.cli.main import main
from vitaclip_hf.library.answers import SOMETHING_ELSE, VideoClassifier
from vitaclip_hf.model.zero_shot_classifier import ScoreError


DEMO = Path(__file__).parents[2] / "examples" / "demo"
STAR = DEMO / "videos" / "red_star_moving_left.mp4"
WRONG = ["blue heart bouncing", "red moon moving up"]
RIGHT = ["red star moving left", *WRONG]


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(DEMO / "checkpoint")


@torch.no_grad()
def by_hand(checkpoint, labels: list[str], numbers: list[int]) -> tuple[list[float], list[float]]:
    """Scores and cosines of one clip, from the model's own features."""
    model, processor = checkpoint.model, checkpoint.processor
    frames = open_video(STAR).read(numbers)
    inputs = processor(videos=frames, text=labels, do_sample_frames=False, return_tensors="pt")
    video = model.get_video_features(inputs["pixel_values_videos"]).pooler_output[0]
    texts = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
    cosines = torch.nn.functional.cosine_similarity(video[None], texts)
    return (cosines * model.logit_scale.exp()).softmax(0).tolist(), cosines.tolist()


def test_scores_cosines_frames_and_times(checkpoint):
    [answer] = VideoClassifier(checkpoint, RIGHT)([STAR])
    numbers = [2, 6, 10, 14, 18, 22, 26, 30]  # centres of eight equal parts of 32 frames
    scores, cosines = by_hand(checkpoint, RIGHT, numbers)
    assert answer.frames == numbers and answer.times == [number / 16 for number in numbers]
    assert answer.answer == "red star moving left" and answer.reason is None
    assert [row["label"] for row in answer.scores] == sorted(RIGHT, key=lambda label: -scores[RIGHT.index(label)])
    for row in answer.scores:
        place = RIGHT.index(row["label"])
        assert row["score"] == pytest.approx(scores[place], abs=1e-5)
        assert row["cosine"] == pytest.approx(cosines[place], abs=1e-5)


def test_two_views_are_averaged(checkpoint):
    [answer] = VideoClassifier(checkpoint, WRONG, num_views=2)([STAR])
    views = [by_hand(checkpoint, WRONG, list(range(start, 32, 4))) for start in (1, 3)]
    assert answer.frames == [*range(1, 32, 4), *range(3, 32, 4)]
    for row in answer.scores:
        place = WRONG.index(row["label"])
        assert row["score"] == pytest.approx(sum(scores[place] for scores, _ in views) / 2, abs=1e-5)
        assert row["cosine"] == pytest.approx(sum(cosines[place] for _, cosines in views) / 2, abs=1e-5)


def test_a_high_score_far_from_all_labels_is_caught_by_the_cosine(checkpoint):
    [answer] = VideoClassifier(checkpoint, WRONG)([STAR])
    assert answer.answer == "red moon moving up" and answer.scores[0]["score"] > 0.99
    cosine = answer.scores[0]["cosine"]
    [answer] = VideoClassifier(checkpoint, WRONG, min_score=0.99, min_cosine=cosine + 0.01)([STAR])
    assert answer.answer == SOMETHING_ELSE and "cosine" in answer.reason
    [answer] = VideoClassifier(checkpoint, WRONG, min_score=0.99, min_cosine=cosine - 0.01)([STAR])
    assert answer.answer == "red moon moving up"


def test_labels_too_close_to_each_other_are_caught_by_the_score(checkpoint):
    labels = ["red star", "star"]
    [answer] = VideoClassifier(checkpoint, labels)([STAR])
    score = answer.scores[0]["score"]
    [answer] = VideoClassifier(checkpoint, labels, min_score=min(score + 0.001, 1))([STAR])
    assert answer.answer == SOMETHING_ELSE and f"{score:.1%}" in answer.reason


def test_a_stream_gives_the_answers_of_a_call_in_their_order(checkpoint, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    videos = [*sorted((DEMO / "videos").glob("*.mp4"))[:3], broken, STAR]
    classifier = VideoClassifier(checkpoint, RIGHT)
    alone = [classifier([video], on_error="skip")[0] for video in videos]
    for batch_size in (1, 2, 8):
        found = list(classifier.stream(iter(videos), batch_size, on_error="skip"))
        assert "broken.mp4" in found[3]["error"] and found[3] == alone[3]
        for ours, theirs in zip(found[:3] + found[4:], alone[:3] + alone[4:], strict=True):
            assert ours.frames == theirs.frames and ours.answer == theirs.answer
            assert [row["score"] for row in ours.scores] == pytest.approx(
                [row["score"] for row in theirs.scores], abs=1e-5
            )
    with pytest.raises(VideoDecodingError, match="broken.mp4"):
        list(classifier.stream(videos, 2))


def test_a_stream_names_the_video_whose_scores_are_no_numbers(checkpoint, monkeypatch):
    classifier = VideoClassifier(checkpoint, RIGHT)
    videos = [STAR, DEMO / "videos" / "red_star_turning.mp4", STAR]
    scored = classifier._scored

    def nan_for_the_second(read):
        if any("turning" in str(source) for source, *_ in read):
            raise ScoreError("scores are NaN")
        return scored(read)

    monkeypatch.setattr(classifier, "_scored", nan_for_the_second)
    first, second, third = classifier.stream(videos, 3, on_error="skip")
    assert second == {"error": "scores are NaN"} and first.answer == third.answer == "red star moving left"
    with pytest.raises(ScoreError):
        list(classifier.stream(videos, 3))


def test_its_own_classes(checkpoint):
    [answer] = VideoClassifier(checkpoint)([STAR])
    assert len(answer.scores) == 300 and answer.answer.endswith("moving left")
    assert sum(row["score"] for row in answer.scores) == pytest.approx(1, abs=1e-4)


def test_the_figure_shows_the_frames_that_were_read(checkpoint):
    [answer] = VideoClassifier(checkpoint, WRONG, num_views=2, min_cosine=0.9)([STAR])
    figure = answer.figure("a star", top_k=1)
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    read = open_video(STAR).read(sorted(answer.frames)).permute(0, 2, 3, 1).numpy()
    assert len(pictures) == 16 and all((shown == frame).all() for shown, frame in zip(pictures, read, strict=True))
    texts = [text.get_text() for text in figure.texts]
    assert texts[0] == "a star" and f"cosine {answer.scores[0]['cosine']:.2f}" in texts
    assert any(text.startswith("something else: the cosine of the best label is 0.3") for text in texts)


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        (["a", "a"], "{}", "`labels` must differ; these are repeated: 'a'"),
        ([], "{}", "`labels` must be a list of non-empty strings"),
        (["a"], "no place", "`templates` needs `{}`"),
    ],
)
def test_wrong_labels(checkpoint, labels, templates, message):
    with pytest.raises(ValueError, match=message):
        VideoClassifier(checkpoint, labels, templates)


def test_command(tmp_path, capsys):
    arguments = [str(STAR), "--model", str(DEMO / "checkpoint"), "--labels", ",".join(WRONG)]
    picture = tmp_path / "answer.png"
    code = main(["classify", *arguments, "--min-cosine", "0.6", "--format", "json", "--picture", str(picture)])
    assert code == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["answer"] == SOMETHING_ELSE and row["scores"][0]["label"] == "red moon moving up"
    assert row["times"] == [0.125, 0.375, 0.625, 0.875, 1.125, 1.375, 1.625, 1.875]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["classify", *arguments, str(DEMO / "videos"), "--picture", str(picture)]) == 2
    assert "--picture draws one video; got 10" in capsys.readouterr().err
