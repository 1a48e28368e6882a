import pytest
import torch

from fgvc.training import processes


@pytest.mark.parametrize(
    ("environment", "first"),
    [({}, True), ({"LOCAL_RANK": "0"}, True), ({"LOCAL_RANK": "1"}, False), ({"NODE_RANK": "1"}, False)],
)
def test_one_process_writes(monkeypatch, environment, first):
    for name in ("LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.is_first() is first


@pytest.mark.parametrize(
    ("strategy", "devices", "gpus", "several"),
    [
        ("auto", "auto", 0, False),
        ("auto", "auto", 1, False),
        ("auto", "auto", 4, True),
        ("auto", 1, 4, False),
        ("auto", "1", 4, False),
        ("auto", 2, 0, True),
        ("ddp", "2", 0, True),
        ("ddp_find_unused_parameters_true", "2", 0, False),  # the user has chosen
    ],
)
def test_several_processes_are_foreseen(monkeypatch, strategy, devices, gpus, several):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert processes.are_several({"strategy": strategy, "devices": devices}) is several
