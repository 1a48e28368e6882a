from functools import partial
from types import SimpleNamespace

import pytest
import torch
from fakes.tiny_model import TAXONOMY
from torch.nn.functional import conv2d, relu

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.recognizers.constellations import Constellations, chosen_parts, gradient_peaks, peaks_of

TINY = partial(Backbone, name="test_resnet", weights="none")
SIZE, SOURCE = 64, 96


def photos(number: int, seed: int = 1) -> torch.Tensor:
    coarse = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, SOURCE, mode="bilinear") * 255


def made(**arguments) -> Constellations:
    torch.manual_seed(0)
    return Constellations(TAXONOMY, SIZE, TINY, **{"num_candidates": 8, "num_images": 6, **arguments})


def planted(images: int, channels: int, parts: list[int], noise: float, seed: int = 0):
    """Places of channels: those of the parts move with the object, the others anywhere."""
    draw = torch.Generator().manual_seed(seed)
    places = torch.rand(images, channels, 2, generator=draw)
    anchors = 0.3 + 0.4 * torch.rand(images, 2, generator=draw)
    offsets = 0.4 * torch.rand(len(parts), 2, generator=draw) - 0.2
    places[:, parts] = anchors[:, None] + offsets + noise * torch.randn(images, len(parts), 2, generator=draw)
    return places, 0.5 + torch.rand(images, channels, generator=draw)


def test_the_gradient_of_a_channel_peaks_where_a_slow_loop_says():
    draw = torch.Generator().manual_seed(0)
    kernels = torch.randn(3, 3, 3, 3, generator=draw)
    images = torch.randn(2, 3, 9, 11, generator=draw)
    backbone = SimpleNamespace(forward=lambda x: Features(relu(conv2d(x, kernels, stride=2))))
    found, strengths = gradient_peaks(backbone, images, torch.tensor([2, 0]))
    active = conv2d(images, kernels, stride=2) > 0
    for n in range(2):
        for row, channel in enumerate((2, 0)):
            slope = torch.zeros(3, 9, 11)
            for y in range(4):
                for x in range(5):
                    if active[n, channel, y, x]:
                        slope[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3] += kernels[channel]
            total = slope.abs().sum(dim=0)
            best = int(total.argmax())
            assert found[n, row].tolist() == pytest.approx([(best % 11 + 0.5) / 11, (best // 11 + 0.5) / 9])
            assert float(strengths[n, row]) == pytest.approx(float(total.max()), rel=1e-5)


def test_a_peak_is_the_middle_of_its_cell():
    maps = torch.zeros(1, 4, 5)
    maps[0, 2, 3] = 7
    place, height = peaks_of(maps)
    assert place[0].tolist() == pytest.approx([0.7, 0.625]) and float(height) == 7


@pytest.mark.parametrize("seed", range(5))
def test_the_channels_that_move_together_are_chosen(seed):
    places, strengths = planted(40, 20, [3, 8, 11, 19], noise=0.02, seed=seed)
    assert sorted(chosen_parts(places, strengths, 4)) == [3, 8, 11, 19]


def test_no_exchange_of_one_channel_lowers_the_cost():
    places, strengths = planted(12, 9, [1, 2, 5], noise=0.05)
    weights = (strengths / strengths.mean(dim=0)).tolist()

    def cost(parts):
        """The least sum over images and parts, by turns of anchors and offsets in plain loops."""
        anchors = [[0.5, 0.5] for _ in range(12)]
        for _ in range(60):
            offsets = {}
            for p in parts:
                total = sum(weights[i][p] for i in range(12))
                offsets[p] = [
                    sum(weights[i][p] * (float(places[i, p, k]) - anchors[i][k]) for i in range(12)) / total
                    for k in (0, 1)
                ]
            for i in range(12):
                total = sum(weights[i][p] for p in parts)
                anchors[i] = [
                    sum(weights[i][p] * (float(places[i, p, k]) - offsets[p][k]) for p in parts) / total for k in (0, 1)
                ]
        return sum(
            weights[i][p] * sum((float(places[i, p, k]) - offsets[p][k] - anchors[i][k]) ** 2 for k in (0, 1))
            for i in range(12)
            for p in parts
        )

    chosen = chosen_parts(places, strengths, 3)
    least = cost(chosen)
    for out in chosen:
        for other in set(range(9)) - set(chosen):
            assert cost([p for p in chosen if p != out] + [other]) >= least


def test_parts_at_one_place_are_taken_once():
    places, strengths = planted(30, 12, [0, 1, 2], noise=0.01)
    places[:, 7] = places[:, 0] + 0.001  # a twin
    assert len({0, 7} & set(chosen_parts(places, strengths, 3, apart=0.02))) == 1
    assert len(chosen_parts(places, strengths, 3, apart=5.0)) == 3  # nearer ones where no others are left


@pytest.mark.parametrize("peaks", ["gradient", "activation"])
def test_parts_are_gathered_chosen_once_and_looked_at(peaks):
    model = made(peaks=peaks, fusion="descriptors").train()
    model.enter("whole")
    assert list(model(photos(4)).views) == ["whole"] and not model._gathered
    model.enter("all")
    assert list(model(photos(4)).views) == ["whole"]
    answer = model(photos(4, seed=2))  # with these there are enough
    assert list(answer.views) == ["whole", "part1", "part2", "part3", "part4"]
    chosen = model.chosen.clone()
    assert (chosen >= 0).all() and not model._gathered and model.backbone.training
    terms = model.loss(answer, torch.arange(4))
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model(photos(4, seed=3))
    assert torch.equal(model.chosen, chosen)
    other = made(peaks=peaks, fusion="descriptors")
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        one, two = model.eval()(photos(2)), other.eval()(photos(2))
        single = model(photos(2)[1:])
    assert torch.equal(one.boxes, two.boxes) and torch.equal(one.logits["species"], two.logits["species"])
    assert torch.allclose(one.boxes[1:], single.boxes)
    assert torch.allclose(one.boxes[..., 2:] - one.boxes[..., :2], torch.tensor(0.35))


def test_what_the_method_cannot_do_is_said_in_one_line():
    for arguments in ({"num_candidates": 10_000}, {"num_parts": 9}, {"part_size": 0.0}, {"num_images": 1}):
        with pytest.raises(UsageError, match="Constellations: num_parts") as caught:
            made(**arguments)
        assert "\n" not in str(caught.value)
