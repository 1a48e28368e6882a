import pytest
import yaml

from fgvc.__main__ import main

NULLS = [
    ("bilinear", "--model.recognizer.backbone.last_stride", ("backbone", "last_stride")),
    ("bilinear", "--model.recognizer.init_args.backbone.init_args.last_stride", ("backbone", "last_stride")),
    ("bilinear", "--model.recognizer.head.pooling.reduced_channels", ("head", "pooling", "reduced_channels")),
    ("ra_cnn_hse_isqrt_cov", "--model.recognizer.backbone.last_stride", ("backbone", "last_stride")),
]


@pytest.mark.parametrize(("method", "flag", "path"), NULLS)
@pytest.mark.parametrize("word", ["null", "=null"])
def test_a_null_that_is_typed_replaces_what_a_config_says_however_deep(capsys, method, flag, path, word):
    words = [flag, word] if word == "null" else [flag + word]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["fit", "--config", "generated_birds", "--config", method, *words, "--print_config"])
    part = yaml.safe_load(capsys.readouterr().out)["model"]["recognizer"]
    for key in path:
        part = part["init_args"][key]
    assert part is None


def test_a_null_where_none_belongs_is_refused_by_its_key(capsys):
    words = ["--model.recognizer.head.label_smoothing", "null"]
    assert main(["fit", "--config", "generated_birds", "--config", "bilinear", *words]) == 2
    said = capsys.readouterr().err
    assert "model.recognizer.head.label_smoothing: null given, but it takes a float" in said.replace(".init_args", "")
