import pytest
import torch
from fakes.processes import PATIENCE

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


def test_one_process_knows_what_it_knows():
    assert processes.gathered({"a": 1}) == [{"a": 1}]


def _rank(rank, store, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    results.put((rank, processes.gathered([f"of {rank}"] * (rank + 1))))
    torch.distributed.destroy_process_group()


def test_all_processes_know_what_each_of_them_knew(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_rank, args=(rank, tmp_path / "store", results)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    known = dict(results.get(timeout=PATIENCE.total_seconds()) for _ in workers)
    for worker in workers:
        worker.join()
    assert known == {rank: [["of 0"], ["of 1", "of 1"]] for rank in (0, 1)}
