import numpy as np
import pytest

from fgvc.errors import UsageError
from fgvc.features.folder import open_features
from fgvc.features.part_files import Rows, Stamp, write
from fgvc.files.whole_files import write_text
from fgvc.prediction.retrieval.gallery import Gallery
from fgvc.prediction.retrieval.nearest import Neighbours
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(["genus", "species"], [("Larus", "canus"), ("Larus", "fuscus"), ("Sterna", "hirundo")])


def a_folder(path, paths, root, shape=(2,)):
    """Write a folder of one split by hand, as `embed` would: label i - 1 for photograph i."""
    import json

    count = np.arange(len(paths))
    rows = Rows(count, list(paths), (count - 1).astype(np.int32), ["x"] * len(paths), count, count)
    stamp = Stamp("terms", rows.sha256(), "m.npy" if len(shape) > 1 else "")
    features = [np.ones((len(paths), *shape), np.float32)] if paths else []
    write(path / "test-whole.parquet", rows, stamp, features, shape, "float32")
    said = {
        "format": 1, "splits": ["test"], "views": ["whole"], "terms": {}, "shape": list(shape), "dtype": "float32",
        "taxonomy": TREE.to_plain(), "parts": {"test": {"whole": {"sha256": rows.sha256()}}},
        "records": {"test": {"root": str(root)}},
    }  # fmt: skip
    write_text(path / "features.json", json.dumps(said))
    return open_features(path)


def test_labels_and_lineages_are_told_down_to_what_is_known(tmp_path):
    gallery = Gallery(a_folder(tmp_path / "f", ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"], "root"))
    found = Neighbours(np.array([[4, 0, 1], [3, -1, -1]]), np.array([[0.9, 0.8, 0.7], [0.6, np.nan, np.nan]]))
    first, second = gallery.neighbours(found)
    assert [one.to_dict() for one in first] == [
        {"path": "root/e.jpg", "label": "Larus", "lineage": {"genus": "Larus"}, "cosine": 0.9},  # an inner node
        {"path": "root/a.jpg", "label": None, "lineage": {}, "cosine": 0.8},
        {"path": "root/b.jpg", "label": "canus", "lineage": {"genus": "Larus", "species": "canus"}, "cosine": 0.7},
    ]
    assert [one.path for one in second] == ["root/d.jpg"]


def test_a_file_is_known_by_every_way_to_it(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "b.jpg").symlink_to(tmp_path / "real" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    gallery = Gallery(a_folder(tmp_path / "f", ["a.jpg", "x.jpg", "a.jpg"], "link"))
    ways = ["real/a.jpg", "link/../link/a.jpg", str(tmp_path / "link/a.jpg"), "real/b.jpg", "a.jpg", None]
    assert gallery.own(ways).tolist() == [[query, row] for query in range(4) for row in (0, 2)]


def test_nothing_to_search_among_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no photograph in test: the gallery is empty"):
        Gallery(a_folder(tmp_path / "empty", [], "root"))
    with pytest.raises(UsageError, match="holds maps, and vectors are compared; embed with --take prelogits"):
        Gallery(a_folder(tmp_path / "maps", ["a.jpg"], "root", (2, 3, 3)))
