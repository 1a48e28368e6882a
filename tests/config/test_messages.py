import pytest
from fakes.tiny_run import CPU, NET, data_flags, make_photos

from fgvc.__main__ import main
from fgvc.config import messages
from fgvc.config.messages import in_one_line

HEAD = "model: {recognizer: {class_path: WholeImage, init_args: {head: {class_path: %s, init_args: {%s}}}}}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("data") / "photos", train=2, val=0, test=1)


@pytest.fixture
def said(photos, tmp_path, monkeypatch, capsys):
    """Return what `fgvc fit` with some wrong words says: one line, exit code 2, and nothing was written."""
    monkeypatch.chdir(tmp_path)

    whole = [*data_flags(photos), *NET, *CPU]

    def run(*words, base=whole):
        code = main(["fit", *base, *words])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert err.startswith("fgvc: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
        return err.removeprefix("fgvc: ").rstrip("\n")

    return run


NESTED = "--model.recognizer.init_args.head.init_args"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--modle.lr", "1"], "modle.lr: unknown key; did you mean 'model.lr'?"),
        (["--model.lrr=1"], "model.lrr: unknown key; did you mean 'model.lr'?"),
        (["--trainer.max_epoch", "1"], "trainer.max_epoch: unknown key; did you mean 'trainer.max_epochs'?"),
        (["--data.crop_fractoin", "1"], "data.crop_fractoin: unknown key; did you mean 'data.crop_fraction'?"),
        ([f"{NESTED}.dropot", "0.1"], "model.recognizer.head: unknown key 'dropot'; did you mean 'dropout'?"),
        (["--phases", "[{name: head, epoch: 1}]"], "phases: unknown key 'epoch'; did you mean 'epochs'?"),
        (["stray"], "stray: no such folder of photographs, table or run"),
        (["--model.lr", "fast"], "model.lr: 'fast' given, but it takes a float"),
        (["--data.batch_size", "many"], "data.batch_size: 'many' given, but it takes an int"),
        (["--data.num_workers", "x"], "data.num_workers: 'x' given, but it takes an int or null"),
        (["--data.num_workers="], "data.num_workers: '' given, but it takes an int or null"),
        (["--seed_everything="], "seed_everything: '' given, but it takes true or false or an int"),
        (["---model.lr=1"], "---model.lr: a flag begins with two dashes: --model.lr"),
        (["--data.image_size=64"], "data.image_size: follows from model.image_size; give that"),
        (["--data.fit"], "--data.fit: give a value after it"),
        (["--data.fit", "stretch"], "data.fit: 'stretch' given, but it takes one of 'crop', 'squash' or null"),
        (["--data.episodes.n_way", "x"], "data.episodes.n_way: 'x' given, but it takes an int"),
        (["--data.episodes.val_n_shot", "x"], "data.episodes.val_n_shot: 'x' given, but it takes an int or null"),
        (["--data.episodes.n_wya", "3"], "data.episodes: unknown key 'n_wya'; did you mean 'n_way'?"),
        (
            ["--data.episodes", "5"],
            "data.episodes: '5' given, but it holds keys of its own, as in --data.episodes.KEY VALUE",
        ),
        (
            ["--data.episodes", "[3]"],
            "data.episodes: [3] given, but it holds keys of its own, as in --data.episodes.KEY VALUE",
        ),
        ([f"{NESTED}.dropout", "much"], "model.recognizer.head.dropout: 'much' given, but it takes a float"),
        (["--model.recognizer", "WholeImag"], "model.recognizer: no class 'WholeImag'; did you mean 'WholeImage'?"),
        (["--model.recognizer", "LinearHead"], "model.recognizer: LinearHead does not belong here"),
        (
            ["--model.recognizer", "elsewhere.Net"],
            "model.recognizer: no module 'elsewhere'; it must lie in this folder or be installed",
        ),
        (["--data.source", "ImageFolde"], "data.source: no class 'ImageFolde'; did you mean 'ImageFolder'?"),
        (["--data.source.init_args.root", "nowhere"], "nowhere: no such folder of photographs"),
        (["--data.batch_size", "40"], "data.batch_size: 40, but there are only 6 training images"),
        (
            ["--trainer.max_epochs=-1"],
            "trainer.max_epochs: -1 has no end, but the learning rate falls to one; give a number",
        ),
        (
            ["--phases", "[{name: haed, epochs: 1}]"],
            "phase 'haed': WholeImage knows ['all', 'head']; did you mean 'head'?",
        ),
        (["--ema", "1.5"], "ema.decay: 1.5; it must be at least 0 and below 1 (usual: 0.999)"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_one_line_with_the_nearest_match(said, words, line):
    assert said(*words) == line


def test_an_argument_that_may_be_null_is_named_with_what_was_given(said):
    line = said("--config", "ra_cnn", "--model.recognizer.init_args.crop_size", "big")
    assert line == "model.recognizer.crop_size: 'big' given, but it takes an int or null"


def test_an_unknown_word_of_the_trainer_is_one_line(said):
    assert (
        said("--trainer.accelerator", "abacus") == "trainer.accelerator: 'abacus'; it takes auto, gpu, cpu, cuda, mps"
    )
    assert said("--trainer.precision", "15").startswith("trainer.precision: '15' given, but it takes one of 64, 32, 16")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model: {lrr: 1}", "model.lrr: unknown key; did you mean 'model.lr'?"),
        ("modle: {lr: 1}", "modle.lr: unknown key; did you mean 'model.lr'?"),
        ("model: {lr: fast}", "model.lr: 'fast' given, but it takes a float"),
        (HEAD % ("LinearHead", "dropot: 0"), "model.recognizer.head: unknown key 'dropot'; did you mean 'dropout'?"),
        (HEAD % ("LinearHead", "dropout: x"), "model.recognizer.head.dropout: 'x' given, but it takes a float"),
        (
            HEAD % ("LinaerHead", ""),
            "model.recognizer.head: no class 'LinaerHead'; "
            "did you mean 'LinearHead' or 'CosineHead' or 'SoftLabelHead'?",
        ),
        (
            "data: {source: {class_path: ImageFolder, init_args: {rooot: x}}}",
            "data.source: unknown key 'rooot'; did you mean 'root'?",
        ),
        ("model:\n  lr: [", "my.yaml: line 2: no valid YAML (expected the node content, but found '<stream end>')"),
        ("", "my.yaml: holds nothing; a config holds keys such as data, model and trainer"),
        ("- a", "my.yaml: holds a list; a config holds keys such as data, model and trainer"),
    ],
)
def test_a_wrong_config_file_is_one_line(said, tmp_path, text, line):
    (tmp_path / "my.yaml").write_text(text)
    found = said("--config", "my.yaml")
    # PyYAML words its own part; which line it is must be right
    assert found == line or (found.startswith("my.yaml: line 2: no valid YAML (") and "line 2" in line)


@pytest.mark.parametrize(
    ("base", "line"),
    [
        (NET, "missing data.source; give a --config that has it, or the flag --data.source"),
        (
            ["--data.source", "ImageFolder", *NET],
            "missing data.source.root; give a --config that has it, or the flag --data.source.root",
        ),
        ([], "missing model.recognizer and data.source; give a --config that has it, or the flag --model.recognizer"),
    ],
)
def test_a_missing_key_is_named(said, base, line):
    assert said(base=base) == line


def test_an_unknown_config_stem_is_one_line(said):
    line = said("--config", "cubb")
    assert line.startswith("config 'cubb': no such file and no such stem in ")
    assert line.endswith("; did you mean 'cub'?")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["fitt"], "no command 'fitt'; there are fit, "),
        (["test"], "fgvc test: give a run folder, e.g. fgvc test runs/latest"),
        (["validate", "runs/zzz"], "runs/zzz: no run folder (no config.yaml in it); give the folder that `fgvc fit`"),
    ],
)
def test_a_wrong_command_is_one_line(capsys, words, line):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fgvc: {line}") and err.count("\n") == 1
    assert words != ["fitt"] or err.endswith("did you mean 'fit'?\n")


def test_the_trace_is_shown_on_request(said, monkeypatch, capsys, photos):
    monkeypatch.setenv("FGVC_DEBUG", "1")
    assert main(["fit", *data_flags(photos), *NET, "--model.lr", "fast"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith("fgvc: model.lr: 'fast' given, but it takes a float\n")


def test_a_message_of_a_kind_never_seen_is_one_line_too():
    assert in_one_line(ValueError("some\n  thing\nelse " * 200)).startswith("config: some thing else some thing else")
    assert len(in_one_line(ValueError("some\n  thing\nelse " * 200))) < 450


COMMON = {
    "a misspelt flag": ["--modle.lr", "1"],
    "a misspelt key": ["--model.lrr=1"],
    "a misspelt argument of a class": [f"{NESTED}.dropot", "0.1"],
    "a text for a number": ["--model.lr", "fast"],
    "a text for a number or null": ["--data.num_workers", "x"],
    "a wrong choice": ["--data.fit", "stretch"],
    "a flag without a value": ["--data.fit"],
    "a misspelt class": ["--model.recognizer", "WholeImag"],
    "a class of another slot": ["--model.recognizer", "LinearHead"],
    "a module that is not there": ["--model.recognizer", "elsewhere.Net"],
    "a key that follows from another": ["--data.image_size=64"],
    "a stray word": ["stray"],
}


@pytest.mark.parametrize("mistake", COMMON)
def test_a_common_mistake_never_falls_through_to_the_parsers_own_words(said, monkeypatch, mistake):
    """Fails when another release of the parser words it anew; the oldest pin of pyproject.toml passes, too."""
    monkeypatch.setattr(messages, "_as_it_is", lambda text, where: pytest.fail(f"not understood: {text}"))
    assert said(*COMMON[mistake])


def test_a_missing_key_never_falls_through_to_the_parsers_own_words(said, monkeypatch):
    monkeypatch.setattr(messages, "_as_it_is", lambda text, where: pytest.fail(f"not understood: {text}"))
    assert said(base=NET).startswith("missing data.source")
