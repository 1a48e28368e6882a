from functools import partial

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY
from PIL import Image
from torch.nn.functional import cross_entropy, normalize

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.recognizers.ws_dan import WSDAN, centre_distance, drawn_maps, move_centres, padded_boxes, peak_masks
from fgvc.model_file.architecture import build, to_plain

TINY = partial(Backbone, name="test_resnet", weights="none")
WHOLE = [0.0, 0.0, 1.0, 1.0]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def photographs(number: int, size: int) -> torch.Tensor:
    coarse = np.random.default_rng(0).integers(0, 256, (number, 6, 6, 3), dtype=np.uint8)
    pictures = [np.array(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def model(**settings) -> WSDAN:
    torch.manual_seed(0)
    return WSDAN(TAXONOMY, 64, TINY, **{"num_attentions": 4, "true_places": False, **settings})


def watched(recognizer: WSDAN, images: torch.Tensor):
    """Return the answer, what the backbone saw and the attention maps it led to, look by look."""
    seen, maps = [], []
    hooks = [
        recognizer.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0])),
        recognizer.pooling.maps.register_forward_hook(lambda _, args, out: maps.append(out.detach())),
    ]
    answer = recognizer(images)
    for hook in hooks:
        hook.remove()
    return answer, seen, maps


def enlarged(grid: torch.Tensor, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(grid.numpy()).resize((size, size), Image.Resampling.BILINEAR))


def test_maps_are_drawn_in_proportion_to_the_root_of_their_sums():
    torch.manual_seed(0)
    maps = torch.tensor([0.0, 1.0, 4.0, 9.0]).view(1, 4, 1, 1).expand(2000, 4, 2, 2) / 4
    drawn = drawn_maps(maps, 2)
    assert drawn.shape == (2000, 2, 2, 2)
    for number in (0, 1):
        shares = [(drawn[:, number, 0, 0] * 4 == value).float().mean().item() for value in (0, 1, 4, 9)]
        assert shares == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6], abs=0.04)
    assert drawn_maps(torch.zeros(3, 4, 2, 2), 2).shape == (3, 2, 2, 2)  # no attention anywhere: any map will do


def test_masks_and_padded_boxes_are_those_of_pillow_and_numpy():
    maps, shares = noise(6, 5, 5).relu(), torch.linspace(0.1, 0.9, 6).view(6, 1, 1)
    masks = peak_masks(maps, shares, 40)
    for grid, share, mask, box in zip(maps, shares.flatten(), masks, padded_boxes(masks, 0.05), strict=True):
        large = enlarged(grid, 40)
        expected = large > float(share) * large.max()
        assert (mask.numpy() != expected).mean() < 0.002  # rounding at the threshold
        rows, columns = np.nonzero(mask.numpy())
        low = np.array([columns.min(), rows.min()]) / 40 - 0.05
        high = (np.array([columns.max(), rows.max()]) + 1) / 40 + 0.05
        np.testing.assert_allclose(box[0].numpy(), np.concatenate([low, high]).clip(0, 1), atol=1e-6)
    assert not peak_masks(torch.zeros(1, 5, 5), 0.5, 40).any()
    assert padded_boxes(torch.zeros(1, 40, 40, dtype=torch.bool), 0.1).tolist() == [[WHOLE]]


def test_the_centre_term_and_the_centres_are_those_of_a_loop_over_the_images():
    embeddings, centres = normalize(noise(6, 8)).double(), noise(5, 8, seed=1).double()
    targets = torch.tensor([2, -1, 0, 2, 2, -1])
    before = centres.numpy() / np.linalg.norm(centres.numpy(), axis=1, keepdims=True)
    gaps = [((embeddings[i].numpy() - before[t]) ** 2).sum() for i, t in enumerate(targets.tolist()) if t >= 0]
    assert centre_distance(embeddings, centres, targets).item() == pytest.approx(np.mean(gaps))
    expected = centres.numpy().copy()
    for leaf in (0, 2):
        own = embeddings[targets == leaf].numpy().mean(axis=0)
        expected[leaf] += 0.05 * (own - expected[leaf])
    move_centres(centres, embeddings, targets, 0.05)
    np.testing.assert_allclose(centres.numpy(), expected)
    assert centre_distance(embeddings, centres, torch.full((6,), -1)).item() == 0


def test_centres_find_the_middle_of_scattered_images_and_stay_there():
    middles = normalize(noise(3, 16, seed=999))
    centres, cosines, distances = torch.zeros(3, 16), [], []
    targets = torch.arange(3)
    for step in range(200):
        embeddings = normalize(middles + 0.4 * noise(3, 16, seed=step))  # cosine to the middle about 0.5
        distances.append(centre_distance(embeddings, centres, targets).item())
        move_centres(centres, embeddings, targets, 0.05)
        cosines.append((normalize(centres) * middles).sum(dim=1).min().item())
    assert distances[0] == pytest.approx(1) and min(cosines[40:]) > 0.8
    assert np.mean(distances[40:]) < 1.3  # of unrelated vectors: 2


def test_evaluation_sees_the_image_and_one_crop_of_its_source_and_nothing_is_random():
    recognizer, images = model().eval(), photographs(3, 96)
    answer, seen, maps = watched(recognizer, images)
    assert list(answer.views) == ["raw", "crop"] and answer.boxes.shape == (3, 1, 4)
    assert answer.views["raw"].boxes.tolist() == [[WHOLE]] * 3
    assert torch.equal(answer.views["crop"].boxes, answer.boxes)
    for i, box in enumerate(answer.boxes[:, 0]):
        large = enlarged(maps[0][i].mean(dim=0), 64)
        y, x = np.unravel_index(large.argmax(), large.shape)
        assert box[0] <= x / 64 and box[1] <= y / 64 and box[2] >= (x + 1) / 64 and box[3] >= (y + 1) / 64
        picture = Image.fromarray(images[i].permute(1, 2, 0).numpy())
        by_pillow = picture.resize((64, 64), Image.Resampling.BILINEAR, box=tuple((96 * box).tolist()))
        assert np.abs(seen[1][i].permute(1, 2, 0).numpy() - np.asarray(by_pillow, dtype=float)).max() <= 1.5
    softmax = [view.logits["species"].double().softmax(dim=1) for view in answer.views.values()]
    torch.testing.assert_close(answer.logits["species"].double().exp(), (softmax[0] + softmax[1]) / 2)
    assert torch.equal(answer.logits["species"], recognizer(images).logits["species"])


def test_it_crops_where_the_cells_of_its_backbone_look():
    recognizer, images = model(true_places=True, answer_padding=0.0, answer_threshold=0.8).eval(), photographs(3, 64)
    answer, _, maps = watched(recognizer, images)
    away = recognizer.backbone.cells().displacement
    large = recognizer.backbone.cells().resampled(maps[0].mean(dim=1), 64)
    rows, columns = (large[0] > 0.8 * large[0].max()).nonzero(as_tuple=True)
    expected = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)) / 64
    torch.testing.assert_close(answer.boxes[0, 0], expected)
    assert away < -0.05


def test_nine_cells_above_the_threshold_crop_the_image_and_by_their_range_only_its_brightest_part():
    maps = torch.full((1, 3, 3), 0.8)
    maps[0, 0, 2] = 1.0
    assert padded_boxes(peak_masks(maps, 0.5, 60), 0.0).tolist() == [[WHOLE]]
    x1, y1, x2, y2 = padded_boxes(peak_masks(maps, 0.5, 60, above_least=True), 0.0)[0, 0].tolist()
    large = enlarged(maps[0], 60)
    rows, columns = np.nonzero(large > 0.5 * large.max() + 0.5 * large.min())
    expected = (columns.min() / 60, rows.min() / 60, (columns.max() + 1) / 60, (rows.max() + 1) / 60)
    assert (x1, y1, x2, y2) == pytest.approx(expected) and x1 > 0.6 and y2 < 0.4


def test_the_range_is_what_the_recognizer_asks_for():
    images, sides = photographs(3, 64), {}
    for word in ("maximum", "range"):
        recognizer = model(threshold_of=word, answer_threshold=0.5, answer_padding=0.0).eval()
        recognizer.pooling.maps[1].bias.data.fill_(5.0)  # every cell of every map is high
        boxes = recognizer(images).boxes
        sides[word] = (boxes[..., 2:] - boxes[..., :2]).mean().item()
    assert sides["maximum"] == 1 and sides["range"] < 0.9


@pytest.mark.parametrize("counterfactual", [False, True])
def test_a_crop_after_training_is_smaller_where_the_attention_is_narrow(counterfactual):
    recognizer = model(answer_threshold=0.9, answer_padding=0.0, counterfactual=counterfactual).eval()
    answer = recognizer(photographs(3, 96))
    sides = answer.boxes[..., 2:] - answer.boxes[..., :2]
    assert (sides < 1).any() and all(view.effect is None for view in answer.views.values())


def test_training_crops_one_map_and_drops_another_in_the_backbones_mean_colour():
    recognizer, images = (
        model(crop_threshold=(0.5, 0.5), drop_threshold=(0.3, 0.3), crop_padding=0.1),
        photographs(8, 96),
    )
    answer, seen, maps = watched(recognizer.train(), images)
    assert list(answer.views) == ["raw", "crop", "drop"]
    assert answer.views["drop"].boxes.tolist() == [[WHOLE]] * 8
    gone = (seen[2] - recognizer.backbone.mean).abs().amax(dim=1) < 1e-3
    for i in range(8):
        masks = [peak_masks(attention[None], 0.3, 64)[0] for attention in maps[0][i]]
        assert any(torch.equal(gone[i], mask) for mask in masks)
        boxes = [padded_boxes(peak_masks(attention[None], 0.5, 64), 0.1)[0, 0] for attention in maps[0][i]]
        assert any(torch.equal(answer.boxes[i, 0], box) for box in boxes)
        assert torch.equal(seen[2][i][:, ~gone[i]], seen[0][i][:, ~gone[i]])


def test_thresholds_are_drawn_between_their_bounds():
    recognizer, images = model(drop_threshold=(0.2, 0.5)).train(), photographs(8, 64)
    _, seen, maps = watched(recognizer, images)
    for i, gone in enumerate((seen[2] - recognizer.backbone.mean).abs().amax(dim=1) < 1e-3):
        narrow, wide = ([peak_masks(attention[None], share, 64)[0] for attention in maps[0][i]] for share in (0.5, 0.2))
        assert any((small <= gone).all() and (gone <= big).all() for small, big in zip(narrow, wide, strict=True))


def test_the_loss_of_ws_dan_is_that_of_the_paper():
    recognizer = model(label_smoothing=0.1).train()
    recognizer.centres.copy_(noise(*recognizer.centres.shape))
    labels = torch.tensor([3, TAXONOMY.node("genus", 0), 1, -1, 3, 0])
    answer = recognizer(photographs(6, 64))
    known, leaves = torch.tensor([0, 2, 4, 5]), torch.tensor([3, 1, 3, 0])
    centres = normalize(recognizer.centres[leaves].double())
    terms = recognizer.loss(answer, labels)
    for name in ("raw", "crop", "drop"):
        logits = answer.views[name].logits["species"]
        of_leaves = cross_entropy(logits[known], leaves, label_smoothing=0.1, reduction="sum")
        p = logits[1].softmax(dim=0)  # of a genus is known that it is one of its two species
        of_genus = -0.9 * (p[0] + p[1]).log() - 0.1 * p.log().mean()
        torch.testing.assert_close(terms[name], (of_leaves + of_genus) / 5 / 3)
    distance = (answer.views["raw"].embedding[known] - centres).square().sum(dim=1).mean()
    torch.testing.assert_close(terms["centre"].double(), distance)
    assert set(terms) == {"raw", "crop", "drop", "centre"}


def test_the_loss_of_cal_is_that_of_the_paper():
    recognizer, labels = model(counterfactual=True).train(), torch.tensor([3, 0, 1, 3])
    answer = recognizer(photographs(4, 64))
    raw, crop, drop = (answer.views[name] for name in ("raw", "crop", "drop"))
    twice, thrice = labels.repeat(2), labels.repeat(3)
    expected = (
        cross_entropy(raw.logits["species"], labels) / 3
        + cross_entropy(torch.cat([raw.effect, crop.effect, drop.effect]), thrice)
        + cross_entropy(torch.cat([crop.logits["species"], drop.logits["species"]]), twice) * 2 / 3
        + 1  # the centres are still zero, the embeddings have length 1
    )
    torch.testing.assert_close(sum(recognizer.loss(answer, labels).values()), expected)


def test_the_effect_is_the_difference_to_random_attention_between_0_and_2():
    recognizer = model(counterfactual=True, feature_scale=7.0).train()
    found = []
    recognizer.backbone.register_forward_hook(lambda _, args, out: found.append(out.map.double()))
    torch.manual_seed(5)
    view = recognizer(photographs(2, 64)).views["raw"]
    torch.manual_seed(5)
    random = 2 * torch.rand(2, 4, *found[0].shape[2:]).double()
    parts = torch.einsum("nmhw,nchw->nmc", random, found[0]).flatten(1) / found[0][0, 0].numel()
    logits = recognizer.classifier((7 * normalize(parts.sign() * (parts.abs() + 1e-6).sqrt())).float())
    torch.testing.assert_close(view.effect, view.logits["species"] - logits, atol=1e-4, rtol=1e-4)


def test_centres_move_only_while_training_and_only_for_known_leaves():
    recognizer, images = model(), photographs(3, 64)
    recognizer.eval()
    recognizer.loss(recognizer(images), torch.tensor([0, 1, 2]))
    assert not recognizer.centres.any()
    recognizer.train()
    recognizer.loss(recognizer(images), torch.tensor([4, TAXONOMY.node("family", 0), -1]))
    assert recognizer.centres.any(dim=1).tolist() == [False, False, False, False, True]
    terms = recognizer.loss(recognizer(images), torch.full((3,), -1))
    assert all(term == 0 for term in terms.values())
    assert "centres" in recognizer.state_dict() and "centres" not in dict(recognizer.named_parameters())
    without = model(centre_weight=0.0)
    assert without.centres.numel() == 0 and "centre" not in without.loss(without(images), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("counterfactual", [False, True])
def test_everything_is_trained_also_with_two_labels_for_one_prediction(counterfactual):
    recognizer, labels = model(counterfactual=counterfactual).train(), torch.tensor([0, 1, 2, 4])
    answer = recognizer(photographs(4, 64))
    first, second = recognizer.loss(answer, labels), recognizer.loss(answer, labels.flip(0))
    sum(0.7 * first[name] + 0.3 * second[name] for name in first).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in recognizer.parameters())


def test_head_keeps_the_backbone_and_its_batch_statistics():
    recognizer = model()
    recognizer.enter("head")
    recognizer.train()
    before = {name: buffer.clone() for name, buffer in recognizer.backbone.named_buffers()}
    sum(recognizer.loss(recognizer(photographs(4, 64)), torch.arange(4)).values()).backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in recognizer.backbone.named_buffers())
    assert all(p.grad is None for p in recognizer.backbone.parameters())
    assert all(p.grad is not None for p in (*recognizer.pooling.parameters(), *recognizer.classifier.parameters()))


def test_a_few_steps_learn_a_small_batch_by_heart():
    recognizer, images, labels = model(feature_scale=10.0).train(), photographs(5, 64), torch.arange(5)
    optimizer = torch.optim.AdamW(recognizer.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        terms = recognizer.loss(recognizer(images), labels)
        losses.append(terms["raw"].item())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    assert min(losses[-3:]) < losses[0] / 3


def test_it_is_rebuilt_from_its_plain_tree():
    backbone = {"class_path": "Backbone", "init_args": {"name": "test_resnet", "weights": "none"}}
    arguments = {"backbone": backbone, "num_attentions": 4, "crop_threshold": (0.1, 0.2), "counterfactual": True}
    plain = to_plain({"class_path": "WSDAN", "init_args": arguments})
    first, second = (build(plain, TAXONOMY, 64).eval() for _ in range(2))
    second.load_state_dict(first.state_dict())
    images = photographs(2, 64)
    assert torch.equal(first(images).logits["species"], second(images).logits["species"])


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"crop_threshold": (0.6, 0.4)}, r"crop_threshold from 0\.6 to 0\.4; 0 <= low <= high < 1 is needed"),
        ({"drop_threshold": (-0.1, 0.4)}, "drop_threshold"),
        ({"answer_threshold": 1.0}, "answer_threshold"),
        ({"centre_rate": -1.0}, "must not be negative"),
        ({"num_attentions": 0}, "num_attentions 0; give 1 or more"),
    ],
)
def test_settings_outside_their_range_are_refused_in_one_line(settings, line):
    with pytest.raises(UsageError, match=line):
        model(**settings)
