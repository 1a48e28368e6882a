from collections import Counter
from pathlib import Path

import pytest

from fgvc.errors import FgvcError, UsageError
from fgvc.files import shipped

REPO = Path(__file__).parents[2]


def layout(root: Path, configs: str, facts: str, monkeypatch) -> Path:
    for name in ("quickstart.yaml", "data/birds.yaml", "methods/ra_cnn.yaml"):
        path = root / configs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    (root / facts / "cub").mkdir(parents=True)
    (root / facts / "cub" / "taxonomy.csv").write_text("species\n")
    monkeypatch.setattr(shipped, "PACKAGE", root / "fgvc")
    return root


@pytest.fixture(params=["wheel", "clone"])
def root(request, tmp_path, monkeypatch):
    if request.param == "wheel":
        return layout(tmp_path, "fgvc/_configs", "fgvc/_facts", monkeypatch)
    return layout(tmp_path, "configs", "data", monkeypatch)


def test_a_stem_is_found_in_every_folder_of_configs(root):
    for stem, tail in (
        ("quickstart", "quickstart.yaml"),
        ("birds", "data/birds.yaml"),
        ("ra_cnn", "methods/ra_cnn.yaml"),
    ):
        found = shipped.config_file(stem)
        assert found.is_file()
        assert found.is_relative_to(root)
        assert found.as_posix().endswith(tail)


def test_the_packaged_files_win_over_a_folder_that_happens_to_lie_beside_the_package(tmp_path, monkeypatch):
    layout(tmp_path, "fgvc/_configs", "fgvc/_facts", monkeypatch)
    (tmp_path / "configs").mkdir()
    (tmp_path / "data").mkdir()
    assert shipped.config_file("birds").parts[-4:] == ("fgvc", "_configs", "data", "birds.yaml")
    assert shipped.facts("cub/taxonomy.csv").parts[-3:] == ("_facts", "cub", "taxonomy.csv")


def test_a_path_that_exists_is_taken_as_it_is(root, tmp_path):
    own = tmp_path / "birds.yaml"
    own.write_text("{}\n")
    assert shipped.config_file(own) == own
    assert shipped.config_file(str(own)) == own


def test_a_file_in_the_working_folder_is_named_by_its_file_name(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("birds.yaml").write_text("mine: 1\n")
    assert shipped.config_file("birds.yaml").read_text() == "mine: 1\n"
    assert shipped.config_file("birds").read_text() == "{}\n"


def test_a_folder_of_that_name_does_not_hide_the_stem(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("birds").mkdir()
    assert shipped.config_file("birds").name == "birds.yaml"


@pytest.mark.parametrize("typed", ["brids", "birds.yml"])
def test_an_unknown_stem_is_refused_with_the_nearest_one_and_the_folders(root, typed):
    with pytest.raises(UsageError) as caught:
        shipped.config_file(typed)
    message = str(caught.value)
    assert repr(typed) in message
    assert "did you mean 'birds'?" in message
    assert all(str(folder) in message for folder in shipped._config_folders())
    assert "\n" not in message


def test_two_configs_of_one_stem_are_refused(root):
    folder = shipped.config_file("ra_cnn").parent
    (folder / "birds.yaml").write_text("{}\n")
    with pytest.raises(FgvcError, match="'birds' is taken by"):
        shipped.config_stems()


def test_facts_are_found_and_a_missing_one_is_one_line(root):
    assert shipped.facts("cub/taxonomy.csv").read_text() == "species\n"
    with pytest.raises(FgvcError, match=r"none\.csv: the label facts are missing"):
        shipped.facts("cub/none.csv")


def test_the_stems_of_our_own_configs_are_unique():
    stems = Counter(path.stem for path in (REPO / "configs").rglob("*.yaml"))
    assert stems["cub"] == 1
    assert set(stems.values()) == {1}
    assert set(shipped.config_stems()) == set(stems)


def test_our_own_facts_are_found():
    assert shipped.facts("cub/taxonomy.csv").samefile(REPO / "data" / "cub" / "taxonomy.csv")
