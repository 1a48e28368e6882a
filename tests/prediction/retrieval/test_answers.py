import csv
import io
import json

import pytest

from fgvc.errors import UsageError
from fgvc.prediction.retrieval.answers import Found, kind_of, save, write_csv
from fgvc.prediction.retrieval.neighbour import Neighbour

NEAR = Neighbour('a\r,"b".jpg', "Larus canus", {"genus": "Larus", "species": "Larus canus"}, 0.5)
UNKNOWN = Neighbour("c.jpg", None, {}, -0.25)
FOUND = [
    Found("q\r.jpg", [NEAR, UNKNOWN], None, "odd"),
    Found("broken.jpg", error="broken.jpg: no picture"),
    Found("x"),
]


def test_rows_survive_names_of_others():
    file = io.StringIO(newline="")
    write_csv(FOUND, file, "cosine")
    assert "\r\n" not in file.getvalue()
    header, *rows = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert header == ["query", "rank", "path", "label", "lineage", "cosine", "warning", "error"]
    assert rows == [
        ["q\r.jpg", "1", 'a\r,"b".jpg', "Larus canus", "Larus > Larus canus", "0.500000", "odd", ""],
        ["q\r.jpg", "2", "c.jpg", "", "", "-0.250000", "odd", ""],
        ["broken.jpg", "", "", "", "", "", "", "broken.jpg: no picture"],
        ["x", "", "", "", "", "", "", ""],
    ]


def test_json_names_the_value_after_the_metric(tmp_path):
    save(FOUND, tmp_path / "f.json", "json", "euclidean")
    first, broken, _ = json.loads((tmp_path / "f.json").read_text())
    assert first["neighbours"][0] == {"rank": 1, **NEAR.to_dict("euclidean")} and NEAR.to_dict("euclidean")["euclidean"]
    assert broken == {"query": "broken.jpg", "neighbours": [], "warning": None, "error": "broken.jpg: no picture"}
    save([], tmp_path / "none.json", "json", "cosine")
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_the_suffix_says_what_is_written(tmp_path):
    assert [kind_of(tmp_path / f"a.{kind}", None) for kind in ("csv", "json", "jsonl")] == ["csv", "json", "jsonl"]
    assert kind_of(None, None) == "csv" and kind_of(tmp_path / "a.txt", "json") == "json"
    with pytest.raises(UsageError, match=r"neighbours are written as \.csv, \.json, \.jsonl, not '\.parquet'"):
        kind_of(tmp_path / "a.parquet", None)


def test_a_neighbour_comes_back_from_plain_data():
    for near in (NEAR, UNKNOWN):
        assert Neighbour.from_dict(json.loads(json.dumps(near.to_dict()))) == near
