import gc

import pytest
import yaml

from fgvc.config.yaml_files import MAX_BYTES, as_word, check_file, read_text, with_short_names
from fgvc.errors import UsageError
from fgvc.files.shipped import config_stems
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.training.callbacks.ema import EMA

LAUGHS = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}' if i else 'ha'] * 9)}]\n" for i in range(9))
DEEP = "{a: " * 60 + "1" + "}" * 60
CLASS = "model:\n  recognizer:\n    "


@pytest.fixture
def said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def check(content):
        path = tmp_path.__class__("my.yaml")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(UsageError) as caught:
            check_file(path)
        assert len(str(caught.value)) < 600 and len(str(caught.value).splitlines()) == 1
        return str(caught.value).removeprefix("my.yaml: ")

    return check


@pytest.mark.parametrize("stem", sorted(config_stems()))
def test_every_shipped_config_is_fine(stem):
    assert check_file(config_stems()[stem]) == config_stems()[stem]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "holds nothing; a config holds keys such as data, model and trainer"),
        ("# nothing\n", "holds nothing; a config holds keys such as data, model and trainer"),
        ("- a", "holds a list; a config holds keys such as data, model and trainer"),
        ("model:\n  lr: 1\n  wd: 2\n  lr: 3\n", "line 4: no valid YAML (the key 'lr' is given twice, first in line 2)"),
        ("model: {lr: 1, 1: 2}", "model: the key '1' is no name"),
        ("model: {'': 1}", "model: the key '' is no name"),
        ("null: 1", "the key 'None' is no name"),
        (CLASS + "class_path: [A]", "model.recognizer: class_path: a list; it is the name of a class"),
        (CLASS + "class_path:", "model.recognizer: class_path: null; it is the name of a class"),
        (CLASS + "init_args: 3", "model.recognizer: init_args: 3; it holds keys, the class's arguments"),
        (
            CLASS + "clas_path: WholeImage\n    init_args: {}",
            "model.recognizer: unknown key 'clas_path' beside class_path and init_args; did you mean 'class_path'?",
        ),
        (
            CLASS + "class_path: WholeImage\n    head: LinearHead",
            "model.recognizer: unknown key 'head' beside class_path and init_args; "
            "arguments of the class stand below init_args",
        ),
        ('name: "a\\0b"', "name: 'a\\x00b'; a text without null or half characters"),
        ('runs: ["\\ud800"]', "runs: '\\ud800'; a text without null or half characters"),
        ("a: !!int x", "no valid YAML (a value is not what its tag says: invalid literal for int() with base 10: 'x')"),
        ("model:\n  # Möwe\n  lr: 1\n".encode("latin-1"), "line 2: not UTF-8 text; save the file as UTF-8"),
        (b"\xff\xd8\xff\xe0", "line 1: not UTF-8 text; save the file as UTF-8"),
        ("[" * 5000, "nested too deep for a config"),
        ("a: '" + "x" * MAX_BYTES + "'", "more than 10 MiB; that is no config"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(said, content, line):
    assert said(content) == line


@pytest.mark.parametrize("content", [LAUGHS, DEEP, "a: &a [*a]", "a: &a {b: *a}"])
def test_a_file_that_stands_for_more_than_it_says_is_refused(said, content):
    assert said(content).endswith("too many values, or nested too deep, for a config")


def test_a_tag_runs_nothing(said, tmp_path):
    line = said('a: !!python/object/apply:os.system ["touch pwned"]')
    assert line.startswith("line 1: no valid YAML (could not determine a constructor for the tag")
    assert not (tmp_path / "pwned").exists()


def test_tabs_are_named(said):
    assert said("model:\n\tlr: 1").endswith("; indent with spaces, not with tabs")
    assert said("model:\n\tlr: 1").startswith("line 2: ")


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no\.yaml: cannot be read \(No such file or directory\)"):
        check_file(tmp_path / "no.yaml")
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        check_file(tmp_path)


def test_what_editors_add_does_no_harm(tmp_path):
    text = "a: &a {lr: 1}\nmodel:\n  <<: *a\n  lr: 2\n"
    assert yaml.safe_load(text)["model"] == {"lr": 2}
    for number, content in enumerate([text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()]):
        path = tmp_path / f"{number}.yaml"
        path.write_bytes(content)
        assert check_file(path) == path


BEFORE = """
model:  # the class_path: fgvc.recognizers.ra_cnn.RACNN of before
  recognizer:
    class_path: fgvc.recognizers.ra_cnn.RACNN
    init_args:
      backbone: {class_path: fgvc.backbone.Backbone, init_args: {name: fgvc.backbone.Net, weights: none}}
      head: {"class_path": "fgvc.heads.linear.LinearHead", 'init_args': {pooling: {class_path: 'fgvc.pooling.gem.GeM'}}}
      attention: {class_path: fgvc.methods.attention.apn.APN}
trainer:
  callbacks:
  - class_path: fgvc.training.ema.AveragedWeights
  - class_path: my.fgvc.recognizers.Own
  - class_path: fgvcish.recognizers.Own
  - class_path: pytorch_lightning.callbacks.Timer
"""


def test_a_class_of_before_is_read_by_its_last_word(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(BEFORE)
    tree = yaml.safe_load(read_text(path))
    recognizer = tree["model"]["recognizer"]
    assert recognizer["class_path"] == "RACNN"
    parts = recognizer["init_args"]
    assert parts["backbone"] == {
        "class_path": "Backbone",
        "init_args": {"name": "fgvc.backbone.Net", "weights": "none"},
    }
    assert parts["head"] == {"class_path": "LinearHead", "init_args": {"pooling": {"class_path": "GeM"}}}
    assert parts["attention"]["class_path"] == "fgvc.methods.attention.apn.APN"  # a module of today
    assert [callback["class_path"] for callback in tree["trainer"]["callbacks"]] == [
        "AveragedWeights", "my.fgvc.recognizers.Own", "fgvcish.recognizers.Own", "pytorch_lightning.callbacks.Timer",
    ]  # fmt: skip


def test_only_a_config_of_before_is_given_to_the_parser_as_a_text(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("---\n" + BEFORE)
    new.write_text("model: {recognizer: {class_path: WholeImage}}")
    assert as_word(new) == str(new)
    assert not as_word(old).startswith("-") and yaml.safe_load(as_word(old)) == yaml.safe_load(read_text(old))


STORED = """
recognizer:
  class_path: fgvc.methods.recognizers.whole_image.WholeImage
  init_args:
    head:
      class_path: fgvc.methods.heads.linear.LinearHead
callbacks:
- class_path: fgvc.training.callbacks.ema.EMA
- class_path: my.callbacks.LinearHead
- class_path: fgvc.no_such.Thing
"""


def test_the_parts_of_a_method_are_written_by_their_short_names():
    short = STORED.replace("fgvc.methods.recognizers.whole_image.", "").replace("fgvc.methods.heads.linear.", "")
    assert WholeImage and EMA  # loaded, as the parser does
    assert with_short_names(STORED) == short
    assert with_short_names(short) == short


def test_a_name_that_could_mean_two_classes_stays_long():
    twin = type("LinearHead", (LinearHead,), {})
    try:
        written = with_short_names(STORED)
    finally:
        del twin
        gc.collect()  # a class is held by itself until then
    assert "class_path: fgvc.methods.heads.linear.LinearHead" in written and "class_path: WholeImage" in written
