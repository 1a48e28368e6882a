import json
import platform
import re
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import torch
from fakes.tiny_model import saved

from fgvc.files.origin import now
from fgvc.model_file.model import ModelFileError
from fgvc.prediction.provenance import WORDS, hashes_of, provenance_of, save


def read(output):
    return json.loads(provenance_of(output).read_text(encoding="utf-8"))


def test_it_says_what_made_the_output(tmp_path):
    output, command = tmp_path / "out.csv", ["predict", "runs/a", "a b.jpg", "--output", "out.csv"]
    model, options = {"path": "runs/a", "sha256": {"x": "12"}, "device": "cpu"}, {"top_k": 5, "allow": tmp_path}
    path = save(output, command, model, options, {"pictures": 3, "failed": 1}, "2026-01-02T03:04:05+00:00")
    assert path == tmp_path / "out.csv.provenance.json" and [*tmp_path.iterdir()] == [path]
    found = read(output)
    assert found["output"] == "out.csv" and found["command"] == ["fgvc", *command]
    assert found["model"] == model and found["counts"] == {"pictures": 3, "failed": 1}
    assert found["options"] == {"top_k": 5, "allow": str(tmp_path)}
    assert found["started"] == "2026-01-02T03:04:05+00:00" < found["ended"]
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(found["versions"]) == {"python", "fgvc", "torch", "timm", "numpy", "pillow", "opencv"}
    assert platform.node() not in found["platform"] or not platform.node()


def test_the_hashes_are_those_of_sha256sum(tmp_path):
    run = saved(tmp_path / "tiny")
    found = hashes_of(run)
    assert sorted(found) == ["fgvc.json", "model.safetensors"]
    for name, digest in found.items():
        said = subprocess.run(["sha256sum", run / "model" / name], capture_output=True, text=True, check=True).stdout
        assert said.split()[0] == digest
    with pytest.raises(ModelFileError):
        hashes_of(tmp_path / "none")


def test_a_command_with_thousands_of_pictures_is_cut(tmp_path):
    save(tmp_path / "out.csv", [str(i) for i in range(1000)], {}, {}, {}, now())
    command = read(tmp_path / "out.csv")["command"]
    assert command[:3] == ["fgvc", "0", "1"] and command[WORDS:] == [str(WORDS - 1), f"... {1000 - WORDS} more"]


def test_now_is_utc_to_the_second():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", now())
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)) < timedelta(seconds=2)
