"""Each form of a file of weights against the safetensors file of the same tensors, and files that must stay shut."""

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from fgvc.errors import UsageError
from fgvc.files import weight_files
from fgvc.methods.backbone import Backbone
from fgvc.methods.local_weights import read


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return timm.create_model("test_resnet", num_classes=7).state_dict()


def backbone(path):
    return Backbone(64, "test_resnet", str(path))


def with_prefix(state, prefix):
    return {f"{prefix}{name}": one for name, one in state.items()}


FORMS = {
    "bare.pth": lambda state: state,
    "pytorch_model.bin": lambda state: state,
    "lightning.ckpt": lambda state: {"epoch": 3, "state_dict": with_prefix(state, "model."), "hyper_parameters": {}},
    "ddp.pth": lambda state: with_prefix(state, "module."),
    "ddp_compiled.pth": lambda state: {"model": with_prefix(state, "module._orig_mod.")},
    "prefix.pth": lambda state: with_prefix(state, "backbone."),
    "ours.ckpt": lambda state: {"state_dict": with_prefix(state, "recognizer.backbone.net."), "global_step": 1},
    "timm.pth.tar": lambda state: {"arch": "x", "state_dict": state, "args": argparse.Namespace(lr=0.1)},
    "other_key.pt": lambda state: {"weights": {"net": state}},
    "parameters.pth": lambda state: {
        name: nn.Parameter(one) if one.is_floating_point() else one for name, one in state.items()
    },
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 2020"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_network_of_the_safetensors_file(form, old, state, tmp_path):
    save_file(state, tmp_path / "w.safetensors")
    torch.save(FORMS[form](state), tmp_path / form, _use_new_zipfile_serialization=not old)
    torch.manual_seed(5)
    expected = backbone(tmp_path / "w.safetensors")
    after = torch.rand(3)
    torch.manual_seed(5)
    found = backbone(tmp_path / form)
    assert torch.equal(torch.rand(3), after)  # the random numbers of what follows are the same
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(one, found.state_dict()[name]) for name, one in expected.state_dict().items())
    for name, one in found.net.state_dict().items():
        assert torch.equal(one, state[name]), name
    for report in (found.report, expected.report):
        assert report.reset == () and set(report.kept) | set(report.ignored) <= set(state)
    assert (found.report.kept, found.report.ignored) == (expected.report.kept, expected.report.ignored)
    assert expected.report.ignored == ("fc.bias", "fc.weight")
    assert "state_dict" not in found.net.pretrained_cfg and "state_dict" not in found.net.default_cfg


def test_the_report_says_where_the_weights_lay(state, tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": with_prefix(state, "model.") | {"loss.weight": torch.ones(2)}}, path)
    report = backbone(path).report
    assert str(report).startswith(f"test_resnet from {path} (its state_dict, names without 'model.'): kept ")
    assert report.ignored == ("fc.bias", "fc.weight", "loss.weight")


def test_safetensors_of_another_suffix_and_with_a_prefix_are_read_too(state, tmp_path):
    save_file(with_prefix(state, "timm_model."), tmp_path / "model.bin")
    assert torch.equal(backbone(tmp_path / "model.bin").net.conv1[0].weight, state["conv1.0.weight"])


def test_of_average_and_last_weights_the_average_is_taken_as_timm_does(state, tmp_path):
    average = {name: one + 1 for name, one in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": average}, tmp_path / "a.pth")
    found = read(tmp_path / "a.pth", set(state))
    assert found.place == "state_dict_ema"
    assert all(torch.equal(found.tensors[name], one) for name, one in average.items())


def refused(path):
    with pytest.raises(UsageError) as caught:
        backbone(path)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 500
    return line.removeprefix(f"backbone weights: {path}").lstrip(": ")


def test_two_networks_that_would_do_are_told(state, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(with_prefix(state, "query.") | with_prefix(state, "key."), path)
    assert refused(path) == "holds this network 2 times, as 'query.' and 'key.'; save the one that is meant alone"
    torch.save({"student": state, "teacher": state}, path)
    assert refused(path) == "holds this network at 'student' and at 'teacher'; save the one that is meant alone"


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("written_by_a_pickle",)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 2020"])
def test_a_pickle_that_runs_code_is_refused_in_one_line(state, old, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in ({"state_dict": state, "x": Evil()}, Evil()):
        torch.save(content, "evil.pth", _use_new_zipfile_serialization=not old)
        line = refused(Path("evil.pth"))
        assert line.startswith("holds posix.mkdir, which is no tensor and could run code: it is not opened; save ")
    torch.save(timm.create_model("test_resnet"), "whole.pth", _use_new_zipfile_serialization=not old)
    assert refused(Path("whole.pth")).startswith("holds timm.models.resnet.ResNet, which is no tensor")
    Path("plain.pkl").write_bytes(pickle.dumps(Evil()))
    assert refused(Path("plain.pkl"))
    assert not Path("written_by_a_pickle").exists()


def test_a_file_that_is_none_is_refused_in_one_line(state, tmp_path):
    whole = tmp_path / "w.pth"
    torch.save(state, whole)
    content = whole.read_bytes()
    for name, bytes_ in {
        "cut": content[:2000],
        "head": content[:10],
        "proto": b"\x80\x02",
        "old": b"\x80\x04 x",
    }.items():
        (tmp_path / name).write_bytes(bytes_)
        assert "no whole " in refused(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    assert refused(tmp_path / "list.pth") == "holds no tensors by name; save the network's state_dict()"
    torch.save({"foreign": torch.ones(3)}, tmp_path / "foreign.pth")
    assert "shares no tensor with the network" in refused(tmp_path / "foreign.pth")
    torch.save({**state, "layer1.0.conv1.weight": torch.zeros(1, 2, 3, 3)}, tmp_path / "shape.pth")
    with pytest.raises(UsageError, match=r"shape.pth does not fit \("):
        backbone(tmp_path / "shape.pth")


def test_tensors_that_are_no_plain_numbers_are_refused(state, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"x": torch.ones(3).to_sparse(), **state}, path)
    assert refused(path) == "x: not plain numbers; save it as float32"
    torch.save({"x": torch.ones(3, device="meta"), **state}, path)
    assert refused(path) == "x: not plain numbers; save it as float32"
    torch.save({"x": torch.ones(1).expand(10**6, 10**6), **state}, path)
    assert refused(path) == "x: 1000000 x 1000000 numbers, more than the file has"


def rewritten(source, target, compression=zipfile.ZIP_STORED, pickle_size=0):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            padding = bytes(pickle_size) if entry.filename.endswith("data.pkl") else b""
            new.writestr(entry.filename, old.read(entry) + padding)


def test_an_archive_that_grows_is_refused_unread(state, tmp_path, monkeypatch):
    whole, bomb = tmp_path / "w.pth", tmp_path / "bomb.pth"
    torch.save(state, whole)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    rewritten(whole, bomb, zipfile.ZIP_DEFLATED)
    assert refused(bomb) == "a compressed archive; torch.save writes none"
    rewritten(whole, bomb, pickle_size=weight_files.LARGEST_HEADER)
    assert refused(bomb) == "a pickle of more than 8 MiB; names and shapes of a network take less"
    bomb.write_bytes(b"\x80\x02" + b"]" * (weight_files.LARGEST_HEADER + 10))
    assert refused(bomb) == "a pickle of more than 8 MiB; names and shapes of a network take less"
    monkeypatch.setattr(weight_files, "LARGEST_HEADER", 100)
    assert "a list of more than 0 MiB of files" in refused(whole)
