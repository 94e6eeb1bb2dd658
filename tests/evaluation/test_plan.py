"""The lists of an evaluation are found, and their names can be written."""

import pytest

from vitaclip_hf.data.annotations import AnnotationError
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import load_protocol


def test_lists_in_the_subfolders_of_a_clone(tmp_path):
    for number in (1, 2, 3):
        listed = tmp_path / f"clone/datasets_splits/hmdb_splits/hmdb51_val{number}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(f"a{number}.avi 0\nb{number}.avi 1\n")
    (tmp_path / "clone/labels").mkdir()
    (tmp_path / "clone/labels/hmdb_51_labels.csv").write_text("id,name\n0,run\n1,walk\n")
    plan = plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path / "clone")
    assert [sample.name for sample in plan.videos] == [f"{name}{n}.avi" for n in (1, 2, 3) for name in "ab"]
    assert plan.splits[0].table.class_names == ("run", "walk")
    (tmp_path / "clone/other").mkdir()
    (tmp_path / "clone/other/hmdb51_val1.txt").write_text("x.avi 0\ny.avi 1\n")
    with pytest.raises(AnnotationError, match="no list of its own for split 1"):
        plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path / "clone")


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"caf\xe9.mp4 run\nb.mp4 walk\n")
    plan = plan_evaluation(load_protocol("own-zero-shot"), tmp_path, tmp_path / "l.txt")
    assert [sample.name for sample in plan.videos] == ["caf\\xe9.mp4", "b.mp4"]
    assert plan.videos[0].path.endswith("caf\udce9.mp4")
