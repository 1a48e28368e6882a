import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import cost

REPO = Path(__file__).parents[3]
TINY = ["--backbone", "test_resnet", "--size", "32", "--source", "64", "--batch", "4", "--steps", "1", "--rounds", "1"]


def cells(out: str) -> dict[str, list[str]]:
    """Return the rows of the table below its rule: first cell -> the others."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    return {row[0]: row[1:] for row in rows[2:]}


def test_a_method_is_compared_with_the_plain_network():
    words = [sys.executable, "-m", "benchmarks.speed.cost", "methods", *TINY, "--methods", "scda"]
    rows = cells(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=REPO).stdout)
    assert list(rows) == ["`whole_image`", "`scda`"]
    assert all(float(cell) > 0 for row in rows.values() for cell in row[1:])
    plain, looked_twice = (list(map(float, row[1:])) for row in rows.values())
    assert looked_twice[6] == pytest.approx(2 * plain[6], rel=0.1), "twice the multiply-adds"


def test_every_method_and_phase_has_its_row(monkeypatch, capsys):
    monkeypatch.setattr(cost, "memory_of", lambda *_: 1)
    monkeypatch.setattr(cost, "turns", lambda ours, other, args: (ours(), 1.0) and (1.0, 1.0))
    assert cost.main(["methods", *TINY]) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    found = {(name.strip(" `"), phase.strip()) for name, phase in rows}
    assert {"scda", "fcan", "ws_dan", "cal", "spatial_transformer"} <= {name for name, _ in found}
    assert {name for name, _ in found} == {"whole_image", *cost.closer()}
    assert {("ra_cnn_paper", phase) for phase in ("locate", "recognise", "refine", "attend")} <= found
    assert ("scda", "locate") not in found, "nothing to learn"
    assert ("fcan", "all") in found, "the longest of its phases"


def test_multiply_adds_are_half_the_operations_that_pytorch_counts():
    training = cost.Training("whole_image", "all", cost.arguments(["methods", *TINY]))
    with FlopCounterMode(display=False) as counter:
        training.predict()
    parameters, products = training.size()
    assert products * 1e9 == pytest.approx(counter.get_total_flops() / 2 / 4, rel=1e-6)
    assert parameters * 1e6 == sum(parameter.numel() for parameter in training.model.parameters())


def test_sides_are_the_benchmarks_in_the_proportions_of_the_yaml():
    args = cost.arguments(["methods", *TINY])
    found = {}
    for method in ("whole_image", "scda", "ra_cnn_paper"):
        training = cost.Training(method, "all", args)
        crop = getattr(training.model, "crop_size", None)
        found[method] = (training.images.shape[-1], training.model.image_size, crop)
    assert found == {"whole_image": (32, 32, None), "scda": (64, 32, 32), "ra_cnn_paper": (64, 64, 32)}


def test_the_naive_crop_is_ours_where_nothing_is_scaled_down():
    images = cost.noise(2, 40, "cpu")
    results = []
    for name in ("naive", "mask"):
        boxes = torch.tensor([[[0.2, 0.3, 0.7, 0.6]], [[0.11, 0.52, 0.47, 0.9]]], requires_grad=True)
        crops = cost.CROPS[name](images, boxes, 32).view(2, 3, 32, 32)
        (crops / 255).square().sum().backward()
        results.append((crops, boxes.grad))
    torch.testing.assert_close(results[0], results[1], atol=2e-2, rtol=1e-3)


def test_the_crop_table_has_a_row_per_way(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cost, "memory_of", lambda name, phase, args: asked.append(name) or 2**20 * len(asked))
    assert cost.main(["crop", "--size", "8", "--source", "16", "--batch", "1", "--rounds", "1"]) == 0
    rows = cells(capsys.readouterr().out)
    assert list(rows) == ["naive", "mask", "sampler"]
    assert [row[2:] for row in rows.values()] == [["1", "1"], ["2", "2"], ["3", "3"]]


def test_the_ratio_is_the_median_of_the_turns(monkeypatch):
    clock, order = [0.0], []
    steps = {"ours": iter([9, 0.5, 0.5, 0.5, 0.5, 1, 1]), "other": iter([9, 1, 1, 3, 3, 1, 2])}  # the first warms up

    def work(name):
        order.append(name)
        clock[0] += next(steps[name])

    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    args = cost.arguments(["methods", "--steps", "2", "--rounds", "3"])
    found = cost.turns(partial(work, "ours"), partial(work, "other"), args)
    assert found == (0.5, 2.0)  # ours took 1, 1 and 2 a turn; the other 2, 6 and 3
    assert order == ["other", "ours"] + 3 * ["other", "other", "ours", "ours"]


def test_impossible_settings_are_refused():
    for words in (["methods", "--rounds", "0"], ["crop", "--clock", "cpu", "--device", "cuda"], ["nothing"]):
        with pytest.raises(SystemExit, match="2"):
            cost.main(words)
