import json
import math
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from fakes.processes import PATIENCE, started
from torchmetrics.functional.classification import binary_calibration_error

from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.metrics.accuracy import CalibrationError, HierarchyMetrics, LevelAccuracy, Mean, rank_of_target
from fgvc.training.metrics.tree import TreeMetrics

TREE = Taxonomy(("g", "s"), [("x", "0"), ("y", "1"), ("x", "2"), ("y", "3"), ("z", "4"), ("z", "z")])
TESTS = str(Path(__file__).parents[2])
# Runs as a process of its own: rank 1 of two.
OTHER_RANK = """
import json, runpy, sys
sys.path.insert(0, sys.argv[4])  # fakes
share = runpy.run_path(sys.argv[1])["share_results"]
print(json.dumps(share(1, sys.argv[2], json.loads(sys.argv[3]))))
"""


def fixed_batch():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(11, 6, generator=generator), torch.randint(-1, 6, (11,), generator=generator)


def share_results(rank, store, cuts):
    """Count one rank's share of the batch for each cut, and return what the ranks compute together."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=PATIENCE
    )
    scores, targets = fixed_batch()
    results = []
    for cut in cuts:
        mine = slice(0, cut) if rank == 0 else slice(cut, None)
        metric, tree = LevelAccuracy(6, top_k=3), TreeMetrics(TREE)
        if len(scores[mine]):
            metric.update(scores[mine], targets[mine])
            tree.update(TREE.complete({"s": scores[mine]}), targets[mine])
        results.append(as_floats(metric.compute()) | as_floats(tree.compute()))
    torch.distributed.destroy_process_group()
    return results


def peak_rise(work):
    """Return by how many MB the memory of this process peaks above what it holds before the work."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is held now
    before = dict(map(split_status, Path("/proc/self/status").read_text().splitlines()))
    work()
    after = dict(map(split_status, Path("/proc/self/status").read_text().splitlines()))
    return (int(after["VmHWM"].split()[0]) - int(before["VmRSS"].split()[0])) / 1024


def split_status(line):
    name, _, value = line.partition(":")
    return name, value.strip()


def slow_accuracies(scores, targets, k):
    """The definition, one image at a time, in Python floats."""
    top1, topk, of_class = [], [], {}
    for row, target in zip(scores.double().tolist(), targets.tolist(), strict=True):
        if target == -1:
            continue
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        top1.append(order[0] == target)
        topk.append(target in order[:k])
        of_class.setdefault(target, []).append(top1[-1])
    recalls = [sum(hits) / len(hits) for hits in of_class.values()]
    return {
        "top1": sum(top1) / len(top1),
        f"top{k}": sum(topk) / len(topk),
        "mean_per_class": sum(recalls) / len(recalls),
    }


def as_floats(result):
    return {name: value.item() for name, value in result.items()}


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_a_slow_loop_over_several_batches_with_ties_and_unknown_targets(k):
    generator = torch.Generator().manual_seed(0)
    # Whole numbers from 0 to 4: most rows have ties.
    scores = torch.randint(5, (101, 9), generator=generator).float()
    targets = torch.randint(-1, 7, (101,), generator=generator)
    metric = LevelAccuracy(9, top_k=k)
    for part in range(0, 101, 25):
        metric.update(scores[part : part + 25], targets[part : part + 25])
    assert as_floats(metric.compute()) == pytest.approx(slow_accuracies(scores, targets, k), abs=1e-6)


def test_the_lower_class_wins_a_tie():
    tied = torch.ones(3, 3)
    assert rank_of_target(tied, torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


def test_a_net_that_answers_nan_is_wrong():
    metric = LevelAccuracy(3, top_k=2)
    metric.update(torch.full((3, 3), torch.nan), torch.tensor([0, 1, 2]))
    assert as_floats(metric.compute()) == {"top1": 0, "top2": 0, "mean_per_class": 0}


def test_mean_per_class_weighs_the_classes_that_occur_equally():
    metric = LevelAccuracy(4)
    # Class 0: 3 of 4 right; class 2: 0 of 1 right; classes 1 and 3 never occur.
    answers = torch.tensor([0, 0, 0, 1, 1])
    metric.update(torch.nn.functional.one_hot(answers, 4).float(), torch.tensor([0, 0, 0, 0, 2]))
    result = as_floats(metric.compute())
    assert result["top1"] == pytest.approx(3 / 5)
    assert result["mean_per_class"] == pytest.approx((3 / 4 + 0) / 2)


@pytest.mark.parametrize(("classes", "told"), [(3, False), (5, False), (6, True)])
def test_a_k_that_no_fewer_classes_have_is_left_out(classes, told):
    metric = LevelAccuracy(classes, top_k=5)
    metric.update(torch.eye(classes)[:3], torch.tensor([2, 1, -1]))
    expected = {"top1": 0.5, "top5": 1.0, "mean_per_class": 0.5}
    assert as_floats(metric.compute()) == (expected if told else {"top1": 0.5, "mean_per_class": 0.5})


def test_no_known_image_gives_nan_and_not_zero():
    metric = LevelAccuracy(3)
    metric.update(torch.eye(3), torch.tensor([-1, -1, -1]))
    assert all(math.isnan(value) for value in as_floats(metric.compute()).values())


def test_updates_inside_and_outside_of_inference_mode_mix():
    metric = LevelAccuracy(3)
    with torch.inference_mode():
        metric.update(torch.eye(3), torch.tensor([0, 1, 2]))
        metric.reset()
        metric.update(torch.eye(3), torch.tensor([0, 1, 2]))
    metric.update(torch.eye(3), torch.tensor([1, 1, 1]))
    assert metric.compute()["top1"].item() == pytest.approx(4 / 6)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from /proc")
def test_ten_thousand_classes_stay_below_200_mb_where_a_square_table_does_not():
    size = 10_000
    scores, targets = torch.rand(512, size), torch.randint(size, (512,))
    metric = LevelAccuracy(size)

    def ours():
        metric.update(scores, targets)
        metric.compute()

    def square_table():
        torch.bincount(targets * size + scores.argmax(1), minlength=size * size).reshape(size, size).diag()

    assert peak_rise(ours) < 200
    # 10,000 x 10,000 x 8 bytes = 763 MB: the measurement sees what it should.
    assert peak_rise(square_table) > 700


def test_two_processes_give_the_result_of_one_for_odd_and_for_empty_shares(tmp_path):
    cuts = [7, 11]  # 7 + 4 images, then 11 + 0
    command = [sys.executable, "-c", OTHER_RANK, __file__, str(tmp_path / "store"), json.dumps(cuts), TESTS]
    with started(command, stdout=PIPE, text=True) as other:
        first = share_results(0, tmp_path / "store", cuts)
        second = json.loads(other.communicate()[0])
    scores, targets = fixed_batch()
    tree = TreeMetrics(TREE)
    tree.update(TREE.complete({"s": scores}), targets)
    expected = slow_accuracies(scores, targets, 3) | as_floats(tree.compute())
    assert min(expected["top1"], expected["severity"], expected["full_path"]) > 0
    for result in [*first, *second]:
        assert result == pytest.approx(expected, abs=1e-6)


def test_every_level_is_counted_against_its_own_ancestor():
    # Level names that a ModuleDict would refuse.
    taxonomy = Taxonomy(("type", "sub.species"), [("bird", "crow"), ("bird", "jay"), ("fish", "cod")])
    metrics = HierarchyMetrics(taxonomy, top_k=2)
    labels = torch.tensor([0, 1, 2, taxonomy.node("type", 1), -1])
    leaf = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [0, 0, 9], [0, 0, 9]])
    kind = torch.tensor([[2.0, 1], [2, 1], [2, 1], [1, 2], [1, 2]])
    metrics.update({"type": kind, "sub.species": leaf}, labels)
    result = as_floats(metrics.compute())
    assert result == pytest.approx(
        {
            "type/top1": 3 / 4,  # crow, jay right, cod wrong, the fish of unknown species right
            "type/mean_per_class": (2 / 2 + 1 / 2) / 2,
            "sub.species/top1": 1 / 3,
            "sub.species/top2": 2 / 3,
            "sub.species/mean_per_class": 1 / 3,
            "full_path": 1 / 3,  # the crow; the jay and the cod are taken for crows
            "weighted_ap": (2 * 3 / 4 + 3 * 1 / 3) / 5,
            "inconsistency": 0,
            "severity": (1 + 2) / 2,
            "hd@1": (0 + 1 + 2) / 3,
            "hd@5": (3 + 3 + 4) / 3 / 3,
            "hd@20": (3 + 3 + 4) / 3 / 3,
            "h_precision": (2 + 1 + 0 + 1) / (2 + 2 + 2 + 1),  # of the fourth image only the type is known
            "h_recall": (2 + 1 + 0 + 1) / (2 + 2 + 2 + 1),
            "h_f1": (2 + 1 + 0 + 1) / (2 + 2 + 2 + 1),
        }
    )
    assert next(iter(result)) == "type/top1"
    metrics.reset()
    metrics.update({"type": kind[:1], "sub.species": leaf[:1]}, labels[:1])
    assert metrics.compute()["type/top1"].item() == metrics.compute()["full_path"].item() == 1


def test_a_flat_taxonomy_has_one_level_and_metrics_add_nothing_to_a_checkpoint():
    metrics = HierarchyMetrics(Taxonomy.flat(["a", "b"]))
    assert list(metrics.state_dict()) == []
    metrics.update({"class": torch.eye(2)}, torch.tensor([0, 1]))
    assert set(metrics.compute()) == {"class/top1", "class/mean_per_class"}


@pytest.mark.parametrize("seed", range(3))
def test_many_medium_and_few_shot_classes_are_those_of_a_slow_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    counts = [300, 150, 100, 20, 19, 1, 0]
    tree = Taxonomy.flat([f"class {i}" for i in range(7)])
    scores = torch.randint(6, (90, 7), generator=generator).float()
    targets = torch.randint(-1, 7, (90,), generator=generator)
    metrics = HierarchyMetrics(tree, top_k=3, class_counts=torch.tensor(counts))
    for part in range(0, 90, 40):
        metrics.update({"class": scores[part : part + 40]}, targets[part : part + 40])
    found = as_floats(metrics.compute())
    for name, members in {"many": (0, 1), "medium": (2, 3), "few": (4, 5)}.items():
        mine = torch.tensor([target in members for target in targets.tolist()])
        wanted = slow_accuracies(scores[mine], targets[mine], 3)["mean_per_class"]
        assert found[f"class/{name}"] == pytest.approx(wanted, abs=1e-6)


def test_groups_are_told_at_the_finest_level_only_where_counts_differ_and_images_occur():
    def keys(counts, leaves):
        metrics = HierarchyMetrics(TREE, class_counts=torch.tensor(counts))
        labels = torch.tensor(leaves)
        metrics.update(TREE.complete({"s": torch.eye(6)[labels]}), labels)
        return {key for key in metrics.compute() if key.endswith(("many", "medium", "few"))}

    assert keys([30, 30, 10, 10, 3, 3], [0, 2, 5]) == {"s/many", "s/medium", "s/few"}
    assert keys([30, 30, 10, 10, 3, 3], [0, 5]) == {"s/many", "s/few"}
    assert keys([30, 30, 10, 10, 4, 4], [0, 2, 5]) == set()
    assert keys([0] * 6, [0, 2, 5]) == set()


def test_a_mean_weighs_batches_by_their_images():
    mean = Mean()
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert math.isnan(mean.compute())
    for value, size in ((2.0, 4), (5.0, 1)):
        mean.update(torch.tensor(value), size)
    assert float(mean.compute()) == pytest.approx((4 * 2 + 5) / 5)
    mean.reset()
    mean.update(torch.tensor(7.0), 3)
    assert float(mean.compute()) == 7


@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_is_that_of_torchmetrics(seed):
    generator = torch.Generator().manual_seed(seed)
    sure = torch.rand(500, generator=generator)
    right = torch.rand(500, generator=generator) < sure**2
    metric = CalibrationError()
    for rows in (slice(0, 123), slice(123, 500)):
        metric.update(sure[rows], right[rows])
    assert metric.compute().item() == pytest.approx(
        binary_calibration_error(sure, right.long(), n_bins=15).item(), abs=1e-6
    )


def test_a_probability_that_is_no_number_is_sure_and_wrong():
    metric = CalibrationError()
    metric.update(torch.tensor([float("nan"), 1.0]), torch.tensor([True, True]))
    assert metric.compute().item() == pytest.approx(0.5)
    nothing = CalibrationError()
    nothing.update(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert nothing.compute().isnan()
