import json
import os
import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import timm
import torch
from fakes.tiny_model import PLAIN, TAXONOMY, certified, saved, tiny_model
from safetensors.torch import load_file, save_file
from stored import make

from fgvc.__main__ import main
from fgvc.errors import FgvcError
from fgvc.images.resizing import EvalResize
from fgvc.model_file import model as model_file
from fgvc.model_file.architecture import build
from fgvc.model_file.migrations import FORMAT, OLDEST
from fgvc.model_file.model import Model, ModelFileError, load, read_calibration, read_state, read_weights, save
from fgvc.taxonomy.tree import Taxonomy

STORED = sorted((Path(__file__).parents[1] / "stored").glob("format_*"))


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


EVENTS: list[list[tuple[str, str]]] = []


@contextmanager
def watching() -> Iterator[list[tuple[str, str]]]:
    """Note what Python opens, starts and connects to."""
    if not EVENTS:
        sys.addaudithook(_noted)  # which stays until the process ends
    EVENTS.append([])
    yield EVENTS[-1]
    EVENTS.append([])


def _noted(event: str, args: tuple) -> None:
    if event == "open" or event.startswith(("socket.", "subprocess.", "os.", "urllib.", "ctypes.dlopen", "exec")):
        EVENTS[-1].append((event, str(args[0]) if args else ""))


def alter(folder: Path, **changes) -> None:
    path = folder / "fgvc.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def swap(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Put other weights into a model, which then knows no hash of them."""
    save_file(state, folder / "model.safetensors")
    alter(folder, weights_sha256=None)


def with_argument(part: str, key: str, value) -> dict:
    """Return the architecture of the tests with another argument of one of its parts."""
    plain = json.loads(json.dumps(PLAIN))
    plain["init_args"][part]["init_args"][key] = value
    return plain


def refusal(folder: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_model_answers_bit_for_bit_as_before(tmp_path):
    pretrained = json.loads(json.dumps(PLAIN).replace('"none"', '"pretrained"'))
    before = tiny_model({"species": 0.7, "genus": 2.0})
    before.architecture, before.resize = pretrained, EvalResize(40, "squash", 0.9)
    before.provenance = {"data": "Vögel", "top1": 0.5}
    before.vouching, before.readout = certified(0.7), "marginal"
    after = load(save(before, tmp_path / "runs" / "a b" / "Modell ü"))
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = (model.recognizer(images) for model in (before, after))
    assert torch.equal(found.logits["species"], expected.logits["species"])
    assert torch.equal(found.embedding, expected.embedding)
    assert not any(module.training for module in after.recognizer.modules())
    assert after.taxonomy == TAXONOMY
    for key in ("architecture", "resize", "temperatures", "provenance", "vouching", "readout"):
        assert getattr(after, key) == getattr(before, key)


def test_loading_draws_no_random_numbers(folder):
    state = torch.get_rng_state()
    load(folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("home", STORED, ids=lambda path: path.name)
def test_what_an_older_fgvc_stored_still_gives_the_answer_of_plain_timm(home):
    number = int(home.name.removeprefix("format_"))
    described = json.loads((home / "fgvc.json").read_text())
    assert described["format"] == number
    model = load(home)
    with torch.inference_mode():
        found = model.recognizer(make.picture()).logits
        torch.testing.assert_close(found["species"], make.answer(home / "model.safetensors"), rtol=1e-4, atol=1e-4)
    expected = torch.tensor(json.loads((home / "answer.json").read_text()))
    torch.testing.assert_close(found["species"], expected, rtol=1e-3, atol=1e-3)
    assert model.taxonomy == Taxonomy(["family", "species"], make.LEAVES)
    assert (model.resize, model.temperatures) == (EvalResize(40, "squash", 0.9), {"species": 1.5})
    arguments = make.PLAIN["init_args"]["head"]["init_args"]
    pooling = {"pooling": {"class_path": "AveragePooling"}} if number < 5 else {}  # the default was another
    assert model.architecture["init_args"]["head"]["init_args"] == {**pooling, **arguments}
    assert model.architecture["init_args"]["backbone"] == make.PLAIN["init_args"]["backbone"]
    assert model.provenance == {"run": "stored", "checkpoint": "best.ckpt", "metrics": {"val/loss": None}}
    assert model.readout == ("own" if number < 4 else "marginal")
    assert model.vouching == (None if number == 1 else certified(0.5)._replace(answered=(100,) * 201, wrong=tuple(
        w // 10 for w in certified(0.5).wrong)))  # fmt: skip


@pytest.mark.parametrize("home", STORED, ids=lambda path: path.name)
def test_what_an_older_fgvc_stored_is_saved_in_todays_format(home, tmp_path):
    before = load(home)
    after = load(save(before, tmp_path))
    assert json.loads((tmp_path / "fgvc.json").read_text())["format"] == FORMAT
    for key in ("architecture", "resize", "temperatures", "provenance", "vouching", "readout", "taxonomy"):
        assert getattr(after, key) == getattr(before, key)


def test_every_format_is_stored_once_and_small():
    assert [path.name for path in STORED] == [f"format_{number}" for number in range(OLDEST, FORMAT + 1)]
    assert all(file.stat().st_size < 100_000 for home in STORED for file in home.iterdir())


def test_a_model_is_two_files_and_is_found_in_its_run_folder(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["fgvc.json", "model.safetensors"]
    assert load(folder.parent).temperatures == {"species": 1.5}


def test_a_model_may_be_saved_where_it_was_loaded_from(folder):
    model = load(folder)
    before = {key: value.clone() for key, value in model.recognizer.state_dict().items()}
    model.temperatures, model.vouching = {"species": 2.5}, certified(0.5)
    save(model, folder)
    after = load(folder)
    assert (after.temperatures, after.vouching) == ({"species": 2.5}, certified(0.5))
    assert all(torch.equal(value, before[key]) for key, value in after.recognizer.state_dict().items())


def test_a_metric_that_is_no_number_is_null_in_the_file(tmp_path):
    model = tiny_model()
    model.provenance = {"metrics": {"val/loss": float("nan"), "val/top1": 0.5}}
    assert load(save(model, tmp_path)).provenance == {"metrics": {"val/loss": None, "val/top1": 0.5}}
    assert "NaN" not in (tmp_path / "fgvc.json").read_text()


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
    cosine = {**PLAIN, "init_args": {**PLAIN["init_args"], "head": {"class_path": "CosineHead"}}}
    with pytest.raises(ModelFileError) as caught:
        read_weights(build(cosine, TAXONOMY, 32, weights="none"), folder)
    assert str(caught.value) == (
        f"{folder / 'model.safetensors'}: not the tensors of this architecture: 2 missing (head.scale, ...), "
        "2 unexpected (head.classifier.bias, ...)"
    )


def test_tensors_and_classes_are_read_without_the_network(folder):
    state, taxonomy = read_state(folder.parent)
    expected = load(folder).recognizer.state_dict()
    assert taxonomy == TAXONOMY
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state)


def test_what_calibration_chose_is_read_without_the_weights(folder):
    (folder / "model.safetensors").unlink()
    assert read_calibration(folder.parent) == read_calibration(folder) == ({"species": 1.5}, "own", "")
    alter(folder, temperatures={"genus": 2}, readout="marginal", provenance={"calibration": {"split": "val"}})
    assert read_calibration(folder) == ({"genus": 2.0}, "marginal", "val")
    with pytest.raises(ModelFileError, match="no model here"):
        read_calibration(folder / "gone")


@pytest.mark.parametrize(
    "name", ["os.system", "torch.hub.load", "builtins.eval", "fgvc.methods.heads.linear.LinearHead"]
)
def test_a_description_cannot_name_foreign_code(folder, name):
    for architecture, where in (
        ({"class_path": name}, "architecture"),
        ({"class_path": "WholeImage", "init_args": {"head": {"class_path": name}}}, "architecture.WholeImage.head"),
    ):
        alter(folder, architecture=architecture)
        assert refusal(folder).startswith(f"{folder / 'fgvc.json'}: {where}: no class {name!r} in fgvc")
    alter(folder, architecture=[name])
    assert (
        refusal(folder)
        == f"{folder / 'fgvc.json'}: architecture: [{name!r}] is not a mapping with class_path and init_args"
    )


HUGE = 100_000


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (with_argument("head", "dropout", "0.1"),
         "architecture.WholeImage.head.LinearHead.dropout: '0.1'; it takes a number"),
        (with_argument("backbone", "name", 3), "architecture.WholeImage.backbone.Backbone.name: 3; it takes a text"),
        (with_argument("backbone", "name", "hf-hub:a/b"), "backbone: timm has no model 'hf-hub:a/b'"),
        (with_argument("backbone", "model_args", {"checkpoint_path": "/etc/passwd"}),
         "backbone test_resnet: model_args ['checkpoint_path'] are set by Backbone itself; see `weights`"),
        (with_argument("backbone", "image_size", 64), "architecture: its arguments do not fit (Backbone.__init__() got "
         "multiple values for argument 'image_size')"),
        (with_argument("backbone", "model_args", {"layers": [HUGE] * 4}),
         "backbone test_resnet: timm cannot create it (it has far more tensors than the 94 of its weights)"),
        (with_argument("backbone", "model_args", {"device": "meta"}),
         "backbone test_resnet: model_args ['device'] are set by Backbone itself; see `weights`"),
        (PLAIN["init_args"]["backbone"], "architecture: Backbone is a part, not a recognizer"),
    ],
)  # fmt: skip
def test_an_architecture_that_does_not_fit_is_one_line(folder, architecture, said):
    alter(folder, architecture=architecture)
    assert refusal(folder) == f"{folder / 'fgvc.json'}: {said}"


@pytest.mark.parametrize(
    "architecture",
    [
        with_argument("backbone", "model_args", {"channels": [HUGE] * 4}),  # 360 gigabytes in one layer
        {**PLAIN, "init_args": {**PLAIN["init_args"], "head": {"class_path": "FGNHead", "init_args": {"width": HUGE}}}},
    ],
)
def test_a_network_larger_than_its_file_is_refused_before_it_is_made(folder, architecture):
    alter(folder, architecture=architecture)
    assert refusal(folder).startswith(f"{folder / 'model.safetensors'}: ")


def test_loading_opens_nothing_but_the_two_files_and_no_connection(folder, tmp_path):
    trap = tmp_path / "trap.safetensors"
    save_file({"a": torch.zeros(1)}, trap)
    alter(folder, architecture=with_argument("backbone", "weights", str(trap)))
    load(folder)  # what is imported late is imported now
    with watching() as seen:
        load(folder)
    assert {Path(name).name for event, name in seen} == {"fgvc.json", "model.safetensors"}
    assert {event for event, name in seen} <= {"open", "os.stat"}


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_pickled_weights_run_nothing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for content in (pickle.dumps(Bomb()), pickle.dumps(Bomb(), 0)):
        Path("model.safetensors").write_bytes(content)
        refusal(folder)
    torch.save({"a": Bomb()}, "model.safetensors")
    assert refusal(folder).endswith(": a pickle; fgvc reads safetensors only, for a pickle can run anything")
    assert not Path("exploded").exists()


def test_weights_of_another_model_are_refused_by_the_first_odd_tensor(folder, tmp_path):
    path = folder / "model.safetensors"
    other = saved(tmp_path / "other", taxonomy=Taxonomy.flat("abc")) / "model"
    state = load_file(path)
    swap(folder, load_file(other / "model.safetensors"))
    assert refusal(folder) == (
        f"{path}: head.classifier.weight is float32 (3, 96); this architecture and these classes ask for "
        "float32 (5, 96)"
    )
    swap(folder, {**state, "head.classifier.bias": state["head.classifier.bias"].half()})
    assert refusal(folder) == (
        f"{path}: head.classifier.bias is float16 (5,); this architecture and these classes ask for float32 (5,)"
    )
    del state["head.classifier.bias"]
    swap(folder, {**state, "x": torch.zeros(1), "y": torch.zeros(1)})
    assert refusal(folder) == (
        f"{path}: not the tensors of this architecture: 1 missing (head.classifier.bias), 2 unexpected (x, ...)"
    )


@pytest.mark.parametrize("name", ["head.classifier.bias", "backbone.net.bn1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder, name, value):
    state = load_file(folder / "model.safetensors")
    state[name][1] = value
    swap(folder, state)
    said = (
        f"{folder / 'model.safetensors'}: 1 of {len(state[name])} numbers of {name} are NaN or infinite: its training "
        "went wrong; train again, with a lower learning rate"
    )
    assert refusal(folder) == said
    with pytest.raises(ModelFileError, match="are NaN or infinite"):
        read_weights(build(PLAIN, TAXONOMY, 32, weights="none"), folder)


def test_a_full_disk_is_one_line_and_the_model_before_is_whole(folder, monkeypatch):
    def full(_state, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(model_file, "save_file", full)
    with pytest.raises(FgvcError, match=r"the model cannot be written.*No space left"):
        save(tiny_model(taxonomy=Taxonomy.flat("abc")), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_model_of_a_run_on_defaults_has_empty_temperatures_and_provenance():
    model = Model(tiny_model().recognizer, PLAIN, EvalResize(32))
    assert (model.temperatures, model.provenance, model.vouching) == ({}, {}, None)


def test_changed_bytes_are_refused_in_one_line_or_change_nothing(folder):
    draw = random.Random(0)
    for name in ("fgvc.json", "model.safetensors"):
        whole = (folder / name).read_bytes()
        for _ in range(60):
            spoiled = bytearray(whole)
            for _ in range(draw.randint(1, 3)):
                spoiled[draw.randrange(min(len(spoiled), 6000))] = draw.randrange(256)
            (folder / name).write_bytes(spoiled)
            try:
                load(folder)
            except ModelFileError as error:
                assert "\n" not in str(error)
        (folder / name).write_bytes(whole)
    assert load(folder).temperatures == {"species": 1.5}


def test_a_user_sees_one_line_and_an_exit_code(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bird.jpg").write_bytes(b"never read")
    alter(folder, image_size="abc")
    assert main(["predict", str(folder), "bird.jpg"]) == 1
    assert capsys.readouterr().err == f"fgvc: {folder / 'fgvc.json'}: image_size: 'abc'; an integer of 1 to 8192\n"
    assert main(["predict", str(folder / "gone"), "bird.jpg"]) == 2
    assert capsys.readouterr().err == (
        f"fgvc: {folder / 'gone'}: no model here (no such folder); give a run folder or the model folder inside it\n"
    )
