from pathlib import Path

import pytest
from fakes.tiny_model import PLAIN, TAXONOMY, saved, tiny_model

from fgvc.errors import UsageError
from fgvc.model_file.ensembles import check_same_classes, load_many, names_of
from fgvc.model_file.model import load, save
from fgvc.taxonomy.tree import Taxonomy


def test_the_first_difference_of_two_sets_of_classes_is_named():
    tree = Taxonomy(["genus", "species"], [("A", "a"), ("A", "b"), ("B", "c")])

    def refused(leaves, levels=("genus", "species")):
        with pytest.raises(UsageError) as error:
            check_same_classes(tree, Taxonomy(levels, leaves), Path("one"), Path("two"))
        return str(error.value)

    check_same_classes(tree, Taxonomy(["genus", "species"], [("A", "a"), ("A", "b"), ("B", "c")]), Path("1"), Path("2"))
    assert refused([("A", "a"), ("A", "b"), ("B", "d")]) == (
        "two: does not know the class 'B > c' of one; give models of the same classes"
    )
    assert "knows the class 'B > d', which one does not" in refused([("A", "a"), ("A", "b"), ("B", "c"), ("B", "d")])
    assert "in another order: class 0 is 'A > b' there and 'A > a' in one" in refused(
        [("A", "b"), ("A", "a"), ("B", "c")]
    )
    assert refused([("A", "a")], ("family", "species")) == "two: has the levels family, species; one has genus, species"


def test_members_are_named_after_their_runs(tmp_path):
    home = tmp_path / "my run!"
    (home / "model").mkdir(parents=True)
    assert names_of([home, home / "model", tmp_path / "b"]) == ["my_run_", "my_run__2", "b"]


def test_an_ensemble_of_models_with_one_size_is_a_plain_square(tmp_path):
    folders = [saved(tmp_path / name) for name in ("a", "b")]
    save(load_many(folders), tmp_path / "both")
    found = load(tmp_path / "both")
    assert found.resize == tiny_model().resize and found.taxonomy == TAXONOMY
    assert found.architecture["init_args"]["members"] == [PLAIN, PLAIN]


def test_an_ensemble_has_two_members_or_more(tmp_path):
    with pytest.raises(UsageError, match="an ensemble has 2 to 100 members, not 1"):
        load_many([tmp_path])
