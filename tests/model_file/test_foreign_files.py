import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fgvc.model_file.foreign_files import describe_bytes, no_model_at

GIVE = "give a run folder or the model folder inside it"


def test_the_first_bytes_tell_what_a_file_is(tmp_path):
    torch.save({"a": 1}, tmp_path / "new.pt")
    torch.save({"a": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    pickled = "a pickle; fgvc reads safetensors only, for a pickle can run anything"
    assert (
        describe_bytes((tmp_path / "new.pt").read_bytes())
        == describe_bytes((tmp_path / "old.pt").read_bytes())
        == pickled
    )
    assert all(describe_bytes(pickle.dumps([1], protocol)) == pickled for protocol in (2, 3, 4, 5))
    page = "a web page; the download went wrong: fetch the file itself"
    assert describe_bytes(b"\n  <!DOCTYPE html><html>") == describe_bytes(b"<html lang=de>") == page
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    assert describe_bytes(pointer) == "a git-lfs pointer in place of the file; run git lfs pull"
    assert describe_bytes(b"") == "empty; copy it again"


def test_a_safetensors_file_is_taken_for_nothing_else(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert describe_bytes((tmp_path / "a.safetensors").read_bytes()) is None
    assert describe_bytes(b'{"format": 3}') is None


def folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text("x")
    return path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), f"no model here (no fgvc.json); {GIVE}"),
        (("holiday.jpg",), f"no model here (no fgvc.json); {GIVE}"),
        (("config.yaml", "metrics.csv"), "no model here yet; finish the run first: fgvc fit --resume PATH"),
        (("best.ckpt",), f"checkpoints alone, which only training reads; {GIVE}"),
        (("model.safetensors",), "model.safetensors alone; copy fgvc.json beside it too"),
        (
            ("config.json", "model.safetensors"),
            "a model of timm or Hugging Face (config.json, no fgvc.json); fgvc predicts with models that it trained; "
            "as a start give its safetensors file as `weights` of a backbone",
        ),
        (
            ("pytorch_model.bin",),
            "a model of timm or Hugging Face (pytorch_model.bin, no fgvc.json); fgvc predicts with models that it "
            "trained; as a start give its safetensors file as `weights` of a backbone",
        ),
    ],
)
def test_a_folder_without_a_model_is_told_apart(tmp_path, names, said):
    path = folder(tmp_path / "what", *names)
    assert no_model_at(path) == f"{path}: {said.replace('PATH', str(path))}"


def test_a_path_that_is_no_folder_is_told_apart(tmp_path):
    path = folder(tmp_path / "what", "fgvc.json", "model.safetensors", "last.ckpt", "notes.txt")
    with zipfile.ZipFile(path / "model.pt", "w") as file:
        file.writestr("data.pkl", "x")
    os.mkfifo(path / "pipe")
    said = {
        "gone": f"no model here (no such folder); {GIVE}",
        "pipe": f"no model here (neither a file nor a folder); {GIVE}",
        "fgvc.json": f"one of a model's two files; give their folder, {path}",
        "model.safetensors": f"one of a model's two files; give their folder, {path}",
        "last.ckpt": f"a checkpoint, which only training reads; {GIVE}",
        "notes.txt": f"a file, and a model is a folder; {GIVE}",
        "model.pt": f"a pickle; fgvc reads safetensors only, for a pickle can run anything; {GIVE}",
    }
    assert {name: no_model_at(path / name) for name in said} == {n: f"{path / n}: {text}" for n, text in said.items()}
