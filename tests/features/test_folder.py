import json

import numpy as np
import pytest

from fgvc.errors import UsageError
from fgvc.features.folder import open_features
from fgvc.features.part_files import Rows, Stamp, read_features, read_rows, read_stamp, write
from fgvc.taxonomy.tree import Taxonomy

NAMES = ["a/1.jpg", "b\udce9.jpg", "c, d.jpg"]


def rows(paths=NAMES):
    count = np.arange(len(paths))
    return Rows(count, list(paths), (count - 1).astype(np.int32), ["x"] * len(paths), count * 10, count * 10**18)


def a_folder(folder, shape=(4,), stated=None, **changed):
    """Write a folder of one split by hand, as `embed` would."""
    features = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    sha256 = rows().sha256()
    stamp = Stamp("terms", sha256, "test-whole-0.npy" if len(shape) > 1 else "")
    write(folder / "test-whole.parquet", rows(), stamp, [features[:2], features[2:]], shape, "float32")
    described = {
        "format": 1, "splits": ["test"], "views": ["whole"], "terms": {}, "shape": list(shape), "dtype": "float32",
        "taxonomy": Taxonomy.flat(["gull", "tern"]).to_plain(),
        "parts": {"test": {"whole": {"sha256": stated or sha256}}},
    }  # fmt: skip
    described.update(changed)
    (folder / "features.json").write_text(json.dumps({k: v for k, v in described.items() if v is not None}))
    return features


@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
def test_what_was_written_is_read(tmp_path, shape):
    features = a_folder(tmp_path, shape)
    found = open_features(str(tmp_path))
    part = found.part("test")
    assert part.paths == NAMES and part.labels.tolist() == [-1, 0, 1] and part.labels.dtype == np.int32
    assert part.features.shape == (3, *shape) and (part.features == features).all()
    assert isinstance(part.features, np.memmap) == (len(shape) > 1)
    assert found.taxonomy.names("class") == ("gull", "tern")
    read = read_rows(tmp_path / "test-whole.parquet")
    assert read.files() == rows().files() and read.sha256() == rows().sha256() and read.names == ["x"] * 3


def test_a_table_without_photographs(tmp_path):
    write(tmp_path / "x.parquet", rows([]), Stamp("t", "r"), [], [4], "float32")
    assert read_features(tmp_path / "x.parquet", read_stamp(tmp_path / "x.parquet")).shape == (0, 4)
    assert read_rows(tmp_path / "x.parquet").files() == []
    write(tmp_path / "y.parquet", rows([]), Stamp("t", "r", "y.npy"), [], [4, 2, 2], "float16")
    assert read_features(tmp_path / "y.parquet", read_stamp(tmp_path / "y.parquet")).shape == (0, 4, 2, 2)


def test_rows_that_differ_in_anything_have_another_hash():
    one = rows()
    others = [
        one._replace(paths=["a/1.jpg", "b\udce9.jpg", "c"]),
        one._replace(labels=one.labels + 1),
        one._replace(sizes=one.sizes + 1),
        one._replace(mtimes=one.mtimes + 1),
        one._replace(at=one.at + 1),
        one._replace(names=["y"] * 3),
        one.some([0, 2, 1]),
    ]
    assert len({each.sha256() for each in [one, *others]}) == len(others) + 1
    assert one.some([0, 1, 2]).sha256() == one.sha256() != one.sha256("more")


def broken_in(folder, how):
    a_folder(folder, (4, 2, 3) if "map" in how else (4,), **{"format of tomorrow": {"format": 2}}.get(how, {}))
    description, table = folder / "features.json", folder / "test-whole.parquet"
    if how == "no description":
        description.unlink()
    elif how == "half a description":
        description.write_text(description.read_text()[:30])
    elif how == "a list":
        description.write_text("[1]")
    elif how == "a missing key":
        a_folder(folder, parts=None)
    elif how == "no table":
        table.unlink()
    elif how == "half a table":
        table.write_bytes(table.read_bytes()[:200])
    elif how == "another table":
        a_folder(folder, stated="another")
    elif how == "no maps":
        (folder / "test-whole-0.npy").unlink()
    elif how == "half a map":
        maps = folder / "test-whole-0.npy"
        maps.write_bytes(maps.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            "no description",
            "no features here (no features.json, so it is not finished); fgvc embed MODEL DATA --output",
        ),
        ("half a description", "features.json: damaged"),
        ("a list", "features.json: damaged"),
        ("a missing key", "features.json: damaged (no parts)"),
        ("format of tomorrow", "format 2; this fgvc reads 1"),
        ("no table", "test-whole.parquet: damaged"),
        ("half a table", "test-whole.parquet: damaged"),
        ("another table", "a stop came while it was being written; give the same fgvc embed again"),
        ("no maps", "test-whole.parquet: damaged (No such file"),
        ("half a map", "test-whole.parquet: damaged"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told_in_one_line(tmp_path, how, said):
    broken_in(tmp_path, how)
    with pytest.raises(UsageError) as caught:
        open_features(tmp_path).part("test")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_where_no_folder_is_it_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"no features here \(no such folder\)"):
        open_features(tmp_path / "gone")
