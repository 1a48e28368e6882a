import copy
import math
import random

import pytest
import torch
from fakes.ragged_trees import same_nodes, under_one_root

from fgvc.taxonomy.readouts import READOUTS, ancestor
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.metrics.accuracy import rank_of_target
from fgvc.training.metrics.tree import TreeMetrics, first_classes

NAMES = {"full_path", "weighted_ap", "inconsistency", "severity", "hd@1", "hd@5", "hd@20"}
NAMES |= {"h_precision", "h_recall", "h_f1"}


def random_tree(seed, leaves=31, levels=4):
    """A ragged tree in which a level may be missing between or below others; siblings do not stand side by side."""
    draw = random.Random(seed)
    paths = set()
    while len(paths) < leaves:
        path = [f"{draw.randrange(2 * d + 2)}" for d in range(levels - 1)] + [f"leaf {len(paths)}"]
        for d in range(1, levels):
            if draw.random() < 0.25:
                path[d] = path[d - 1]
        paths.add(tuple(path))
    paths = sorted(paths)
    draw.shuffle(paths)
    return Taxonomy([f"level {d}" for d in range(levels)], paths)


def random_batch(tree, images=150, seed=0, ties=False):
    """Scores of heads that know something and do not agree, and labels of which some are inner nodes or unknown."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(tree.num_classes, (images,), generator=generator)
    scores = {}
    for level in tree.levels:
        noise = torch.randn(images, tree.size(level), generator=generator)
        truth = torch.nn.functional.one_hot(tree.targets(labels, level), tree.size(level))
        scores[level] = (noise + 2 * truth).round() if ties else noise + 2 * truth
    coarse = torch.randint(-1, tree.num_nodes, (images,), generator=generator)
    return scores, torch.where(torch.rand(images, generator=generator) < 0.3, coarse, labels)


def counted(tree, *batches):
    metric = TreeMetrics(tree)
    for batch in batches:
        metric.update(*batch)
    return as_floats(metric.compute())


def as_floats(result):
    assert all(value.shape == () and value.dtype == torch.float32 for value in result.values())
    return {name: value.item() for name, value in result.items()}


def part(batch, chosen):
    scores, labels = batch
    return {level: values[chosen] for level, values in scores.items()}, labels[chosen]


def nodes(path):
    """The nodes of a path of names as a set; a name that repeats its parent's adds none."""
    return {path[:d] for d in range(1, len(path) + 1) if d == 1 or path[d - 1] != path[d - 2]}


def share(hits):
    hits = list(hits)
    return sum(hits) / len(hits) if hits else math.nan


def brute_force(tree, scores, labels):
    """Every definition with paths of names, sets and loops, one image at a time."""
    depth, leaf_level = len(tree.levels), tree.leaf_level
    leaf_paths = [tree.path(k) for k in range(tree.num_classes)]

    def ranked(row):
        return sorted(range(len(row)), key=lambda c: (-row[c], c))

    def height(a, b):
        return sum(a[:d] != b[:d] for d in range(1, depth + 1))

    full, stray, heights, sets = [], [], {1: [], 5: [], 20: []}, []
    hits = {level: [] for level in tree.levels}
    for n, label in enumerate(labels.tolist()):
        truth = tree.path(label) if label >= 0 else ()
        rows = {level: scores[level][n].tolist() for level in tree.levels}
        answers = {level: tree.path(tree.node(level, ranked(rows[level])[0])) for level in tree.levels}
        stray.append(tuple(answers.values()) not in {tuple(p[: d + 1] for d in range(depth)) for p in leaf_paths})
        for d, level in enumerate(tree.levels):
            if len(truth) > d:
                hits[level].append(answers[level] == truth[: d + 1])
        sets.append((nodes(answers[leaf_level][: len(truth)]), nodes(truth)))
        if len(truth) == depth:
            full.append(all(answer == truth[: len(answer)] for answer in answers.values()))
            for k, found in heights.items():
                best = [leaf_paths[leaf] for leaf in ranked(rows[leaf_level])[:k]]
                found.append(sum(height(path, truth) for path in best) / len(best))
    shared, named, true = (
        sum(len(f(p, t)) for p, t in sets) for f in (set.intersection, lambda p, t: p, lambda p, t: t)
    )
    precision, recall = shared / named, shared / true
    weights = {level: tree.size(level) for level in tree.levels if hits[level]}
    return {
        "full_path": share(full),
        "weighted_ap": sum(w * share(hits[level]) for level, w in weights.items()) / sum(weights.values()),
        "inconsistency": share(stray),
        "severity": share(h for h in heights[1] if h > 0),
        **{f"hd@{k}": share(found) for k, found in heights.items()},
        "h_precision": precision,
        "h_recall": recall,
        "h_f1": 2 * precision * recall / (precision + recall),
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("seed", "leaves", "levels"), [(0, 31, 4), (1, 8, 3), (2, 60, 5), (3, 12, 1), (4, 40, 2)])
def test_every_number_equals_sets_and_loops_on_ragged_trees(seed, leaves, levels, ties):
    tree = random_tree(seed, leaves, levels)
    batch = random_batch(tree, seed=seed, ties=ties)
    expected = brute_force(tree, *batch)
    assert set(expected) == NAMES
    assert 0 < expected["full_path"] < 1 and expected["severity"] > 0
    assert counted(tree, batch) == pytest.approx(expected, abs=1e-6)


def test_missing_levels_part_precision_from_recall_and_whole_trees_do_not():
    ragged = random_tree(0)
    found = counted(ragged, random_batch(ragged))
    assert abs(found["h_precision"] - found["h_recall"]) > 1e-3
    whole = Taxonomy(["g", "s"], [(f"g{i % 4}", f"s{i}") for i in range(12)])
    found = counted(whole, random_batch(whole))
    assert found["h_precision"] == found["h_recall"] == pytest.approx(found["h_f1"])


def test_numbers_worked_out_by_hand():
    tree = Taxonomy(["g", "s"], [("bird", "crow"), ("bird", "jay"), ("fish", "cod")])
    leaf = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]])
    kind = torch.tensor([[2.0, 1], [1, 2], [2, 1], [2, 1]])
    labels = torch.tensor([0, 1, 2, tree.node("g", 1)])
    assert counted(tree, ({"g": kind, "s": leaf}, labels)) == pytest.approx(
        {
            "full_path": 1 / 3,  # the crow; the jay and the cod are taken for crows
            "weighted_ap": (2 * 1 / 4 + 3 * 1 / 3) / 5,
            "inconsistency": 2 / 4,  # fish > crow and bird > cod
            "severity": (1 + 2) / 2,
            "hd@1": (0 + 1 + 2) / 3,
            "hd@5": ((0 + 1 + 2) + (1 + 0 + 2) + (2 + 2 + 0)) / 3 / 3,
            "hd@20": ((0 + 1 + 2) + (1 + 0 + 2) + (2 + 2 + 0)) / 3 / 3,
            "h_precision": (2 + 1 + 0 + 1) / (2 + 2 + 2 + 1),  # of the last image only the genus is known
            "h_recall": (2 + 1 + 0 + 1) / (2 + 2 + 2 + 1),
            "h_f1": (2 + 1 + 0 + 1) / (2 + 2 + 2 + 1),
        }
    )


def test_batches_add_up_and_two_states_merge_to_one():
    tree = random_tree(1)
    batch = random_batch(tree)
    whole = counted(tree, batch)
    cuts = [part(batch, slice(a, b)) for a, b in ((0, 64), (64, 64), (64, 65), (65, 150))]
    assert counted(tree, *cuts) == whole
    first, second = TreeMetrics(tree), TreeMetrics(tree)
    first.update(*cuts[0])
    second.update(*cuts[3])
    second.update(*cuts[2])
    first.merge_state(second)
    assert as_floats(first.compute()) == whole


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_answer_of_nan_is_wrong_off_the_path_and_far(broken):
    tree = random_tree(2, levels=3)
    leaf = torch.zeros(tree.num_classes, dtype=torch.int64)  # leaf 0 is what an argmax makes of NaN
    scores = ancestor(torch.nn.functional.one_hot(leaf, tree.num_classes).float(), tree)
    perfect = counted(tree, (scores, leaf))
    assert perfect["full_path"] == perfect["weighted_ap"] == 1 and perfect["inconsistency"] == 0
    level = tree.levels[broken]
    scores[level] = torch.full_like(scores[level], torch.nan)
    found = counted(tree, (scores, leaf))
    sizes = [tree.size(name) for name in tree.levels]
    assert found["weighted_ap"] == pytest.approx(1 - sizes[broken] / sum(sizes))
    assert found["full_path"] == 0 and found["inconsistency"] == 1
    if broken == 2:
        assert [found[name] for name in ("severity", "hd@1", "hd@5", "hd@20")] == [3, 3, 3, 3]
        assert found["h_precision"] == found["h_recall"] == found["h_f1"] == 0
    else:
        assert found["hd@1"] == 0 and found["h_f1"] == 1


def test_what_has_no_image_is_nan():
    tree = random_tree(3)
    scores, _ = random_batch(tree, images=2)
    unknown = counted(tree, (scores, torch.tensor([-1, -1])))
    assert {name for name, value in unknown.items() if math.isnan(value)} == NAMES - {"inconsistency"}
    leaf = scores[tree.leaf_level].argmax(dim=1)
    right = counted(tree, (ancestor(scores[tree.leaf_level], tree), leaf))
    assert {name for name, value in right.items() if math.isnan(value)} == {"severity"}
    coarse = counted(tree, (scores, torch.full((2,), tree.node(tree.levels[0], 0))))
    answers = scores[tree.levels[0]].argmax(dim=1) == 0
    assert coarse["weighted_ap"] == answers.float().mean(), "levels without a known image have no weight"


@pytest.mark.parametrize("name", READOUTS)
def test_only_answers_from_one_leaf_are_always_consistent(name):
    tree = random_tree(4)
    log_leaf = (2 * torch.randn(300, tree.num_classes, generator=torch.Generator().manual_seed(0))).log_softmax(dim=1)
    labels = log_leaf.add(torch.randn(log_leaf.shape, generator=torch.Generator().manual_seed(1))).argmax(dim=1)
    scores = READOUTS[name](log_leaf, tree)
    found = counted(tree, (scores, labels))
    accuracy = (scores[tree.leaf_level].argmax(dim=1) == labels).float().mean().item()
    assert 0 < accuracy < 1
    assert found["hd@1"] == pytest.approx((1 - accuracy) * found["severity"])
    if name == "marginal":
        assert found["inconsistency"] > 0 and found["full_path"] < accuracy
    else:
        assert found["inconsistency"] == 0 and found["full_path"] == pytest.approx(accuracy)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_first_classes_are_those_of_a_stable_order(size):
    generator = torch.Generator().manual_seed(size)
    scores = torch.randint(4, (200, size), generator=generator).double()
    scores[scores == 0] = -torch.inf
    scores[torch.rand(scores.shape, generator=generator) < 0.05] = torch.nan
    for k in {1, min(5, size), size}:
        found, sure = first_classes(scores, k)
        for row, places, numbers in zip(scores.tolist(), found.tolist(), sure.tolist(), strict=True):
            order = sorted(range(size), key=lambda c: (-math.inf if math.isnan(row[c]) else -row[c], c))
            assert places == order[:k]
            assert numbers == [not math.isnan(row[c]) for c in places]
    ranks = torch.stack([rank_of_target(scores, torch.full((200,), c)) for c in range(size)], dim=1)
    number = ~scores.isnan().any(dim=1)
    assert torch.equal(ranks[number], first_classes(scores, size)[0].argsort(dim=1)[number])


def test_the_state_is_small_constant_and_absent_from_checkpoints():
    tree = random_tree(0)
    metric = TreeMetrics(tree)
    sizes = {name: value.numel() for name, value in metric.metric_state.items()}
    scores, labels = random_batch(tree)
    metric.update(scores, labels)
    assert {name: value.numel() for name, value in metric.metric_state.items()} == sizes
    assert sum(sizes.values()) < 20
    # A buffer would be missing in copies of a model that are made before its first validation.
    assert not metric.state_dict() and not list(metric.buffers())


def test_updates_inside_and_outside_of_inference_mode_mix_with_copies_and_resets():
    tree = random_tree(1)
    batch = random_batch(tree)
    metric = TreeMetrics(tree)
    with torch.inference_mode():
        metric.update(*batch)
        metric.reset()
        metric.update(*part(batch, slice(0, 50)))
    metric = copy.deepcopy(metric)
    metric.update(*part(batch, slice(50, None)))
    assert as_floats(metric.compute()) == counted(tree, batch)


@pytest.mark.parametrize("seed", range(3))
def test_a_rank_that_all_leaves_share_changes_no_number(seed):
    tree = random_tree(seed)
    scores, labels = random_batch(tree, seed=seed)
    scores[tree.leaf_level][:5] = torch.nan  # as far from the truth as can be
    grown = under_one_root(tree, 2)
    more = {level: torch.zeros(len(labels), 1) for level in grown.levels[:2]} | scores
    assert counted(grown, (more, same_nodes(labels, tree, grown))) == pytest.approx(counted(tree, (scores, labels)))
