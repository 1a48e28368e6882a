import json
import math
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from fakes.processes import PATIENCE, started

from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.metrics.scoreboard import Scoreboard

TREE = Taxonomy(("genus", "species"), [("x", "0"), ("y", "1"), ("x", "2"), ("y", "3")])
TESTS = str(Path(__file__).parents[2])
CPU = torch.device("cpu")
# Runs as a process of its own: rank 1 of two.
OTHER_RANK = """
import json, runpy, sys
sys.path.insert(0, sys.argv[3])  # fakes
share = runpy.run_path(sys.argv[1])["share_results"]
print(json.dumps(share(1, sys.argv[2])))
"""


def answers(*leaves):
    """Scores of both levels that name these leaves."""
    return TREE.complete({"species": 9 * torch.nn.functional.one_hot(torch.tensor(leaves), 4).float()})


def told(board, stage):
    return {name: value.item() for name, value in board.result(stage, CPU)}


def test_answers_are_counted_under_their_names_and_batches_add_up():
    board = Scoreboard(TREE)
    board.count("test", answers(0, 1, 2), torch.tensor([0, 3, 3]))
    board.count("test", answers(3), torch.tensor([3]))
    board.count("test/crm", answers(2), torch.tensor([0]))
    found = told(board, "test")
    assert found["test/species/top1"] == pytest.approx(2 / 4)
    assert found["test/genus/top1"] == pytest.approx(3 / 4)
    assert (found["test/crm/species/top1"], found["test/crm/genus/top1"]) == (0, 1)
    assert {name.removeprefix("test/crm/") for name in found if name.startswith("test/crm/")} == {
        name.removeprefix("test/") for name in found if not name.startswith("test/crm/")
    }


def test_a_mean_weighs_its_batches_by_their_images():
    board = Scoreboard(TREE)
    for value, size in ((2.0, 3), (5.0, 1)):
        board.average("val/loss", torch.tensor(value), size)
    assert told(board, "val") == {"val/loss": pytest.approx((2 * 3 + 5) / 4)}


def test_a_stage_tells_its_own_and_is_then_forgotten():
    board = Scoreboard(TREE)
    for stage in ("val", "test"):
        board.count(stage, answers(0), torch.tensor([0]))
        board.average(f"{stage}/loss", torch.tensor(1.0), 1)
        board.calibration(f"{stage}/ece", torch.tensor([0.75]), torch.tensor([True]))
    assert {name.partition("/")[0] for name in told(board, "val")} == {"val"}
    board.count("val", answers(1, 1), torch.tensor([1, 0]))
    board.average("val/loss", torch.tensor(7.0), 2)
    board.calibration("val/ece", torch.tensor([0.5]), torch.tensor([False]))
    second, other = told(board, "val"), told(board, "test")
    assert (second["val/species/top1"], second["val/loss"], second["val/ece"]) == (0.5, 7, 0.5)
    assert (other["test/species/top1"], other["test/loss"], other["test/ece"]) == (1, 1, 0.25)


def test_no_mistake_has_no_severity():
    board = Scoreboard(TREE)
    board.count("val", answers(0, 2), torch.tensor([0, 2]))
    assert "val/severity" not in told(board, "val")
    board.count("val", answers(0, 2, 0), torch.tensor([0, 0, 1]))
    assert told(board, "val")["val/severity"] == pytest.approx((1 + 2) / 2)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")  # Lightning's runs are silenced by fgvc.config.quiet
def test_a_term_of_another_phase_is_left_out_but_a_loss_that_is_no_number_is_told():
    board = Scoreboard(TREE)
    board.average("val/loss_rank1", torch.tensor(2.0), 4)
    assert told(board, "val") == {"val/loss_rank1": 2}
    board.average("val/loss", torch.tensor(math.nan), 4)
    assert {name: str(value) for name, value in told(board, "val").items()} == {"val/loss": "nan"}


def slow_error(pairs, bins=15):
    members = {}
    for confidence, right in pairs:
        members.setdefault(min(int(confidence * bins), bins - 1), []).append((confidence, right))
    gaps = [abs(sum(c for c, _ in found) - sum(right for _, right in found)) for found in members.values()]
    return sum(gaps) / len(pairs)


def test_the_calibration_error_is_that_of_a_slow_loop_over_all_batches():
    board, pairs = Scoreboard(TREE), []
    generator = torch.Generator().manual_seed(0)
    for size in (60, 1, 0, 139):
        confidence = torch.rand(size, generator=generator)
        right = torch.rand(size, generator=generator) < confidence**2
        board.calibration("test/ece", confidence, right)
        pairs += zip(confidence.double().tolist(), right.tolist(), strict=True)
    # 0.95 is right and 1 is wrong: in one bin the two make up for each other in part.
    edges = [(0.0, True), (1.0, False), (0.95, True)]
    board.calibration("test/ece", torch.tensor([c for c, _ in edges]), torch.tensor([right for _, right in edges]))
    assert told(board, "test") == {"test/ece": pytest.approx(slow_error(pairs + edges), abs=1e-6)}


def test_images_of_unknown_leaf_have_no_calibration_error():
    board = Scoreboard(TREE)
    board.calibration("test/ece", torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert told(board, "test") == {}


def test_a_network_that_answers_nan_is_sure_and_wrong_and_spoils_no_other_image():
    board = Scoreboard(TREE)
    board.calibration("test/ece", torch.tensor([0.25, math.nan, math.nan]), torch.tensor([False, False, True]))
    assert told(board, "test") == {"test/ece": pytest.approx((0.25 + 1 + 1) / 3)}


def test_everything_lies_where_the_scores_lie():
    board, meta = Scoreboard(TREE), torch.device("meta")
    assert board.expect("val", meta).levels[0].seen.device == meta
    assert board.expect_mean("val/loss", meta).total.device == meta
    assert board.expect("val", CPU) is board.expect("val", meta)  # made once


BATCH = (answers(0, 1, 3), torch.tensor([0, 1, 2]), torch.tensor([0.9, 0.8, 0.6]), torch.tensor([True, True, False]))


def counted(board):
    scores, labels, confidence, right = BATCH
    board.count("test", scores, labels)
    board.average("test/loss", torch.tensor(3.0), 3)
    board.calibration("test/ece", confidence, right)


def share_results(rank, store):
    """Return what two processes tell together, when rank 0 counted and rank 1 had no image."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=PATIENCE
    )
    board = Scoreboard(TREE)
    if rank == 0:
        counted(board)
        board.count("test/crm", *BATCH[:2])
        board.average("test/loss_sub.species", torch.tensor(1.0), 3)
    found = told(board, "test")
    torch.distributed.destroy_process_group()
    return found


def test_a_process_without_images_tells_the_same(tmp_path):
    store = str(tmp_path / "store")
    command = [sys.executable, "-c", OTHER_RANK, __file__, store, TESTS]
    with started(command, stdout=PIPE, text=True) as other:
        first = share_results(0, store)
        second = json.loads(other.communicate()[0])
    alone = Scoreboard(TREE)
    counted(alone)
    alone.count("test/crm", *BATCH[:2])
    alone.average("test/loss_sub.species", torch.tensor(1.0), 3)
    assert first == second == pytest.approx(told(alone, "test"))
    assert {"test/species/top1", "test/loss", "test/ece"} <= first.keys()


def test_a_level_may_have_a_dot_in_its_name():
    board = Scoreboard(TREE)
    board.average("val/loss_sub.species", torch.tensor(2.0), 1)
    assert told(board, "val")["val/loss_sub.species"] == 2.0
