import pytest

from fgvc.__main__ import main
from fgvc.config.class_help import asked_for


def helped(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "hse", *words])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("inner", ["recognizer.backbone", "recognizer.init_args.backbone"])
def test_a_part_of_a_part_explains_itself_without_data(capsys, inner):
    said = helped(capsys, f"--model.{inner}.help")
    assert "--model.recognizer.backbone.min_kept MIN_KEPT" in said
    assert "classes that fit --model.recognizer.backbone: Backbone\n" in said


def test_the_class_is_the_one_that_the_words_choose(capsys):
    assert "--model.recognizer.head.embedding_width" in helped(capsys, "--model.recognizer.head.help")
    flag = "--model.recognizer.init_args.head"
    said = helped(capsys, flag, "CosineHead", "--model.recognizer.head.help")
    assert "embedding_width" not in said and "CosineHead, FGNHead" in said
    said = helped(capsys, "--model.recognizer.head.pooling", "GeMPooling", "--model.recognizer.head.pooling.help")
    assert "--model.recognizer.head.pooling.power" in said
    said = helped(capsys, "--data.source", "Table", "--data.source.help")
    fitting = said.partition("classes that fit --data.source: ")[2].split(", ")
    assert "--data.source.path_column" in said
    assert {"INaturalist", "ImageFolder", "GeneratedBirds"} <= set(fitting) and "Relabelled" not in fitting


def test_a_number_is_explained_by_the_class_that_it_belongs_to(capsys):
    assert "--model.recognizer.head.temperature" in helped(capsys, "--model.recognizer.head.temperature.help")
    assert "--model.lr LR" in helped(capsys, "--model.help")


def test_what_is_not_there_is_one_line(capsys):
    for words, line in (
        (["--model.recognizer.bakbone.help"], "model.recognizer.bakbone: unknown key of WholeImage; did you mean 'ba"),
        (["--model.recognizer.head", "Haed", "--model.recognizer.head.help"], "no class 'Haed'"),
        (["--model.recognizer.head", "no.Head", "--model.recognizer.head.help"], "no class 'no.Head'"),
    ):
        assert main(["fit", "--config", "hse", *words]) == 2
        assert capsys.readouterr().err.startswith(f"fgvc: {line}")


def test_the_parser_answers_for_a_class_that_is_named():
    own = ["--model.recognizer.help"]
    assert asked_for(["--model.recognizer.help", "RACNN"], own) == ""
    assert asked_for(["--model.recognizer.help=RACNN"], own) == ""
    assert asked_for(["--model.recognizer.help"], own) == asked_for(["--model.recognizer.help", "--x"], own)
    assert asked_for(["--trainer.callbacks.help", "--help"], own) == ""
