import csv
import itertools

import numpy as np
import pytest

from fgvc.data.stages import STAGES
from fgvc.errors import FgvcError, UsageError
from fgvc.features.folder import Part
from fgvc.features.labels.curriculum import clusters, curriculum, stages_of, write_stages
from fgvc.features.labels.density import FORMS
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(["genus", "species"], [["Larus", "canus"], ["Larus", "fuscus"], ["Sterna", "hirundo"]])
WIDTH = 16


def around(centre, images, spread, rng):
    return (centre + rng.normal(0, spread, (images, WIDTH))).astype(np.float32)


def core_and_scatter(rng, centre):
    """40 photographs near each other, then 20 anywhere."""
    return np.concatenate([around(centre, 40, 0.2, rng), around(np.zeros(WIDTH), 20, 2.0, rng)])


def part_of(groups):
    labels = np.repeat(np.arange(len(groups), dtype=np.int32), [len(one) for one in groups])
    features = np.concatenate(groups)
    return Part([f"{i}.jpg" for i in range(len(labels))], labels, features)


@pytest.fixture
def noisy():
    rng = np.random.default_rng(3)
    return part_of([core_and_scatter(rng, centre) for centre in rng.normal(0, 1, (3, WIDTH))])


@pytest.mark.parametrize("form", ["counting", "gaussian"])
def test_the_clean_stage_of_the_published_forms_holds_the_whole_core(noisy, form):
    stage = curriculum(noisy, form).stage.reshape(3, 60)
    assert (stage[:, :40] == 0).all()
    assert (stage[:, 40:] == 0).mean() < 0.3  # counting reaches beyond the core: its cut-off is that of 60 % of pairs


def test_the_clean_stage_of_neighbours_is_core_and_what_it_thinks_highly_noisy_is_scatter(noisy):
    stage = curriculum(noisy, "neighbours").stage.reshape(3, 60)
    assert (stage[:, :40] == 0).mean() > 0.5 and (stage[:, :40] <= 1).all()
    assert (stage[:, 40:] > 0).all()


def test_a_small_second_mode_is_kept_by_neighbours_and_thrown_away_by_counting():
    """Eighty males, twenty females as near to each other, and ten strangers."""
    rng = np.random.default_rng(0)
    males, females = np.eye(WIDTH)[0] * 3, np.eye(WIDTH)[1] * 3
    one = np.concatenate([around(males, 80, 0.2, rng), around(females, 20, 0.2, rng), around(males, 10, 2.0, rng)])
    other = around(np.full(WIDTH, -1.0), 100, 0.2, rng)
    part = part_of([one, other])
    found = {form: curriculum(part, form).stage[:110] for form in FORMS}
    assert (found["neighbours"][:100] <= 1).all() and (found["neighbours"][100:] == 2).all()
    for form in ("counting", "gaussian"):
        assert (found[form][:80] == 0).mean() > 0.9
        assert (found[form][80:100] > 0).mean() > 0.8


def best_division(values, number):
    """Try every division of the sorted values; whoever is equal is not divided."""
    different = sorted(set(values))

    def cost(bounds):
        groups = [[v for v in values if a <= v < b] for a, b in itertools.pairwise([different[0], *bounds, np.inf])]
        return sum(sum((v - sum(g) / len(g)) ** 2 for v in g) for g in groups)

    return min((cost(bounds), bounds) for bounds in itertools.combinations(different[1:], number - 1))[0]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("number", [2, 3, 4])
def test_clusters_are_the_best_of_all_divisions(seed, number):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 30, 25) if seed % 2 else rng.normal(size=25) ** 3
    bounds = clusters(values.astype(np.float64), number)
    assert len(bounds) == number and bounds[0] == values.min() and set(bounds) <= set(values.tolist())
    groups = [values[(values >= a) & (values < b)] for a, b in itertools.pairwise([*bounds, np.inf])]
    cost = sum(((group - group.mean()) ** 2).sum() for group in groups)
    assert cost == pytest.approx(best_division(values.tolist(), number), rel=1e-9, abs=1e-12)


def test_large_numbers_that_differ_little_are_divided_as_well():
    values = 1e9 + np.repeat([0.0, 1.0, 5.0], [7, 8, 9])
    assert (clusters(values, 3) - 1e9).tolist() == [0, 1, 5]


def test_bounds_belong_to_the_cleaner_stage():
    density = np.repeat([9.0, 8.0, 4.0, 1.0], [4, 3, 3, 2])
    assert stages_of(density).tolist() == [0] * 7 + [1] * 3 + [2] * 2


def test_few_different_densities_make_few_stages_and_small_classes_are_clean():
    assert stages_of(np.ones(20)).tolist() == [0] * 20
    assert stages_of(np.repeat([1.0, 3.0], 10)).tolist() == [1] * 10 + [0] * 10
    assert stages_of(np.arange(9.0)).tolist() == [0] * 9
    assert set(stages_of(np.arange(10.0)).tolist()) == {0, 1, 2}
    assert len(stages_of(np.zeros(0))) == 0


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_the_photographs_does_not_matter(noisy, form):
    order = np.random.default_rng(5).permutation(len(noisy.labels))
    shuffled = Part([noisy.paths[i] for i in order], noisy.labels[order], noisy.features[order])
    assert (curriculum(shuffled, form).stage == curriculum(noisy, form).stage[order]).all()


def test_photographs_without_a_label_have_no_stage_and_genera_are_classes_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    genus = TREE.find("Larus")
    labels = np.repeat(np.array([0, -1, genus], dtype=np.int32), [12, 3, 11])
    part = Part([f"{i}.jpg" for i in range(26)], labels, rng.normal(size=(26, 4)).astype(np.float32))
    found = curriculum(part, "gaussian")
    assert (found.stage[12:15] == -1).all() and np.isnan(found.density[12:15]).all()
    assert (found.stage[:12] >= 0).all() and (found.stage[15:] >= 0).all()
    write_stages(tmp_path / "stages.csv", part, found, TREE)
    with (tmp_path / "stages.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["Larus > canus"] * 12 + ["Larus"] * 11
    density = [float(row["density"]) for row in rows]
    assert density[:12] == sorted(density[:12], reverse=True) and density[12:] == sorted(density[12:], reverse=True)
    for row in rows:
        place = int(row["path"].removesuffix(".jpg"))
        assert float(row["density"]) == pytest.approx(found.density[place], rel=1e-5)
        assert row["stage"] == STAGES[found.stage[place]]


def test_what_cannot_be_divided_is_refused():
    labels = np.zeros(12, dtype=np.int32)
    maps = Part(["a"] * 12, labels, np.zeros((12, 2, 3, 3), dtype=np.float32))
    with pytest.raises(UsageError, match="holds maps"):
        curriculum(maps, "counting")
    with pytest.raises(UsageError, match="no photograph has a label"):
        curriculum(Part(["a"] * 12, labels - 1, np.zeros((12, 2), dtype=np.float32)), "counting")
    with pytest.raises(FgvcError, match="no number"):
        curriculum(Part(["a"] * 12, labels, np.full((12, 2), np.nan, dtype=np.float32)), "counting")
