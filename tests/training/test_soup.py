import copy

import numpy as np
import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY
from torch import nn

from fgvc.datatypes import Sample
from fgvc.errors import UsageError
from fgvc.model_file.architecture import build
from fgvc.training import soup

CPU = torch.device("cpu")


def networks(count=3):
    torch.manual_seed(0)
    first = build(PLAIN, TAXONOMY, 32).eval()
    made = [first]
    for seed in range(1, count):
        torch.manual_seed(seed)
        other = copy.deepcopy(first)
        for tensor in other.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.rand_like(tensor))
            else:
                tensor.add_(seed)
        made.append(other)
    return made


def batches(sizes=(8, 8), seed=0):
    drawn = torch.Generator().manual_seed(seed)
    for size in sizes:
        images = torch.randint(256, (size, 3, 32, 32), dtype=torch.uint8, generator=drawn)
        labels = torch.randint(TAXONOMY.num_classes, (size,), generator=drawn)
        yield Sample(images, labels, torch.arange(size), torch.zeros(size, 4))


def test_parameters_and_statistics_are_averaged_and_counters_and_constants_are_not():
    made = networks()
    states = [one.state_dict() for one in made]
    found = soup.mean_state(states, soup.averaged_names(made[0]))
    assert found.keys() == states[0].keys()
    for name, value in found.items():
        if "num_batches" in name or name in ("backbone.mean", "backbone.std"):
            assert torch.equal(value, states[0][name]), name
            continue
        by_hand = np.mean([state[name].numpy().astype(np.float64) for state in states], axis=0)
        np.testing.assert_allclose(value.numpy(), by_hand, rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_mean_of_a_network_with_itself_is_that_network():
    state = networks(1)[0].state_dict()
    found = soup.mean_state([state] * 3, soup.averaged_names(networks(1)[0]))
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_norms_whose_statistics_are_alike_are_left_alone():
    first, second = networks(2)
    assert soup.moving_norms(first, [first.state_dict(), first.state_dict()]) == []
    moved = soup.moving_norms(first, [first.state_dict(), second.state_dict()])
    assert moved == [name for name, one in first.named_modules() if isinstance(one, nn.BatchNorm2d)]
    assert moved


def test_measured_statistics_are_those_of_all_images_in_equal_batches():
    recognizer = networks(1)[0]
    norms = soup.moving_norms(recognizer, [one.state_dict() for one in networks(2)])
    first = norms[0]  # what reaches it hangs on no other norm
    seen = []
    hook = recognizer.get_submodule(first).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        for batch in batches():
            recognizer(batch.image)
    hook.remove()
    learnt = {name: value.clone() for name, value in recognizer.named_parameters()}
    assert soup.recompute_statistics(recognizer, norms, batches(), CPU) == 16
    values = [one.double().numpy().transpose(1, 0, 2, 3).reshape(one.shape[1], -1) for one in seen]
    norm = recognizer.get_submodule(first)
    np.testing.assert_allclose(
        norm.running_mean.numpy(), np.mean([v.mean(axis=1) for v in values], axis=0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        norm.running_var.numpy(), np.mean([v.var(axis=1, ddof=1) for v in values], axis=0), rtol=1e-4, atol=1e-5
    )
    assert norm.momentum == 0.1 and not any(module.training for module in recognizer.modules())
    assert all(torch.equal(value, learnt[name]) for name, value in recognizer.named_parameters())


def test_a_batch_of_one_image_measures_nothing():
    recognizer = networks(1)[0]
    norms = [name for name, one in recognizer.named_modules() if isinstance(one, nn.BatchNorm2d)]
    assert soup.recompute_statistics(recognizer, norms, batches((8, 1)), CPU) == 8


def test_the_accuracy_is_that_of_a_slow_loop_over_known_leaves():
    recognizer = networks(1)[0]
    found, right = [*batches((5, 4))], 0
    found[0].label[0] = -1
    for batch in found:
        for image, label in zip(batch.image, batch.label.tolist(), strict=True):
            with torch.no_grad():
                best = int(recognizer(image[None]).logits["species"][0].numpy().argmax())
            right += label >= 0 and best == label
    assert soup.accuracy(recognizer, found, CPU) == pytest.approx(right / 8)
    with pytest.raises(UsageError, match="no held-out image has a known class"):
        soup.accuracy(recognizer, [], CPU)


def test_greedy_adds_from_the_best_on_what_does_not_lower_the_score():
    scores = {(1, 3): 0.7, (1, 3, 0): 0.65, (1, 3, 2): 0.7}
    asked = []

    def score(places):
        asked.append(tuple(places))
        return scores[tuple(places)]

    assert soup.greedy([0.5, 0.69, 0.4, 0.6], score) == ([1, 3, 2], 0.7)
    assert asked == [(1, 3), (1, 3, 0), (1, 3, 2)]
    assert soup.greedy([0.5], score) == ([0], 0.5)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 2]}, ""),
        (PLAIN, {**PLAIN, "class_path": "RACNN"}, "recognizer.class_path: WholeImage and RACNN"),
        (
            {"init_args": {"head": {"scale": 1}}},
            {"init_args": {"head": {"scale": 2}}},
            "recognizer.head.scale: 1 and 2",
        ),
        ({"a": 1}, {"a": 1, "b": 2}, "recognizer.b: None and 2"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "recognizer.a[1]: 2 and 3"),
        ({"a": [1]}, {"a": [1, 3]}, "recognizer.a: [1] and [1, 3]"),
    ],
)
def test_the_first_difference_of_two_architectures_is_named(one, other, said):
    assert soup.first_difference(one, other) == said
