import numpy as np
import pytest

from fgvc.errors import UsageError
from fgvc.prediction.retrieval import nearest, scores
from fgvc.prediction.retrieval.scores import retrieval_scores


def by_hand(features, labels, ranks, euclidean=False):
    """Rank with plain loops in float64 and count as the definitions say."""
    x = features.astype(np.float64)
    sums, queries, lone = dict.fromkeys(["ap", "map_r", "rp", *ranks], 0.0), 0, 0
    for i in range(len(x)):
        if labels[i] < 0:
            continue
        others = [j for j in range(len(x)) if j != i and labels[j] >= 0]
        right = sum(labels[j] == labels[i] for j in others)
        if not right:
            lone += 1
            continue
        queries += 1
        if euclidean:
            near = {j: -((x[i] - x[j]) ** 2).sum() for j in others}
        else:
            near = {j: x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in others}
        found = [labels[j] == labels[i] for j in sorted(others, key=lambda j: -near[j])]
        precisions = [sum(found[: rank + 1]) / (rank + 1) for rank in range(len(found))]
        sums["ap"] += sum(p for p, hit in zip(precisions, found, strict=True) if hit) / right
        sums["map_r"] += sum(p for p, hit in list(zip(precisions, found, strict=True))[:right] if hit) / right
        sums["rp"] += sum(found[:right]) / right
        for rank in ranks:
            sums[rank] += any(found[:rank])
    return {key: one / queries for key, one in sums.items()}, queries, lone


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("together", [1 << 22, 300])
def test_scores_are_those_of_a_slow_loop(metric, together, monkeypatch):
    monkeypatch.setattr(scores, "_TOGETHER", together)
    monkeypatch.setattr(nearest, "GALLERY", 17)
    dice = np.random.default_rng(0)
    labels = np.concatenate([dice.integers(0, 9, 70), [-1, -1, 20, 21]])  # two that nobody else is like
    centres = dice.normal(size=(22, 10))
    features = (centres[labels] + dice.normal(size=(74, 10))).astype(np.float32)
    found = retrieval_scores(features, labels, metric)
    wanted, queries, lone = by_hand(features, labels, (1, 5, 10), metric == "euclidean")
    assert (found.queries, found.lone, found.unlabelled) == (queries, lone, 2) and lone == 2
    got = [found.mean_average_precision, found.map_at_r, found.r_precision, *found.recall.values()]
    np.testing.assert_allclose(got, list(wanted.values()), atol=1e-9)
    assert list(found.recall) == [1, 5, 10]


def test_the_numbers_of_a_ranking_on_paper():
    # On a line: the query at 0 (class 0) meets 1 (class 1), 2 (class 0), 3 (class 1), 4 (class 0): R = 2.
    features = np.array([[0.0], [1.0], [2.1], [3.3], [4.6]], np.float32)
    labels = np.array([0, 1, 0, 2, 0])
    found = retrieval_scores(features, labels, "euclidean", (1, 2, 4))
    # From 0: wrong, right, wrong, right. From 2.1: wrong, wrong, right, right. From 4.6: wrong, right, wrong, right.
    assert found.recall == {1: 0.0, 2: pytest.approx(2 / 3), 4: 1.0}
    assert found.mean_average_precision == pytest.approx((0.5 + (1 / 3 + 2 / 4) / 2 + 0.5) / 3)
    assert found.map_at_r == pytest.approx((0.25 + 0 + 0.25) / 3)
    assert found.r_precision == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert (found.queries, found.lone) == (3, 2)


def test_a_copy_is_found_but_never_the_photograph_itself():
    features = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    assert retrieval_scores(features, np.array([0, 0, 1, 1])).recall[1] == 1.0
    assert retrieval_scores(features, np.array([0, 1, 0, 1])).recall[1] == 0.0


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, -1, 3], [-1, -1, -1]])
def test_where_nobody_can_be_found_one_line_says_so(labels):
    with pytest.raises(UsageError, match="none of 3 photographs has another one of its class"):
        retrieval_scores(np.eye(3, dtype=np.float32), np.array(labels))
