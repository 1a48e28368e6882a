import json
import math

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY
from scipy.stats import binom

from fgvc.confidence import vouching
from fgvc.confidence.vouching import GRID, Vouching
from fgvc.errors import UsageError
from fgvc.taxonomy import relatives

DELTA = 0.1


def lineages(size, seed=0, levels=3):
    """Scores that need not fall on the way down, and answers that are right a little more often than they say."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 0.4, (size, levels))
    return scores, np.logical_and.accumulate(rng.random((size, levels)) < scores**0.5, axis=1)


def slow_answer(row, threshold):
    """The deepest level that passes, one level at a time; None where none does."""
    found = None
    for depth, score in enumerate(row):
        if score >= threshold:
            found = depth
    return found


def constant(answered, wrong):
    return Vouching((answered,) * len(GRID), (wrong,) * len(GRID))


def test_the_grid_is_what_model_files_count_on():
    assert len(GRID) == 201
    assert GRID[::50] == (0, 0.9, 0.99, 0.999, 0.9999)
    steps = np.diff(GRID)
    assert (steps > 0).all() and (np.diff(steps) < 1e-5).all()


def test_decisions_and_counts_are_those_of_a_slow_loop():
    scores, correct = lineages(80)
    counted = vouching.count(scores, correct)
    for i in range(0, len(GRID), 10):
        answers = [slow_answer(row, GRID[i]) for row in scores.tolist()]
        assert vouching.decide(scores, GRID[i]).tolist() == [-1 if a is None else a for a in answers]
        given = [(n, a) for n, a in enumerate(answers) if a is not None]
        assert counted.answered[i] == len(given)
        assert counted.wrong[i] == sum(not correct[n, a] for n, a in given)
        found = vouching.summarise(scores, correct, GRID[i])
        assert found.coverage == len(given) / 80
        assert found.right == sum(bool(correct[n, a]) for n, a in given)
        assert found.mean_depth == pytest.approx(np.mean([a + 1 for _, a in given]))
        assert found.shares == pytest.approx([sum(a == depth for _, a in given) / 80 for depth in range(3)])
    assert counted.answered[0] == 80 and counted.wrong[0] == (~correct[:, 2]).sum()
    assert 0 < counted.answered[-1] < 80


def test_scores_that_reach_the_threshold_count_and_nan_does_not():
    scores = np.array([[0.9, 0.5], [0.2, 0.5], [math.nan, math.nan], [0.4, 0.4]])
    assert vouching.decide(scores, 0.5).tolist() == [1, 1, -1, -1]
    assert vouching.decide(scores, math.inf).tolist() == [-1] * 4
    nothing = vouching.summarise(scores, scores > 0, math.inf)
    assert nothing[0] == 0 and math.isnan(nothing.mean_depth) and nothing[2:] == (0, 0, (0, 0))


@pytest.mark.parametrize(("precision", "delta"), [(0.95, 0.1), (0.8, 0.05), (0.9, 0.3), (0.9999, 0.1)])
def test_the_walk_is_that_of_a_slow_one_with_scipys_binomial_distribution(precision, delta):
    outcomes = set()
    for seed in range(8):
        scores, correct = lineages(400, seed)
        counted = vouching.count(scores, correct | (scores > 0.3 + 0.1 * seed))
        strict = [i for i, t in enumerate(GRID) if t >= 1 - (1 - precision) / 4] or [len(GRID) - 1]
        expected = None
        for i in range(strict[0], -1, -1):
            if binom.cdf(counted.wrong[i], counted.answered[i], 1 - precision) > delta:
                break
            expected = GRID[i]
        assert vouching.threshold(counted, precision, delta) == expected
        outcomes.add(expected)
    assert len(outcomes) > 1 or precision == 0.9999  # 400 images never certify that


def test_the_walk_ends_at_the_first_gap_although_looser_thresholds_would_pass():
    answered, wrong = [1000] * len(GRID), [0] * len(GRID)
    gap = GRID.index(0.9)
    wrong[gap] = 1000
    counted = Vouching(tuple(answered), tuple(wrong))
    assert vouching.threshold(counted, 0.95) == GRID[gap + 1]
    assert vouching.threshold(constant(1000, 0), 0.95) == 0
    assert vouching.threshold(constant(1000, 1000), 0.95) is None
    assert vouching.threshold(constant(0, 0), 0.95) is None
    # Errors at thresholds stricter than the start are never looked at.
    wrong = [0] * 190 + [1000] * 11
    assert vouching.threshold(Vouching(tuple(answered), tuple(wrong)), 0.95) == 0


@pytest.mark.parametrize(("precision", "delta"), [(0.95, 0.1), (0.9, 0.1), (0.5, 0.125), (0.1, 0.001), (0.99, 0.05)])
def test_the_answers_needed_are_just_enough(precision, delta):
    needed = vouching.answers_needed(precision, delta)
    assert precision**needed <= delta * (1 + 1e-9) < precision ** (needed - 1)
    assert vouching.threshold(constant(needed, 0), precision, delta * (1 + 1e-9)) == 0
    assert vouching.threshold(constant(needed - 1, 0), precision, delta) is None


def test_a_refusal_says_how_many_images_it_takes_and_the_best_that_can_be_had():
    few = vouching.refusal(constant(30, 0), 0.95)
    assert "0.95 cannot be vouched for: it needs 45 counted answers without a mistake" in few
    assert "about 210 images" in few and "30 were held out" in few and "the best that can be had now is 0.92" in few
    assert vouching.threshold(constant(30, 0), 0.92) is not None and vouching.threshold(constant(30, 0), 0.93) is None
    assert "fgvc calibrate RUN --split test" in few and "--data.val_fraction" in few
    bad = vouching.refusal(constant(300, 90), 0.95)
    assert "this model errs too often, however sure it is" in bad and "images)" not in bad
    assert "the best that can be had now is 0.66" in bad
    hopeless = vouching.refusal(constant(3, 3), 0.95)
    assert "no precision can be had now" in hopeless and "than can be foreseen from so few" in hopeless
    assert "no image of a known finest class was held out" in vouching.refusal(constant(0, 0), 0.95)
    assert "\n" not in few + bad + hopeless


def slow_plan(counted, precision, delta=DELTA):
    """The definition: for every threshold and every number of answers, one after the other."""
    plans = []
    total = counted.answered[0] + (counted.pilot_answered or [0])[0]
    for i in range(0, len(GRID)):
        answered = counted.answered[i] + (counted.pilot_answered or [0] * 201)[i]
        wrong = counted.wrong[i] + (counted.pilot_wrong or [0] * 201)[i]
        rate = (wrong + 0.5) / (answered + 1)
        for n in range(1, 3000) if answered else ():
            if binom.cdf(math.ceil(rate * n), n, 1 - precision) <= delta:
                plans.append(2 * n * total / answered)
                break
    plan = min(plans)
    return plan if vouching.threshold(counted, precision, delta) is not None else max(plan, 1.5 * total)


def test_what_was_not_enough_is_never_planned_again():
    few = Vouching((54,) * 201, (3,) * 201, (55,) * 201, (0,) * 201)  # unlucky: of the pilot none was wrong
    assert vouching.threshold(few, 0.9) is None and vouching.images_needed(few, 0.9) == 170
    assert vouching.prospect(few).count("0.9 takes about 170 images") == 1


@pytest.mark.parametrize("piloted", [False, True])
def test_the_plan_is_that_of_a_slow_loop_to_two_digits(piloted):
    for seed in (0, 1):
        scores, correct = lineages(150, seed)
        counted = vouching.count(scores, correct | (scores > 0.8))
        if piloted:
            counted = counted._replace(pilot_answered=counted.answered, pilot_wrong=counted.wrong)
        wanted, found = slow_plan(counted, 0.8), vouching.images_needed(counted, 0.8)
        assert wanted <= found <= 1.13 * wanted  # rounded up to two digits; its numbers of answers are 2 % apart
    assert vouching.images_needed(constant(300, 90), 0.95) is None
    assert vouching.images_needed(constant(0, 0), 0.95) is None


def test_who_gathers_as_many_images_as_planned_mostly_gets_the_precision():
    """A model that errs in 2 of 100: the planned images certify 0.95 in most drawings, half of them do not."""
    planned = vouching.images_needed(constant(1000, 20), 0.95)
    rng = np.random.default_rng(0)

    def certified(images):
        drawn = rng.binomial(images // 2, 0.02, 400)
        return np.mean([vouching.threshold(constant(images // 2, int(wrong)), 0.95) is not None for wrong in drawn])

    assert certified(planned) > 0.5 > certified(planned // 2)


def test_a_prospect_tells_the_best_precision_and_what_the_others_take():
    told = vouching.prospect(constant(55, 2))
    assert told.startswith("answers can be vouched for up to a precision of 0.9 (55 were held out); 0.95 takes about ")
    assert "--split test" in told and "\n" not in told
    assert "--split test" not in vouching.prospect(constant(55, 2), "test")
    assert vouching.prospect(constant(2000, 10)) == "answers can be vouched for up to a precision of 0.99"
    assert "0.9 and 0.95 take a better model" in vouching.prospect(constant(300, 40))
    assert "0.8, 0.9 and 0.95 take more images than can be foreseen" in vouching.prospect(constant(2, 1))
    assert vouching.prospect(constant(0, 0)).startswith("nothing can be vouched for: no image")
    assert vouching.best_precision(constant(3, 3)) is None


@pytest.mark.parametrize("piloted", [False, True])
def test_the_promise_holds_where_a_naive_threshold_breaks_it(piloted):
    """300 calibration sets, drawn with replacement from 4,000 images whose precision is known at every threshold."""
    rng, target, trials = np.random.default_rng(11), 0.9, 300
    sure = rng.random((4000, 1)) ** 0.4
    scores = sure ** np.array([0.1, 0.6, 2.0])
    correct = rng.random((4000, 1)) < scores**1.5  # over-confident; one draw, so that right below is right above
    depths = np.array([vouching.decide(scores, t) for t in GRID])
    answered = depths >= 0
    wrong = answered & ~np.take_along_axis(correct, depths.clip(0).T, axis=1).T
    truth = 1 - wrong.sum(axis=1) / answered.sum(axis=1)
    assert truth[0] < 0.5 and truth[-40] > target  # neither hopeless nor without a risk

    def counts(drawn):
        return [tuple(one[:, drawn].sum(axis=1).tolist()) for one in (answered, wrong)]

    broken = naive_broken = silent = 0
    for _ in range(trials):
        drawn = rng.integers(4000, size=250)
        counted = Vouching(*counts(drawn), *(counts(rng.integers(4000, size=250)) if piloted else ()))
        chosen = vouching.threshold(counted, target, DELTA)
        silent += chosen is None
        broken += chosen is not None and truth[GRID.index(chosen)] < target
        seen = 1 - np.array(counted.wrong) / np.maximum(counted.answered, 1)
        naive_broken += truth[np.flatnonzero(seen >= target)[0]] < target
    # A rate of delta gives at most 44 of 300 with probability 0.995.
    assert binom.ppf(0.995, trials, DELTA) == 44
    assert broken <= 44
    assert naive_broken > 100
    assert silent < 30  # silence would keep every promise


def test_the_chance_to_certify_a_precision_that_falls_just_short_is_at_most_delta():
    """The exact chance, from all possible numbers of errors; a p-value that forgot one error would exceed delta."""
    for precision in (0.5, 0.8, 0.9, 0.95):
        rates = []
        for answered in (45, 100, 333, 1000):
            certified = [
                wrong
                for wrong in range(answered)
                if vouching.threshold(constant(answered, wrong), precision) is not None
            ]
            assert certified == list(range(len(certified)))
            rates.append(binom.cdf(len(certified) - 1, answered, 1 - precision))
            assert binom.cdf(len(certified), answered, 1 - precision) > DELTA
        assert max(rates) <= DELTA


def test_lineages_walk_up_from_the_best_leaf_of_complete_probabilities():
    generator = torch.Generator().manual_seed(0)
    logits = {
        "genus": torch.randn(20, TAXONOMY.size("genus"), generator=generator),
        "species": 3 * torch.randn(20, TAXONOMY.num_classes, generator=generator),
    }
    labels = torch.tensor([0, 1, 2, 3, 4, TAXONOMY.find("Strix"), TAXONOMY.find("Owls"), -1, *range(5), *[4] * 7])
    scores = relatives.lineage_scores(TAXONOMY.complete(logits), TAXONOMY)
    leaf = logits["species"].argmax(dim=1)
    correct = relatives.lineage_correct(leaf, labels, TAXONOMY)
    assert scores.shape == correct.shape == (20, 3)
    genus, species = logits["genus"].double().softmax(1), logits["species"].double().softmax(1)
    for n in range(20):
        path = TAXONOMY.path(int(leaf[n]))
        truth = TAXONOMY.path(int(labels[n])) if labels[n] >= 0 else ()
        family = sum(species[n, k] for k in range(5) if TAXONOMY.path(k)[0] == path[0])
        own = genus[n, TAXONOMY.names("genus").index(path[1])]
        assert scores[n].tolist() == pytest.approx([float(family), float(own), float(species[n].max())], abs=1e-6)
        assert correct[n].tolist() == [path[: d + 1] == truth[: d + 1] for d in range(3)]
    assert correct.any(dim=0).all() and not correct.all(dim=0).any()


def test_counts_survive_a_file():
    counted = vouching.count(*lineages(50))
    assert Vouching.from_plain(json.loads(json.dumps(counted.to_plain()))) == counted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answered": [1] * 200}, "vouching.answered: not a list of 201"),
        ({"wrong": "none"}, "vouching.wrong: not a list"),
        ({"wrong": [-1] * 201}, "vouching.wrong: -1 is no count"),
        ({"wrong": [0.5] * 201}, "vouching.wrong: 0.5 is no count"),
        ({"answered": [True] * 201}, "vouching.answered: True is no count"),
        ({"wrong": [6] * 201}, "6 wrong of 5 answers"),
        ({"pilot_wrong": [6] * 201}, "6 wrong of 5 answers"),
        ({"pilot_wrong": []}, "vouching.pilot_wrong: not a list of 201"),
        ({"more": []}, r"is not \['answered', 'wrong', 'pilot_answered', 'pilot_wrong'\]"),
    ],
)
def test_damaged_counts_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        Vouching.from_plain({name: [5] * 201 for name in Vouching._fields} | change)
    with pytest.raises(UsageError, match="vouching: None is not"):
        Vouching.from_plain(None)


def test_numbers_outside_their_range_are_refused():
    for value in (0, 1, 95, -0.1, math.nan):
        with pytest.raises(UsageError, match=f"precision: {value}; it must lie between 0 and 1"):
            vouching.threshold(constant(9, 0), value)
        with pytest.raises(UsageError, match=f"delta: {value}; it must lie"):
            vouching.threshold(constant(9, 0), 0.9, value)


def test_the_pilot_says_where_the_walk_begins():
    """Nothing reaches the place that follows from the precision alone; the pilot knows where the images are."""
    reached = [300 if t < 0.4 else 0 for t in GRID]
    wrong = [100 if t < 0.2 else 1 if t < 0.4 else 0 for t in GRID]
    assert vouching.threshold(Vouching(tuple(reached), tuple(wrong)), 0.9) is None
    found = vouching.threshold(Vouching(tuple(reached), tuple(wrong), tuple(reached), tuple(wrong)), 0.9)
    assert found == min(t for t in GRID if t >= 0.2)


def test_counts_travel_as_plain_lists_with_and_without_a_pilot():
    alone = constant(9, 2)
    both = alone._replace(pilot_answered=(7,) * len(GRID), pilot_wrong=(1,) * len(GRID))
    for counted in (alone, both):
        assert Vouching.from_plain(json.loads(json.dumps(counted.to_plain()))) == counted


def test_what_a_person_can_do_for_more_images_is_told_in_the_words_of_the_command():
    none, few = Vouching((0,) * len(GRID), (0,) * len(GRID)), Vouching((5,) * len(GRID), (0,) * len(GRID))
    assert vouching.prospect(none, more="give more").endswith("was held out; give more")
    assert vouching.prospect(few, more="give more").endswith("; give more")
