from pathlib import Path

import pytest

from fgvc.config.words import data_words, evaluation_words, fit_words, given, of_run, with_config_paths
from fgvc.errors import UsageError
from fgvc.files.shipped import config_file


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder `runs/birds`, the newest one."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/birds")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {lr: 0.1}\ndata: {interpolation: area}\n")
    (folder / "checkpoints/last.ckpt").touch()
    Path("runs/latest").write_text("birds\n")
    return folder


def test_a_flag_is_one_word_or_two():
    words = ["--a", "1", "--b=2", "--a=", "stray", "--a"]
    assert [(one.name, one.value, words[one.place]) for one in given(words, "--a", "--b")] == [
        ("--a", "1", ["--a", "1"]),
        ("--b", "2", ["--b=2"]),
        ("--a", "", ["--a="]),
        ("--a", None, ["--a"]),
    ]
    assert [one.with_value("9") for one in given(words, "--a", "--b")][:2] == [["--a", "9"], ["--b=9"]]


def test_stems_become_paths_wherever_they_stand():
    cub, hse = str(config_file("cub")), str(config_file("hse"))
    words = ["--config", "cub", "--model.lr", "1", "--config=hse", "-c", "cub"]
    replaced = ["--config", cub, "--model.lr", "1", f"--config={hse}", "-c", cub]
    assert with_config_paths(words) == (replaced, ["cub", "hse", "cub"])
    assert with_config_paths(["--config"]) == (["--config"], [])  # the parser says what is missing


def test_a_run_is_named_after_its_configs_unless_a_name_is_given():
    assert fit_words(["--config", "cub", "--config", "hse"]).words[:2] == ["--name", "cub-hse"]
    assert fit_words(["--model.lr", "1"]).words == ["--name", "run", "--model.lr", "1"]
    assert fit_words(["--name=x"]) == (["--name=x"], None)


@pytest.mark.parametrize("resume", [["--resume", "runs/birds"], ["--resume=runs/latest"]])
def test_a_resumed_run_is_its_config_and_then_what_was_typed(run, resume):
    words, folder = fit_words(["--model.lr", "0.2", *resume, "--trainer.max_epochs", "3"])
    own = ["--config", "runs/birds/config.yaml", "--name", "birds", "--runs", str(run.resolve().parent)]
    assert words == [*own, "--model.lr", "0.2", "--trainer.max_epochs", "3"]
    assert folder == run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume"], "--resume: give the run folder to go on with, e.g. fgvc fit --resume runs/latest"),
        (["--resume", "runs/birds", "--name=x"], "--resume goes on in the same run; --name does not go with it"),
        (["--init_from", "y", "--resume=runs/birds"], "--resume goes on in the same run; --init_from does not go "),
        (["--resume", "runs/none"], "runs/none: no run folder (no config.yaml in it); "),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_resume_is_refused(run, words, said):
    with pytest.raises(UsageError) as caught:
        fit_words(words)
    assert str(caught.value).startswith(said)


def test_a_run_without_a_checkpoint_is_started_again(run):
    (run / "checkpoints/last.ckpt").unlink()
    with pytest.raises(UsageError, match="no checkpoint to go on from; start the run again with --overwrite"):
        fit_words(["--resume", "runs/birds"])


def test_an_evaluation_names_a_run_or_a_config(run):
    words = ["--config", "runs/birds/config.yaml", "--data.batch_size", "2"]
    assert evaluation_words("test", ["runs/latest", "--data.batch_size", "2"]) == (words, run)
    assert evaluation_words("test", ["--config=cub"]) == ([f"--config={config_file('cub')}"], None)
    with pytest.raises(UsageError, match="fgvc test: give a run folder"):
        evaluation_words("test", [])
    assert of_run(run, ["--config", "hse"]) == [*words[:2], "--config", str(config_file("hse"))]


def test_the_one_free_word_of_a_data_command_says_where_the_data_are(run, tmp_path):
    Path("photos").mkdir()
    Path("birds.csv").touch()
    folder = ["--data.source", "ImageFolder", "--data.source.init_args.root", "photos"]
    assert data_words("x", ["--quick", "photos", "--n", "1"], {"--quick"}) == [*folder, "--quick", "--n", "1"]
    assert data_words("x", ["birds.csv"], ()) == ["--data.source", "Table", "--data.source.init_args.path", "birds.csv"]
    for name in ("runs/birds", "runs/latest"):
        assert data_words("x", [name], ()) == ["--config", "runs/birds/config.yaml"]
    assert data_words("x", ["my.yaml", "--n=1"], ()) == ["--config", "my.yaml", "--n=1"]
    assert data_words("x", ["--n", "photos"], ()) == ["--n", "photos"]  # the value of a flag
    for words, said in (
        (["photos", "birds.csv"], "x: 'birds.csv' is one word too many"),
        (["photos", "--config", "cub"], "x: give 'photos' or --config, not both"),
        (["cub"], "cub: no such folder of photographs, table or run; for the config of that name give --config cub"),
    ):
        with pytest.raises(UsageError) as caught:
            data_words("x", words, ())
        assert str(caught.value).startswith(said)
