import json
import math

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY, tiny_model

from fgvc.confidence.vouching import GRID, decide
from fgvc.datatypes import Sample
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training import calibration
from fgvc.training.calibration import (
    FEWEST,
    PRIOR,
    Calibration,
    Temperature,
    _most_probable,
    calibrate,
    calibration_error,
    choose_readout,
    collect,
    collected,
    fit_temperature,
    halves,
)


def drawn_from(temperature, size=4000, classes=6, seed=0):
    """Logits, and targets that are drawn from softmax(logits / temperature)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(size, classes, generator=generator)
    return logits, torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]


def slow_nll(logits, targets, temperature):
    """The definition in numpy's float64."""
    z = logits.double().numpy() / temperature
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -np.mean([row[t] for row, t in zip(log_p, targets.tolist(), strict=True) if t >= 0])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_data_is_found_and_no_other_is_better(temperature):
    logits, targets = drawn_from(temperature)
    targets[::7] = -1
    fitted = fit_temperature(logits, targets)
    found, count = fitted.value, fitted.images
    assert count == sum(t >= 0 for t in targets.tolist())
    assert found == pytest.approx(temperature, rel=0.05)
    assert fitted.is_kept_at_1 == (temperature == 1.0)

    def cost(value):  # the definition: the mean loss, and the prior of log T
        return slow_nll(logits, targets, value) + math.log(value) ** 2 / (2 * PRIOR**2) / count

    if temperature != 1:
        assert all(cost(found) <= cost(found * factor) for factor in (0.98, 0.99, 1.01, 1.02))
    assert slow_nll(logits, targets, found) <= slow_nll(logits, targets, 1.0)
    assert fit_temperature(logits[targets >= 0], targets[targets >= 0]) == pytest.approx(fitted, rel=1e-6)
    assert fit_temperature(1000 + logits, targets).value == pytest.approx(found, rel=1e-2)


def test_the_temperature_stays_within_its_bounds():
    logits = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    assert 0.05 <= fit_temperature(logits, logits.argmax(1)).value < 0.07
    assert 19 < fit_temperature(100 * logits, logits.argmin(1)).value <= 20


def test_the_temperature_is_1_where_nothing_can_be_known():
    logits = torch.randn(5, 4)
    for told in (
        fit_temperature(logits, torch.full((5,), -1)),
        fit_temperature(logits[:0], torch.zeros(0, dtype=torch.int64)),
        fit_temperature(logits[:1], torch.zeros(1, dtype=torch.int64)),
        fit_temperature(torch.zeros(5, 4), torch.arange(5) % 4),
        fit_temperature(torch.full((5, 4), math.nan), torch.arange(5) % 4),
    ):
        assert told.value == 1 and told.is_kept_at_1


@pytest.mark.parametrize("count", [10, 20, 30])
def test_few_images_move_the_temperature_little_and_only_where_held_out_ones_gain(count):
    logits, targets = drawn_from(1.6, size=count)
    fitted = fit_temperature(logits, targets)
    alone = min((slow_nll(logits, targets, 1.02**i), 1.02**i) for i in range(-150, 151))[1]
    value = _most_probable(logits, targets)
    assert abs(math.log(value)) < abs(math.log(alone))  # shrunk towards 1
    gains = []
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    for fold in range(10):
        held_out = order[fold::10]
        rest = [i for i in range(count) if i not in held_out]
        value = _most_probable(logits[rest], targets[rest])
        gains += [
            slow_nll(logits[[i]], targets[[i]], 1.0) - slow_nll(logits[[i]], targets[[i]], value) for i in held_out
        ]
    assert fitted.gain == pytest.approx(np.mean(gains), abs=1e-6)
    assert fitted.error == pytest.approx(np.std(gains, ddof=1) / math.sqrt(count), abs=1e-6)
    assert (fitted.value == 1) == (np.mean(gains) <= 0)


def test_small_sets_are_calibrated_no_worse_than_by_nothing_or_by_the_best_likelihood():
    """20 small sets each of networks that are too sure, honest and too unsure, drawn from one larger set."""
    means = {"ours": [], "nothing": [], "likelihood": []}
    for temperature in (0.65, 1.0, 1.5):
        logits, targets = drawn_from(temperature, size=6000)
        draw = np.random.default_rng(0)
        for _ in range(20):
            rows = torch.from_numpy(draw.permutation(3000)[: draw.integers(10, 61)])
            own, truth = logits[rows], targets[rows]
            values = {"ours": fit_temperature(own, truth).value, "nothing": 1.0}
            values["likelihood"] = min((slow_nll(own, truth, 1.05**i), 1.05**i) for i in range(-60, 61))[1]
            for name, value in values.items():
                confidence, answer = (logits[3000:] / value).softmax(1).max(1)
                means[name].append(calibration_error(confidence, answer == targets[3000:]))
    ours, nothing, likelihood = (float(np.mean(errors)) for errors in means.values())
    assert ours < nothing and ours < likelihood, (ours, nothing, likelihood)


def test_what_was_fitted_is_told_in_a_sentence():
    def told(fitted, before=0.2, after=0.1, images=48):
        return Calibration({"species": fitted}, {"species": before}, {"species": after}, None, images).told(
            "species", "val"
        )

    kept = told(Temperature(1.0, -0.004, 0.02, 24))
    assert kept == (
        "calibrated on 48 val images: the species temperature stays 1 "
        "(held-out likelihood -0.004 per image, error 0.020)"
    )
    assert told(Temperature(1.4, 0.05, 0.02, 24)) == (
        "calibrated on 48 val images: species calibration error 0.200 -> 0.100, on the 24 of them that fitted nothing"
    )
    few = told(Temperature(0.62, 0.05, 0.02, 7), images=13)
    assert few == "calibrated on 13 val images: species temperature 0.62; too few to measure its error"
    nothing = told(Temperature(1.0, 0.0, math.inf, 1), math.nan, math.nan, images=1)
    assert nothing == "not calibrated: 1 val image cannot fit a temperature and check it; hold out more"


def slow_error(confidence, correct, bins):
    members = {}
    for c, right in zip(confidence, correct, strict=True):
        members.setdefault(min(int(c * bins), bins - 1), []).append((c, right))
    gaps = [abs(sum(c for c, _ in pairs) - sum(right for _, right in pairs)) for pairs in members.values()]
    return sum(gaps) / len(confidence)


def test_the_calibration_error_is_that_of_a_slow_loop_with_certain_images_in_the_last_bin():
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence**2
    found = calibration_error(torch.from_numpy(confidence), torch.from_numpy(correct))
    assert found == pytest.approx(slow_error(confidence.tolist(), correct.tolist(), 15), abs=1e-9)
    # 0.95 is right and 1 is wrong: in one bin the two make up for each other in part.
    assert calibration_error(torch.tensor([0.95, 1.0]), torch.tensor([True, False]), bins=10) == pytest.approx(0.475)
    assert calibration_error(torch.tensor([0.0, 1.0]), torch.tensor([False, True])) == pytest.approx(0)
    assert math.isnan(calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))
    assert math.isnan(calibration_error(torch.tensor([0.5, math.nan]), torch.tensor([True, True])))


def batches_of(images, labels, size):
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        index = torch.arange(len(labels))[part]
        yield Sample(images[part], labels[part], index, torch.tensor([0.0, 0, 1, 1]).expand(len(index), 4))


def photographs(size):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.arange(size) % 5


def test_collect_returns_what_the_recognizer_says_in_evaluation_mode():
    images, labels = photographs(11)
    recognizer = tiny_model().recognizer
    with torch.no_grad():
        expected = recognizer(images).logits["species"]
    recognizer.train()
    logits, kept = collect(recognizer, batches_of(images, labels, 4), torch.device("cpu"), total=11)
    assert list(logits) == ["species"]
    assert torch.equal(kept, labels)
    assert torch.allclose(logits["species"], expected, atol=1e-4)
    assert not recognizer.training


def test_collect_draws_images_where_all_would_be_too_many():
    size, most = 60, 20
    images, labels = photographs(size)
    labels = torch.arange(size) % 2  # two classes take turns
    recognizer = tiny_model().recognizer
    with torch.no_grad():
        expected = recognizer(images).logits["species"]
    seen = []
    recognizer.register_forward_hook(lambda *call: seen.append(len(call[1][0])))
    logits, kept = collect(recognizer, batches_of(images, labels, 7), torch.device("cpu"), size, 5 * most + 4)
    assert logits["species"].shape == (most, 5)
    assert sum(seen) == most  # the others cost nothing
    places = [int((expected - row).abs().sum(1).argmin()) for row in logits["species"]]
    assert places == sorted(set(places))
    assert kept.tolist() == [place % 2 for place in places]
    assert 5 < kept.sum() < 15
    again, _ = collect(recognizer, batches_of(images, labels, 7), torch.device("cpu"), size, 5 * most)
    assert torch.equal(again["species"], logits["species"])


def test_collect_refuses_what_holds_no_image():
    recognizer = tiny_model().recognizer
    with pytest.raises(UsageError, match="5 classes, of which 4 floats hold no image"):
        collect(recognizer, [], torch.device("cpu"), 10, limit=4)
    for total in (0, 10):  # a class of one image gives none; none of ten could be read
        with pytest.raises(UsageError, match=r"no image is held out .* add images, or .* --split test"):
            collect(recognizer, [], torch.device("cpu"), total)


class Splits:
    """A datamodule of which process 1 of 2 trains: `whole_split` is all of a split, whatever the others do."""

    def __init__(self, **sizes):
        self.sizes = sizes

    def records(self, split):
        return range(self.sizes[split])

    def whole_split(self, split, rows):
        images, labels = photographs(self.sizes[split])
        return batches_of(images[rows], labels[rows], 4)


def test_collected_reads_the_split_that_is_asked_for(capsys):
    recognizer = tiny_model().recognizer
    for split, size in {"val": 6, "test": 11}.items():
        logits, labels = collected(recognizer, Splits(val=6, test=11), split, torch.device("cpu"))
        images, expected = photographs(size)
        assert torch.equal(labels, expected)
        with torch.no_grad():
            assert torch.allclose(logits["species"], recognizer(images).logits["species"], atol=1e-4)
    assert capsys.readouterr().out == ""


def test_the_halves_share_the_images_are_the_same_each_time_and_mix_the_places():
    first, second = halves(41)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(41))
    assert (len(first), len(second)) == (21, 20)
    assert all(torch.equal(a, b) for a, b in zip(halves(41), (first, second), strict=True))
    assert all(5 < int((half % 2).sum()) < 15 for half in (first, second))  # classes may take turns
    assert all(5 < int((half < 20).sum()) < 15 for half in (first, second))  # or stand one after the other


def opinions(size, seed=0):
    """Over-confident logits of two levels of the tiny tree, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (size,), generator=generator)
    noise = torch.randn(size, 5, generator=generator)
    species = 6 * (torch.nn.functional.one_hot(labels, 5) + noise)
    genus = TAXONOMY.targets(labels, "genus")
    own = 6 * (torch.nn.functional.one_hot(genus, 4) + torch.randn(size, 4, generator=generator))
    return {"species": species, "genus": own}, labels


def test_calibrated_scores_are_honest_and_each_level_with_logits_gets_its_own_temperature():
    logits, labels = opinions(3000)
    found = calibrate(logits, labels, TAXONOMY)
    assert list(found.temperatures) == ["genus", "species"]
    for level, logit in logits.items():
        whole = fit_temperature(logit, TAXONOMY.targets(labels, level)).value
        assert found.temperatures[level] == pytest.approx(whole, rel=0.15)
        assert whole > 2
    assert list(found.ece_before) == list(found.ece_after) == ["family", "genus", "species"]
    assert all(found.ece_before[level] > 0.1 for level in ("family", "species"))
    assert all(found.ece_after[level] < 0.06 for level in ("family", "species"))
    assert found.images == 3000 and found.vouching.answered[0] == 1500
    assert 0 < found.vouching.wrong[0] < 1500


def test_the_counts_are_those_of_the_calibrated_lineages():
    logits, labels = opinions(400)
    found = calibrate(logits, labels, TAXONOMY)
    p = {level: (x.double() / found.temperatures[level]).softmax(1) for level, x in logits.items()}
    rates = []
    for n in range(400):
        leaf = int(p["species"][n].argmax())
        path, truth = TAXONOMY.path(leaf), TAXONOMY.path(int(labels[n]))
        family = sum(float(p["species"][n, k]) for k in range(5) if TAXONOMY.path(k)[0] == path[0])
        genus = float(p["genus"][n, TAXONOMY.names("genus").index(path[1])])
        depth = decide(np.array([[family, genus, float(p["species"][n, leaf])]]), 0.9)[0]
        rates.append((depth >= 0, depth >= 0 and path[: depth + 1] != truth[: depth + 1]))
    place = GRID.index(0.9)
    answered, wrong = np.mean(rates, axis=0)  # of all; half of them were counted
    assert found.vouching.answered[place] / 200 == pytest.approx(answered, abs=0.08)
    assert found.vouching.wrong[place] / found.vouching.answered[place] == pytest.approx(wrong / answered, abs=0.06)


def test_an_image_fits_or_counts_and_never_both_also_where_classes_take_turns():
    size = 24
    logits, _ = opinions(size, seed=2)
    labels = torch.arange(size) % 2
    first = calibrate(logits, labels, TAXONOMY)
    fits, counts = [], []
    for n in range(size):
        changed = labels.clone()
        changed[n] = -1
        other = calibrate(logits, changed, TAXONOMY)
        fits.append(other.temperatures != first.temperatures)
        counts.append(other.vouching.answered[0] == first.vouching.answered[0] - 1)
        assert fits[-1] != counts[-1]
    assert sum(fits) == size // 2
    assert len({int(label) for label, counted in zip(labels, counts, strict=True) if counted}) == 2


def test_a_coarse_label_counts_for_the_temperature_of_its_level_and_not_for_vouching():
    logits, labels = opinions(200)
    coarse = torch.tensor([TAXONOMY.node("genus", int(i)) for i in TAXONOMY.targets(labels, "genus")])
    fine, found = calibrate(logits, labels, TAXONOMY), calibrate(logits, coarse, TAXONOMY)
    assert found.temperatures["genus"] == fine.temperatures["genus"] != 1
    assert found.temperatures["species"] == 1 != fine.temperatures["species"]
    assert set(found.vouching.answered) == {0}
    assert math.isnan(found.ece_after["species"])
    assert found.ece_after["genus"] == pytest.approx(fine.ece_after["genus"])


def test_flat_classes_a_lonely_image_and_a_broken_network_are_no_error():
    flat = Taxonomy.flat(["a", "b"])
    found = calibrate({"class": torch.tensor([[2.0, 1]])}, torch.tensor([0]), flat)
    assert found.images == 1 and found.vouching.answered[0] == 0
    broken = calibrate({"class": torch.full((8, 2), math.nan)}, torch.arange(8) % 2, flat)
    assert broken.temperatures == {"class": 1} and math.isnan(broken.ece_after["class"])
    assert set(broken.vouching.answered) == {0}


def judged(own_signal, size=400, seed=0):
    """Logits of which the genus classifier is noise (0) or right most of the time (6), and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (size,), generator=generator)
    species = 2.0 * torch.nn.functional.one_hot(labels, 5) + torch.randn(size, 5, generator=generator)
    genus = torch.nn.functional.one_hot(TAXONOMY.targets(labels, "genus"), 4)
    return {"genus": own_signal * genus + torch.randn(size, 4, generator=generator), "species": species}, labels


def slow_gains(logits, labels, temperatures):
    """By how much sums over the leaves make the true genus of each image more probable than its classifier does."""
    for genus, species, label in zip(
        logits["genus"].tolist(), logits["species"].tolist(), labels.tolist(), strict=True
    ):
        true = TAXONOMY.path(label)
        if len(true) < 2:  # -1, or known to the family only
            yield 0.0
            continue
        p, q = (
            [math.exp(x / temperatures.get(level, 1)) for x in row]
            for level, row in (("species", species), ("genus", genus))
        )
        summed = sum(p[k] for k in range(5) if TAXONOMY.path(k)[:2] == true[:2]) / sum(p)
        own = q[[TAXONOMY.path(TAXONOMY.node("genus", i)) for i in range(4)].index(true[:2])] / sum(q)
        yield math.log(summed) - math.log(own)


@pytest.mark.parametrize(("own_signal", "chosen"), [(0.0, "marginal"), (6.0, "own")])
def test_the_readout_is_the_one_that_makes_the_truth_more_probable(own_signal, chosen):
    logits, labels = judged(own_signal)
    labels[::9] = TAXONOMY.find("Owls")
    temperatures = {"genus": 1.3, "species": 0.8}
    readout, (gain, error) = choose_readout(logits, labels, temperatures, TAXONOMY)
    gains = list(slow_gains(logits, labels, temperatures))
    assert readout == chosen
    assert gain == pytest.approx(np.mean(gains), abs=1e-6)
    assert error == pytest.approx(np.std(gains, ddof=1) / 20, abs=1e-6)
    assert calibrate(logits, labels, TAXONOMY).readout == chosen


def test_few_images_or_a_gain_within_its_error_keep_the_levels_own_classifier():
    logits, labels = judged(0.0)
    for size in range(2, 30):
        readout, (gain, error) = choose_readout({k: x[:size] for k, x in logits.items()}, labels[:size], {}, TAXONOMY)
        assert readout == ("marginal" if size >= FEWEST and gain > error else "own")
        if size < FEWEST:
            assert readout == "own"
    assert gain > error and readout == "marginal"
    alike = {"genus": taxonomy_sums(logits["species"]), "species": logits["species"]}
    alike["genus"] = alike["genus"] + 0.3 * torch.randn(400, 4, generator=torch.Generator().manual_seed(1))
    wavering = {choose_readout({k: x[n : n + 20] for k, x in alike.items()}, labels[n : n + 20], {}, TAXONOMY)[0]
                for n in range(0, 400, 20)}  # fmt: skip
    assert "own" in wavering
    lonely = {k: x[:1] for k, x in logits.items()}
    assert choose_readout(lonely, labels[:1], {}, TAXONOMY) == ("own", None)


def taxonomy_sums(species):
    p = species.softmax(dim=1)
    rows = [
        [sum(row[k] for k in range(5) if TAXONOMY.path(k)[1] == name) for name in TAXONOMY.names("genus")] for row in p
    ]
    return torch.tensor(rows).log()


def test_without_classifiers_at_coarse_levels_there_is_nothing_to_choose():
    logits, labels = judged(0.0)
    assert choose_readout({"species": logits["species"]}, labels, {}, TAXONOMY) == ("own", None)
    assert "readout_gain" not in calibrate({"species": logits["species"]}, labels, TAXONOMY).to_plain("val")


def test_the_counts_and_errors_are_those_of_the_chosen_readout():
    logits, labels = judged(0.0)
    with_noise, without = (
        calibrate(logits, labels, TAXONOMY),
        calibrate({"species": logits["species"]}, labels, TAXONOMY),
    )
    assert with_noise.readout == "marginal"
    assert with_noise.vouching == without.vouching
    assert with_noise.ece_after == pytest.approx(without.ece_after)


def test_the_chosen_readout_is_told_with_its_gain():
    logits, labels = judged(0.0)
    found = calibrate(logits, labels, TAXONOMY)
    gain, error = found.readout_gain
    assert found.told("species", "val").splitlines()[1] == (
        "probabilities of the coarse levels: from sums over their leaves (marginal; log-likelihood of sums over "
        f"leaves {gain:+.3f} per image, error {error:.3f})"
    )
    assert found.to_plain("val")["readout_gain"] == [round(gain, 6), round(error, 6)]
    own = calibrate(*judged(6.0), TAXONOMY).told("species", "val").splitlines()[1]
    assert own.startswith("probabilities of the coarse levels: from their own classifiers (own; log-likelihood of ")


def test_a_model_file_is_told_the_split_its_size_and_the_errors_that_are_numbers():
    logits, labels = opinions(60)
    family = torch.tensor([TAXONOMY.node("family", int(i)) for i in TAXONOMY.targets(labels, "family")])
    found = calibrate(logits, family, TAXONOMY)  # known to the family only
    plain = found.to_plain("val")
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["split"], plain["images"]) == ("val", 60)
    assert list(plain["ece_before"]) == list(plain["ece_after"]) == ["family"]
    rounded = Calibration({}, {"a": 0.12345678}, {"a": 1 / 3}, found.vouching, 20).to_plain("test")
    assert (rounded["ece_before"], rounded["ece_after"]) == ({"a": 0.123457}, {"a": 0.333333})
    few = Calibration({}, {"a": 0.1}, {"a": 0.2}, found.vouching, 19).to_plain("test")  # 9 of them measured it
    assert (few["ece_before"], few["ece_after"]) == ({}, {})


def test_no_image_is_read_in_vain(monkeypatch):
    monkeypatch.setattr(calibration, "LIMIT", 4 * TAXONOMY.num_classes + 1)
    asked = []

    class Watched(Splits):
        def whole_split(self, split, rows):
            asked.extend(rows)
            return super().whole_split(split, rows)

    logits, labels = collected(tiny_model().recognizer, Watched(val=9), "val", torch.device("cpu"))
    assert len(asked) == len(labels) == len(logits["species"]) == 4 and asked == sorted(set(asked))
    assert labels.tolist() == photographs(9)[1][asked].tolist()
