"""The benchmarks of text, pipeline, loader, decode and load: both sides do the same. Times are not tested."""

import json

import benchmark
import benchmark_decode
import benchmark_load
import benchmark_loader
import benchmark_measurement
import benchmark_pipeline
import benchmark_text
import numpy as np
import pytest
import torch

from vitaclip_hf import VitaClipVideoProcessor, decode_video


PROCESSOR = VitaClipVideoProcessor()
MEAN, STD = torch.tensor(PROCESSOR.image_mean), torch.tensor(PROCESSOR.image_std)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    """Of 30 frames, so that a dense clip of 8 at stride 16 repeats the last, and of 150."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "long").mkdir()
    return benchmark_pipeline.write_videos(folder, 1, 1) + benchmark_pipeline.write_videos(folder / "long", 1, 5)


def results_of(capsys, tmp_path, *options) -> tuple[dict, str]:
    benchmark.main([*options, "--output", str(tmp_path / "results.json")])
    return json.loads((tmp_path / "results.json").read_text()), capsys.readouterr().out


def test_table_by_hand():
    seconds = {"ours": [0.1, 0.4], "theirs": [0.2, 1.6]}
    found = benchmark_measurement.comparison(
        "reading", seconds, {"theirs": "theirs", "nobody": "nobody"}, {"rounds": 2}, 9.0, ["who"], {"ours": {"x": 3}}
    )
    lines = benchmark_measurement.comparison_to_markdown({"command": "c"} | found).splitlines()
    assert lines[:4] == [
        "| reading | median | min–max | x | ÷ theirs |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| ours | 250 ms | 100–400 | 3 | 0.375 |",  # of 1/2 and 1/4
        "| theirs | 900 ms | 200–1.6e+03 |  | 1 |",
    ]
    assert lines[-1] == "- who" and "load average before the run 9.00" in lines[5]


def test_one_command_for_each_table(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--help"])
    assert "{vision,text,train,pipeline,loader,decode,load}" in capsys.readouterr().out.replace("\n", "").replace(
        " ", ""
    )


def test_calls_are_interleaved():
    calls = []
    seconds = benchmark_measurement.time_rounds({name: lambda n=name: calls.append(n) for name in "ab"}, 2)
    assert "".join(calls) == "ab" + "ab" + "ba"
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_texts_are_the_same_on_both_sides(capsys, tmp_path):
    results, table = results_of(capsys, tmp_path, "text", "--preset", "tiny", "--classes", "7", "--rounds", "1")
    assert "Largest difference of the features" in results["notes"][0]
    assert [entry["name"] for entry in results["contenders"]] == [
        benchmark_text.PROMPTS,
        benchmark_text.RELEASED_PROMPTS,
        benchmark_text.LABELS,
        benchmark_text.CLIP_LABELS,
    ]
    ids = benchmark_text.label_ids(7, 0)
    assert ids.shape == (7, 10)  # start, end, and the longest name of Kinetics-400
    assert (benchmark_text.label_ids(7, 77)[:, :10] == ids).all()
    with pytest.raises(ValueError, match="rows differ by 1.0e"):
        benchmark_measurement.check_close(torch.tensor([0.0, 2.0]), torch.tensor([2.0, 2.0]), 1e-3, "rows")
    with pytest.raises(ValueError, match="rows differ by nan"):
        benchmark_measurement.check_close(torch.tensor([float("nan")]), torch.ones(1), 1e-3, "rows")


@pytest.mark.parametrize("views", [1, 3])
def test_the_released_way_reads_the_same_clips(videos, views):
    for video in videos:
        released = benchmark_loader.read_as_released(video, views, MEAN, STD)
        (ours,) = (
            sample["pixel_values_videos"]
            for sample in [benchmark_loader.dataset([video], views, resample=2, antialias=False)[0]]
        )
        assert released.shape == ours.shape == (views, 8, 3, 224, 224)
        assert (released - ours).abs().mean() < 0.01


def test_loader_table(capsys, tmp_path):
    results, table = results_of(capsys, tmp_path, "loader", "--videos", "1", "--seconds", "1", "--rounds", "1")
    assert [entry["name"] for entry in results["contenders"]] == [
        f"{who}, {views}" for views in ("3 views", "1 view") for who in ("this package", "released loader")
    ]
    for entry in results["contenders"]:
        assert float(entry["extra"]["times as fast as released"]) == pytest.approx(
            1 / entry["ratio_to_released"], rel=0.01
        )
    assert torch.get_num_threads() == results["machine"]["threads"] or results["machine"]["threads"] == 1


def test_x_clip_reads_the_frames_that_we_read(videos):
    reader = benchmark_pipeline.XCLIPFromFiles("tiny", torch.float32)
    for video in videos:
        total = {videos[0]: 30, videos[1]: 150}[video]
        indices = [(2 * number + 1) * total // 16 for number in range(8)]
        expected = decode_video(video, indices)[0]
        assert np.array_equal(reader.read(video), expected)
    labels = benchmark_pipeline.make_labels(9)
    assert len(set(labels)) == 9
    scores = reader.scores(videos, labels)
    assert scores.shape == (2, 9)
    # One at a time, as documented, gives the same as one batch.
    torch.testing.assert_close(scores[:1], reader.scores(videos[:1], labels), atol=1e-5, rtol=0)


def test_agreement_by_hand():
    def classifier(*rows):
        return lambda videos, candidate_labels: [
            [{"label": label, "score": score} for label, score in zip("abcd", row, strict=True)] for row in rows
        ]

    first = classifier([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])
    second = classifier([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.5, 0.4])
    found = benchmark_pipeline.agreement(["v", "w"], list("abcd"), [first, second])
    assert found == "the same best of 4 labels for 1 of 2 videos, least Spearman 0.8000"  # 1 - 6 * 2 / (4 * 15)


def test_decode_marks_wrong_frames_and_names_who_is_missing(capsys, tmp_path, monkeypatch):
    def absent(path, indices):
        raise ImportError("no such package")

    readers = {
        benchmark_decode.OURS: lambda path, indices: decode_video(path, indices)[0],
        benchmark_decode.THROUGH: lambda path, indices: decode_video(path, indices, verify="full")[0],
        "one too late": lambda path, indices: decode_video(path, [index + 1 for index in indices])[0],
        "absent": absent,
    }
    monkeypatch.setattr(benchmark_decode, "contenders", lambda older: readers)
    monkeypatch.setattr(
        benchmark_decode, "clips", lambda minutes: {"dense10s": benchmark_decode.Clip(64, 64, 1, 5, repeats=3)}
    )
    results, table = results_of(capsys, tmp_path, "decode", "--frames", "3", "--rounds", "1")
    right = {name: row["frames_as_decoding_through"] for name, row in results["clips"]["dense10s"].items()}
    assert right == {benchmark_decode.OURS: True, benchmark_decode.THROUGH: True, "one too late": False}
    assert results["missing"] == {"absent": "ImportError: no such package"}
    assert "- absent is left out: ImportError: no such package" in table and "**differ**" in table


def test_load_table(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_load, "IMPORTS", {"nothing": "pass", benchmark_load.CLIP_START: "pass"})
    results, table = results_of(capsys, tmp_path, "load", "--preset", "tiny", "--rounds", "1")
    names = [entry["name"] for entry in results["contenders"]]
    assert names[:4] == [benchmark_load.OURS, benchmark_load.CHECKED, benchmark_load.XCLIP, benchmark_load.CLIP]
    assert results["contenders"][3]["ratio_to_clip"] == results["contenders"][5]["ratio_to_clip"] == 1
