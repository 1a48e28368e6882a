import json
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from tiny_model import PLAIN, TAXONOMY, certified, saved, tiny_model

from fgvc import model_file
from fgvc.architecture import build
from fgvc.errors import FgvcError, UsageError
from fgvc.images import EvalResize
from fgvc.model_file import Model, ModelFileError, load, read_temperatures, read_weights, save
from fgvc.taxonomy import Taxonomy

COUNTS = certified(0.5).to_plain()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Any network that asks for pretrained weights fails the test."""
    create = timm.create_model

    def spy(*args, **options):
        assert options.get("pretrained") is False
        return create(*args, **options)

    monkeypatch.setattr(timm, "create_model", spy)


@pytest.fixture
def folder(tmp_path) -> Path:
    return saved(tmp_path, temperatures={"species": 1.5}) / "model"


def alter(folder: Path, **changes) -> None:
    path = folder / "fgvc.json"
    described = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in described.items() if value is not ...}))


def refusal(folder: Path, error: type[FgvcError] = ModelFileError) -> str:
    with pytest.raises(FgvcError) as caught:
        load(folder)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_model_answers_bit_for_bit_as_before(tmp_path):
    pretrained = json.loads(json.dumps(PLAIN).replace('"none"', '"pretrained"'))
    before = tiny_model({"species": 0.7, "genus": 2.0})
    before.architecture, before.resize = pretrained, EvalResize(40, "squash", 0.9)
    before.provenance = {"data": "Vögel", "top1": 0.5}
    before.vouching = certified(0.7)
    after = load(save(before, tmp_path / "runs" / "a" / "model"))
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = (model.recognizer(images) for model in (before, after))
    assert torch.equal(found.logits["species"], expected.logits["species"])
    assert torch.equal(found.embedding, expected.embedding)
    assert not any(module.training for module in after.recognizer.modules())
    assert after.taxonomy == TAXONOMY
    for key in ("architecture", "resize", "temperatures", "provenance", "vouching"):
        assert getattr(after, key) == getattr(before, key)


def test_a_model_is_two_files_and_is_found_in_its_run_folder(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["fgvc.json", "model.safetensors"]
    assert load(folder.parent).temperatures == {"species": 1.5}


def test_class_names_that_are_no_utf8_survive(tmp_path):
    names = [os.fsdecode(b"M\xf6we"), "鳥", "b", "c", "d"]
    folder = saved(tmp_path, taxonomy=Taxonomy.flat(names)) / "model"
    assert load(folder).taxonomy.names("class") == tuple(names)
    assert "鳥" in (folder / "fgvc.json").read_text(encoding="utf-8", errors="surrogateescape")


def test_weights_are_read_into_a_model_of_the_same_classes_only(folder):
    torch.manual_seed(9)
    other = build(PLAIN, TAXONOMY, 32, weights="none")
    read_weights(other, folder.parent)
    expected = load(folder).recognizer.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in other.state_dict().items())
    with pytest.raises(ModelFileError, match="other classes than the data"):
        read_weights(build(PLAIN, Taxonomy.flat("abcde"), 32, weights="none"), folder)


def test_a_folder_without_a_model_is_named(tmp_path):
    assert f"{tmp_path}: no model here (no fgvc.json)" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "format 3 is newer than this fgvc reads (2); update fgvc"),
        ({"format": "1"}, "not an fgvc model description"),
        ({"taxonomy": ...}, "keys missing or unknown: ['taxonomy']"),
        ({"run_this": "os.system"}, "keys missing or unknown: ['run_this']"),
        ({"taxonomy": {"levels": ["a"]}}, "damaged (KeyError('leaves'))"),
        ({"taxonomy": 3}, "damaged (TypeError"),
        ({"input": {"siez": 3}}, "damaged (TypeError"),
        ({"temperatures": {"species": "hot"}}, "damaged (ValueError"),
        ({"temperatures": []}, "damaged (AttributeError"),
        ({"vouching": ...}, "keys missing or unknown: ['vouching']"),
        ({"vouching": 3}, 'damaged (UsageError("vouching: 3 is not'),
        ({"vouching": {"answered": [1] * 201}}, "damaged (UsageError(\"vouching: {'answered'"),
        ({"vouching": COUNTS | {"answered": [1]}}, "vouching.answered: not a list of 201 counts"),
        ({"vouching": COUNTS | {"wrong": [0.5] * 201}}, "vouching.wrong: 0.5 is no count"),
        ({"vouching": COUNTS | {"wrong": [1001] * 201}}, "vouching: 1001 wrong of 1000 answers"),
    ],
)
def test_a_description_that_is_not_ours_is_one_line(folder, changes, message):
    alter(folder, **changes)
    found = refusal(folder)
    assert message in found
    assert str(folder / "fgvc.json") in found


def test_a_file_of_format_1_still_loads_and_vouches_for_nothing(folder):
    described = json.loads((folder / "fgvc.json").read_text())
    assert described["format"] == 2 and described["vouching"] is None
    alter(folder, format=1, vouching=...)
    model = load(folder)
    assert model.vouching is None and model.temperatures == {"species": 1.5} and model.taxonomy == TAXONOMY
    model.vouching = certified(0.5)
    save(model, folder)
    assert json.loads((folder / "fgvc.json").read_text())["format"] == 2
    assert load(folder).vouching == certified(0.5)


@pytest.mark.parametrize(
    ("changes", "odd"), [({"provenance": ...}, "['provenance']"), ({"vuoching": 1}, "['vuoching']")]
)
def test_a_damaged_file_of_format_1_is_not_mended_by_the_keys_of_later_ones(folder, changes, odd):
    alter(folder, format=1, vouching=..., **changes)
    assert f"keys missing or unknown: {odd}" in refusal(folder)


def test_temperatures_are_read_without_the_weights(folder):
    (folder / "model.safetensors").unlink()
    assert read_temperatures(folder.parent) == read_temperatures(folder) == ({"species": 1.5}, "")
    alter(folder, format=1, vouching=..., temperatures={"genus": 2})
    assert read_temperatures(folder)[0] == {"genus": 2.0}
    with pytest.raises(ModelFileError, match="no model here"):
        read_temperatures(folder / "gone")


@pytest.mark.parametrize("name", ["os.system", "torch.hub.load", "builtins.eval"])
def test_a_description_cannot_name_foreign_code(folder, name):
    for architecture in (
        {"class_path": name},
        {"class_path": "WholeImage", "init_args": {"head": {"class_path": name}}},
    ):
        alter(folder, architecture=architecture)
        assert f"no class {name!r} in fgvc" in refusal(folder, UsageError)
    alter(folder, architecture=[name])
    assert "is not a mapping" in refusal(folder, UsageError)


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "arch', b"\xff\xfe\x00", b"[" * 100_000, b"[]"])
def test_a_damaged_description_is_one_line(folder, content):
    (folder / "fgvc.json").write_bytes(content)
    assert str(folder / "fgvc.json") in refusal(folder)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_damaged_missing_or_pickled_weights_are_one_line_and_run_nothing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:4], b"", pickle.dumps(Bomb())):
        path.write_bytes(content)
        assert f"{path}: damaged or missing" in refusal(folder)
    path.unlink()
    assert f"{path}: damaged or missing" in refusal(folder)
    assert not (folder / "exploded").exists()


def test_weights_of_another_model_are_refused(folder, tmp_path):
    other = saved(tmp_path / "other", taxonomy=Taxonomy.flat("abc")) / "model"
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    message = refusal(folder)
    assert "does not belong to fgvc.json beside it" in message
    assert "size mismatch" in message


def test_a_failed_write_leaves_the_model_before_it_whole(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_state, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_file, "save_file", full)
    with pytest.raises(FgvcError, match=r"the model cannot be written.*No space left"):
        save(tiny_model(taxonomy=Taxonomy.flat("abc")), folder)
    assert {name: (folder / name).read_bytes() for name in before} == before
    monkeypatch.undo()
    with pytest.raises(FgvcError, match="the model cannot be written"):
        save(tiny_model(), folder / "fgvc.json")


def test_the_model_of_a_run_on_defaults_has_empty_temperatures_and_provenance():
    model = Model(tiny_model().recognizer, PLAIN, EvalResize(32))
    assert (model.temperatures, model.provenance, model.vouching) == ({}, {}, None)


def test_damaged_temperatures_are_one_line(tmp_path):
    folder = saved(tmp_path) / "model"
    described = json.loads((folder / "fgvc.json").read_text())
    for wrong in ([1.0], {"species": "warm"}, {"species": None}):
        (folder / "fgvc.json").write_text(json.dumps({**described, "temperatures": wrong}))
        with pytest.raises(ModelFileError, match=r"fgvc\.json: damaged \(.*copy it again"):
            read_temperatures(folder)
