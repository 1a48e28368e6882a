import pytest
from PIL import Image

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.unlabelled import Unlabelled
from fgvc.errors import UsageError


def test_photographs_at_any_depth_are_one_split_without_labels(tmp_path):
    for name in ("b.png", "train/a.png", "x/y/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("nothing")
    data = FineGrainedData(Unlabelled(str(tmp_path)))
    records = data.records("test")
    assert data.splits == ("test",) and records.labels.tolist() == [-1] * 3
    assert [records.relative_path(i) for i in range(3)] == ["b.png", "train/a.png", "x/y/c.jpg"]
    assert data.source.passed_over.counts == {".txt": 1}


def test_what_holds_no_photograph_is_told(tmp_path):
    with pytest.raises(UsageError, match="no pictures"):
        Unlabelled(str(tmp_path))
    with pytest.raises(UsageError, match="no such folder"):
        Unlabelled(str(tmp_path / "gone"))
