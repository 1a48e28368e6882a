import json

import pytest
import yaml
from fakes.tiny_model import LEAVES, certified, saved

from fgvc.confidence.vouching import threshold
from fgvc.errors import UsageError
from fgvc.model_file.folder import read
from fgvc.report.model_facts import PRECISIONS, about, weights


def test_a_model_alone_knows_nothing_of_its_run(tmp_path):
    saved(tmp_path)
    facts = about(read(tmp_path))
    assert (facts["test"], facts["data"], facts["vouched"], facts["calibration"]) == ({}, None, [], {})
    assert facts["levels"]["species"] == {"classes": len(LEAVES), "first": [leaf[-1] for leaf in LEAVES]}
    assert facts["levels"]["family"] == {"classes": 2, "first": ["Finches", "Owls"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"root": "photos"}, "Table in photos"), ({"path": "list.csv"}, "Table in list.csv"), ({}, "Table")],
)
def test_a_run_tells_its_scores_and_its_data(tmp_path, arguments, words):
    saved(tmp_path / "run")
    source = {"class_path": "fgvc.data.sources.table.Table", "init_args": arguments}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({"data": {"source": source}}))
    (tmp_path / "run/test.json").write_text('{"test/a": 1, "test/b": NaN, "photographs": "/photos", "c": [1]}')
    facts = about(read(tmp_path / "run"))
    assert facts["data"] == words
    assert facts["test"] == {"test/a": 1, "test/b": None}
    (tmp_path / "run/test.json").write_text("[")
    with pytest.raises(UsageError, match=r"test\.json: cannot be read"):
        about(read(tmp_path / "run"))


def test_what_can_be_vouched_for_is_what_the_counts_say(tmp_path):
    counts = certified(0.5)
    saved(tmp_path, vouching=counts)
    told = about(read(tmp_path))["vouched"]
    assert [one["precision"] for one in told] == list(PRECISIONS)
    assert [one["probability"] for one in told] == [threshold(counts, precision) for precision in PRECISIONS]
    assert all(one["images"] == counts.answered[0] for one in told)


def test_the_facts_are_plain_data_and_count_the_weights(tmp_path):
    saved(tmp_path)
    stored = read(tmp_path)
    facts = weights(stored, {"a": ("F32", (2, 3)), "b": ("I64", ())})
    assert (facts["tensors"], facts["numbers"], facts["types"]) == (2, 7, ["F32", "I64"])
    assert facts["bytes"] == stored.weights.stat().st_size
    assert json.loads(json.dumps({**about(stored), "weights": facts}))["weights"] == facts
