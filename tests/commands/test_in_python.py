"""`fgvc.fit` and its sisters against the command line with the same words."""

import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from fakes.html_seen import Seen
from fakes.tiny_run import BACKBONE, CPU, NET, make_photos, read_csv
from fakes.tiny_run import data_flags as flags_of_folder
from PIL import Image

import fgvc
from fgvc.__main__ import main
from fgvc.commands import evaluate
from fgvc.commands import fit as fit_command
from fgvc.commands.in_python import TrainedRun, words_of

KEYS = {
    "model": {
        "recognizer": "WholeImage",
        "image_size": 32,
        "lr": 0.01,
    },
    "model.recognizer.init_args.backbone": "Backbone",
    f"{BACKBONE[2:]}.name": "test_resnet",
    f"{BACKBONE[2:]}.weights": "none",
    "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1},
    "data": {"batch_size": 4, "val_fraction": 0.0, "num_workers": 0},
    "data.source.init_args.levels": ["genus", "species"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run that was trained and tested from a thread, as some notebooks work."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_photos(Path("photos"), train=4, val=2, test=2)
        made = []

        def work():
            made.append(fgvc.fit("photos", name="birds", **KEYS))
            made.append(fgvc.test(made[0], **{"data.num_workers": 0}))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(made) == 2
    return folder


def test_the_same_words_give_the_same_run(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    words = [*NET, *CPU, *flags_of_folder(Path("photos")), "--model.lr", "0.01", "--trainer.max_epochs", "1"]
    assert main(["fit", *words, "--name", "typed"]) == 0
    assert "val/species/top1" in capsys.readouterr().out
    configs = [yaml.safe_load(Path("runs", name, "config.yaml").read_text()) for name in ("birds", "typed")]
    assert [config.pop("name") for config in configs] == ["birds", "typed"]
    assert configs[0] == configs[1]
    curves = [read_csv(Path("runs", name, "metrics.csv")) for name in ("birds", "typed")]
    known = [[{k: v for k, v in row.items() if "second" not in k} for row in curve] for curve in curves]
    assert known[0] == known[1] and known[0]


def test_a_run_knows_its_scores_its_page_and_its_model(home, monkeypatch):
    monkeypatch.chdir(home)
    run = TrainedRun(Path("runs/birds"))
    stored = json.loads(Path("runs/birds/test.json").read_text())
    numbers = {name: one for name, one in stored.items() if isinstance(one, int | float)}
    assert numbers.items() <= run.scores.items() and "test/species/top1" in numbers
    assert {name.partition("/")[0] for name in run.scores} >= {"val", "test"}
    assert run.report == Path("runs/birds/report.html") and run.report.is_file()
    photo = next(Path("photos/test").rglob("*.png"))
    answers = [run.predictor("cpu").predict(photo), fgvc.predict(run, photo, device="cpu", top_k=5)]
    assert answers[0] == answers[1] == fgvc.load(run, "cpu").predict(photo)
    latest = Path("runs/latest").read_text().strip()
    assert fgvc.validate("runs/latest", **{"data.num_workers": 0}).folder == Path("runs", latest)


def test_a_test_on_other_data_leaves_the_runs_own_scores(home, monkeypatch):
    monkeypatch.chdir(home)
    own = TrainedRun(Path("runs/birds")).scores
    other = Path("others/Larus/Larus canus")
    other.mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.full((40, 48, 3), 80 * i, dtype=np.uint8)).save(other / f"{i}.png")
    run = fgvc.test("runs/birds", data="others", **{"data.num_workers": 0})
    assert (run.folder, run.scored) == (Path("runs/birds"), Path("runs/birds/test_others"))
    assert run.scores["test/species/top1"] == json.loads((run.scored / "test.json").read_text())["test/species/top1"]
    assert TrainedRun(run.folder).scores == own
    assert run.report == run.scored / "report.html"


@pytest.mark.parametrize(
    ("words", "keys", "typed"),
    [
        (("photos", "--name", "x"), {}, ["photos", "--name", "x"]),
        ((Path("a b"),), {"config": ["cub", Path("my.yaml")]}, ["a b", "--config=cub", "--config=my.yaml"]),
        ((), {"config": "whole_image", "overwrite": True}, ["--config=whole_image", "--overwrite=true"]),
        ((), {"model": {"lr": 1e-05, "optimizer": "sgd"}}, ["--model.lr=1e-05", "--model.optimizer=sgd"]),
        ((), {"model.lr": np.float32(0.5), "phases": None}, ["--model.lr=0.5", "--phases=null"]),
        ((), {"data": {"source": {"init_args": {"root": Path("x")}}}}, ["--data.source.init_args.root=x"]),
        ((), {"data.source.init_args.levels": ["Größe", "b"]}, ['--data.source.init_args.levels=["Größe", "b"]']),
        ((), {"phases": [{"name": "head", "epochs": 1}]}, ['--phases=[{"name": "head", "epochs": 1}]']),
        ((), {"name": "-odd = name"}, ["--name=-odd = name"]),
    ],
)
def test_words_and_keys_are_what_would_be_typed(words, keys, typed):
    assert words_of(words, keys) == typed


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fgvc.fit("no such folder"), "no such folder: no such folder of photographs, table or run"),
        (lambda: fgvc.fit(3), "3 is no word of a command line; give text, a path, or key=value"),
        (lambda: fgvc.fit("photos", name="birds", **KEYS), "runs/birds: this run exists already; choose another"),
        (lambda: fgvc.fit("photos", "--help"), "fgvc fit: --help and --print_config print and end; type them in a"),
        (lambda: fgvc.test("runs/none"), "runs/none: no run folder (no config.yaml in it); give the folder that"),
        (lambda: fgvc.fit("photos", **KEYS | {"model.lrr": 1}), "model.lrr"),
    ],
)
def test_what_is_wrong_is_raised_and_the_process_goes_on(home, monkeypatch, capsys, call, said):
    monkeypatch.chdir(home)
    with pytest.raises(fgvc.UsageError) as caught:
        call()
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert capsys.readouterr().err == ""


def test_ctrl_c_is_a_keyboard_interrupt_and_works_again_afterwards(monkeypatch, tmp_path):
    def interrupted(words):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904

    monkeypatch.setattr(evaluate, "test", interrupted)
    monkeypatch.setattr(fit_command, "fit", interrupted)
    former = signal.getsignal(signal.SIGINT)
    for call in (lambda: fgvc.test("x"), lambda: fgvc.fit("--name", "x")):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert signal.getsignal(signal.SIGINT) is former


def test_a_run_is_shown_as_a_table_whatever_its_name(tmp_path):
    run = tmp_path / "<script>alert(1)<"
    run.mkdir()
    (run / "test.json").write_text(json.dumps({"test/<img src=x>/top1": 0.5, "photographs": "x", "test/b": 1}))
    seen = Seen(TrainedRun(run)._repr_html_())
    assert seen.tags == {"p", "b", "table", "tr", "td"}
    assert seen.text == [str(run), "test/<img src=x>/top1", "0.5000", "test/b", "1.0000"]


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_scores_are_one_line(tmp_path, text):
    (tmp_path / "test.json").write_text(text)
    with pytest.raises(fgvc.UsageError, match=r"test\.json: no scores .*; score .* again"):
        _ = TrainedRun(tmp_path).scores
