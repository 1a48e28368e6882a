import dataclasses
from pathlib import Path

import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY, saved, tiny_model

from fgvc.errors import UsageError
from fgvc.methods.view_shares import Share
from fgvc.model_file.architecture import build
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


def test_a_member_whose_views_are_weighed_answers_as_it_did_alone(tmp_path):
    part = {"class_path": "CentreBox", "init_args": {}}
    closer = {"class_path": "RACNN", "init_args": PLAIN["init_args"] | {"attention": part}}
    torch.manual_seed(0)
    recognizer = build(closer, TAXONOMY, 32).eval()
    recognizer.view_shares = {"scale1": Share(0.5, 0.9), "scale2": Share(2.0, 0.1)}
    save(dataclasses.replace(tiny_model(), recognizer=recognizer, architecture=closer), tmp_path / "closer")
    save(load_many([tmp_path / "closer", saved(tmp_path / "plain")]), tmp_path / "both")
    images = torch.randint(256, (4, 3, 32, 32)).float()
    alone, both = load(tmp_path / "closer").recognizer.eval(), load(tmp_path / "both").recognizer.eval()
    with torch.no_grad():
        answer = alone(images).logits["species"].softmax(dim=1)
        told = both(images).views["member_closer"].logits["species"].exp()
        alone.view_shares = {}
        unweighed = alone(images).logits["species"].softmax(dim=1)
    assert torch.allclose(told, answer, atol=1e-6) and not torch.allclose(told, unweighed, atol=1e-3)
