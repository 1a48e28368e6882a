import numpy as np
import pytest
import torch
from scipy.special import expit

from fgvc.errors import UsageError
from fgvc.methods.attention.apn import APN, peak_boxes, spread_boxes
from fgvc.methods.backbone import Backbone
from fgvc.methods.object_mask import selected_boxes

BACKBONE = Backbone(64, "test_resnet", weights="none")


def maps(number: int = 6, side: int = 5) -> torch.Tensor:
    return torch.rand(number, BACKBONE.channels, side, side, generator=torch.Generator().manual_seed(0))


def test_it_starts_in_the_middle_at_the_middle_size_whatever_it_sees():
    boxes = APN(BACKBONE, hidden=8)(maps())
    torch.testing.assert_close(boxes, torch.tensor([1 / 6, 1 / 6, 5 / 6, 5 / 6]).expand(6, 4))


def test_the_answer_is_two_layers_by_hand():
    torch.manual_seed(0)
    apn = APN(BACKBONE, hidden=8, grid=5, side_min=0.2, side_max=0.9)
    torch.nn.init.normal_(apn.box.weight)
    flat = maps().flatten(1).double().numpy()
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (apn.hidden, apn.box)
    ]
    raw = np.tanh(flat @ layers[0][0].T + layers[0][1]) @ layers[1][0].T + layers[1][1]
    half = (0.2 + 0.7 * expit(raw[:, 2:])) / 2
    centre = half + (1 - 2 * half) * expit(raw[:, :2])
    expected = np.concatenate([centre - half, centre + half], axis=1)
    np.testing.assert_allclose(apn(maps()).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("side", [3, 5, 8])
def test_any_map_fits_the_grid(side):
    apn = APN(BACKBONE, hidden=8, reduce_to=4, grid=5, square=False)
    torch.nn.init.normal_(apn.box.weight)
    boxes = apn(maps(side=side))
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.shape == (6, 4) and (sides[:, 0] - sides[:, 1]).abs().max() > 1e-3


def test_the_peak_is_where_the_channels_sum_is_largest():
    features = torch.zeros(3, 2, 4, 8)
    for image, (y, x) in enumerate([(1, 3), (0, 0), (3, 7)]):
        features[image, :, y, x] = 1
        features[image, 0, 2, 2] = 1.5  # stronger in one channel, weaker in the sum
    expected = [[0.1875, 0.125, 0.6875, 0.625], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]
    torch.testing.assert_close(peak_boxes(features, 0.5), torch.tensor(expected))


@pytest.mark.parametrize("start", ["peak", "spread", "mask"])
def test_it_learns_where_to_start(start):
    torch.manual_seed(0)
    apn = APN(BACKBONE, hidden=32, grid=5, square=start == "peak", start=start)
    features = torch.zeros(16, BACKBONE.channels, 5, 5)
    generator = torch.Generator().manual_seed(1)
    for image in features:
        y, x = torch.randint(1, 4, (2,), generator=generator).tolist()
        image[:, y - 1 : y + 2, x - 1 : x + 2] += 0.1
        image[:, y, x] = 1
    optimizer = torch.optim.Adam(apn.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = apn.start_loss(apn(features), features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_the_spread_is_the_mean_and_deviation_of_the_map_as_weights():
    features = maps(4).double()
    boxes = spread_boxes(features, 0.8, 0.05, square=False).numpy()
    for image, box in zip(features.sum(dim=1).numpy(), boxes, strict=True):
        y, x = np.meshgrid(*[(np.arange(5) + 0.5) / 5] * 2, indexing="ij")
        means = [np.average(axis, weights=image) for axis in (x, y)]
        stds = [
            np.sqrt(np.average((axis - mean) ** 2, weights=image)) for axis, mean in zip((x, y), means, strict=True)
        ]
        expected = [
            means[0] - 0.8 * stds[0],
            means[1] - 0.8 * stds[1],
            means[0] + 0.8 * stds[0],
            means[1] + 0.8 * stds[1],
        ]
        np.testing.assert_allclose(box, expected, atol=1e-5)


def test_bounds_that_mean_nothing_are_refused():
    for keys in ({"side_min": 0.0}, {"side_min": 0.6, "side_max": 0.5}, {"side_max": 1.1}):
        with pytest.raises(UsageError, match="0 < side_min < side_max <= 1"):
            APN(BACKBONE, **keys)


@pytest.mark.parametrize("start", ["peak", "spread", "mask"])
def test_it_starts_where_the_cells_of_its_backbone_look(start):
    where = BACKBONE.cells()
    features = maps(4)
    apn = APN(BACKBONE, hidden=4, square=False, start=start, side_min=0.1)
    ways = {
        "peak": peak_boxes(features, 0.5, where),
        "spread": spread_boxes(features, 1.5, 0.1, False, where),
        "mask": selected_boxes(features, 0.1, cells=where),
    }
    assert where.displacement < -0.05
    torch.testing.assert_close(apn.start_boxes(features), ways[start])
