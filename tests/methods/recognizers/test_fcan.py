import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import crop_and_resize, downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.hse import HSEHead
from fgvc.methods.recognizers import fcan
from fgvc.methods.recognizers.fcan import FCAN
from fgvc.model_file.architecture import build

TINY = partial(Backbone, name="test_resnet", weights="none")
SIZE, SOURCE = 64, 96  # the map is 2 x 2


def photos(number: int) -> torch.Tensor:
    coarse = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, SOURCE, mode="bilinear") * 255


def decided(**arguments) -> FCAN:
    """Return a model whose answers differ from place to place and whose maps are not flat."""
    torch.manual_seed(0)
    model = FCAN(TAXONOMY, SIZE, TINY, **{"true_places": False, **arguments}).eval()
    for i, head in enumerate(model.heads):
        embedding = head(model.backbone(crop_and_resize(photos(6), quarters(6), SIZE).flatten(0, 1))).embedding.detach()
        weight = torch.randn(5, embedding.shape[1], generator=torch.Generator().manual_seed(i))
        scores = embedding @ weight.T
        head.classifier.weight.data = weight / scores.std(dim=0, keepdim=True).T
        head.classifier.bias.data = -(embedding @ head.classifier.weight.data.T).mean(dim=0)
    for attention in model.attentions:
        attention[0].weight.data[..., [0, 2]] = attention[0].weight.data[:, :, [0, 2]] = 0  # see the cell alone
        attention[2].weight.data *= 2 / attention(model.backbone(photos(6)).map).std()
    return model


def quarters(number: int) -> torch.Tensor:
    boxes = [[x, y, x + 0.5, y + 0.5] for y in (0, 0.5) for x in (0, 0.5)]
    return torch.tensor(boxes).expand(number, 4, 4)


def draw(monkeypatch, *cells: int) -> None:
    """Make the next drawings of one image give these cells, part by part."""
    monkeypatch.setattr(torch, "multinomial", lambda chances, k, replacement: torch.tensor(cells).view(-1, k))


def gradient(value: torch.Tensor, model: FCAN) -> torch.Tensor:
    found = torch.autograd.grad(value, list(model.attentions.parameters()), allow_unused=True, retain_graph=True)
    pairs = zip(found, model.attentions.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def named_at(model: FCAN, image: torch.Tensor, monkeypatch) -> torch.Tensor:
    """Return what part 1 says at the first cell, as a label: it is right there and hardly everywhere."""
    draw(monkeypatch, *[0] * len(model.part_sizes) * model.num_samples)
    return model(image).views["part1"].logits["species"].argmax(1)


@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_the_policy_gradient_averaged_over_all_draws_is_the_gradient_of_the_expected_reward(monkeypatch, baseline):
    model = decided()
    model.train().enter("attend")
    kinds = set()
    for image in photos(3).split(1):
        label = named_at(model, image, monkeypatch)
        estimate, expected = 0.0, 0.0
        for first, second in itertools.product(range(4), range(4)):
            model.baseline.fill_(baseline)
            draw(monkeypatch, first, second)
            answer = model(image)
            chances = answer.maps.exp().flatten(2)[0]  # (part, cell)
            one, two = chances[0, first], chances[1, second]
            (terms,) = model.loss(answer, label).values()
            estimate = estimate + (one * two).detach() * gradient(terms, model)

            p1, p2 = (answer.views[name].logits["species"].softmax(1)[0] for name in ("part1", "part2"))
            r1 = float(p1.argmax() == label)
            r2 = float(p2.argmax() == label and p2[label] > p1[label])
            kinds.add((r1, r2))
            # greedy: a step is rewarded for itself, not for what it does to the next one
            expected = expected - gradient(one * two.detach() * r1 + one.detach() * two * r2, model)
        assert expected.norm() > 1e-4
        torch.testing.assert_close(estimate, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4)
    assert len(kinds) >= 3, kinds


def test_with_more_draws_each_image_has_its_own_baseline(monkeypatch):
    model = decided(part_sizes=[0.5], num_samples=2)
    model.train().enter("attend")
    image = photos(3)[2:]
    label = named_at(model, image, monkeypatch)
    estimate, expected, rewards = 0.0, 0.0, []
    for first, second in itertools.product(range(4), range(4)):
        draw(monkeypatch, first, second)
        answer = model(image)
        chances = answer.maps.exp().flatten()
        (term,) = model.loss(answer, label).values()
        estimate = estimate + (chances[first] * chances[second]).detach() * gradient(term, model)
        if second == 0:
            rewards.append(float(answer.views["part1"].logits["species"].argmax() == label))
            expected = expected - gradient(chances[first] * rewards[-1] / 2, model)  # (K - 1) / K of the whole
    assert 0 < sum(rewards) < 4
    torch.testing.assert_close(estimate, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "rewards"),
    [
        ([3, 0, 0], [4, 0, 0], [1, 1]),  # right, then right and surer
        ([3, 0, 0], [2, 0, 0], [1, 0]),  # right, then right but less sure
        ([3, 0, 0], [3, 0, 0], [1, 0]),  # no surer is not lower
        ([0, 1, 0], [2, 0, 0], [0, 1]),  # wrong, then right
        ([0, 5, 0], [0, 1, 0], [0, 0]),  # wrong, then better and still wrong
        ([3, 0, 0], [0, 9, 0], [1, 0]),  # right, then wrong
        ([9, 8, 8], [3, 0, 0], [1, 1]),  # it is the cross-entropy that counts, not the logit
    ],
)
def test_rewards(first, second, rewards):
    scores = torch.tensor([[first, second]], dtype=torch.float)
    assert fcan.greedy_rewards(scores, torch.tensor([0])).tolist() == [rewards]


def test_maps_are_measured_as_slow_loops_do():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 4, 5).flatten(2).log_softmax(2).view(2, 3, 4, 5)
    theirs = torch.distributions.Categorical(logits=maps.flatten(2)).entropy()
    torch.testing.assert_close(fcan.entropies(maps), theirs)
    boxes = torch.rand(2, 3, 4).sort(dim=2).values  # x1 <= y1 <= x2 <= y2
    total = 0.0
    for n, part, row, column in itertools.product(range(2), range(3), range(4), range(5)):
        x, y = (column + 0.5) / 5, (row + 0.5) / 4
        for x1, y1, x2, y2 in boxes[n, :part].tolist():
            total += float(maps[n, part, row, column].exp()) * (x1 <= x <= x2 and y1 <= y <= y2) / 2
    assert total > 0
    torch.testing.assert_close(fcan.trespass(maps, boxes), torch.tensor(total))


def test_evaluation_looks_at_the_most_likely_cells_and_averages_the_softmaxes():
    model = decided()
    images = photos(4).to(torch.uint8)
    answer = model(images)
    assert torch.equal(answer.logits["species"], model(images).logits["species"])
    features = model.backbone(downscale(images, SIZE))
    shares = [model.heads[0](features).logits["species"].softmax(1)]
    for i, side in enumerate([0.5, 0.25]):
        places = model.attentions[i](features.map).flatten(1).argmax(1).tolist()
        boxes = []
        for place in places:
            x, y = ((0.5 + c) / 2 - side / 2 for c in (place % 2, place // 2))
            boxes.append([[x, y, x + side, y + side]])
        torch.testing.assert_close(answer.views[f"part{i + 1}"].boxes, torch.tensor(boxes))
        crops = crop_and_resize(images, torch.tensor(boxes), SIZE)[:, 0]
        shares.append(model.heads[i + 1](model.backbone(crops)).logits["species"].softmax(1))
        torch.testing.assert_close(answer.boxes[:, i], torch.tensor(boxes)[:, 0])
        assert len(set(places)) > 1
    torch.testing.assert_close(answer.logits["species"].exp(), torch.stack(shares).mean(0))
    assert answer.views["whole"].boxes.tolist() == [[[0, 0, 1, 1]]] * 4


def test_it_looks_where_the_cells_of_its_backbone_look():
    model, images = decided(true_places=True), photos(4).to(torch.uint8)
    away = model.backbone.cells().displacement
    answer = model(images)
    places = answer.maps.flatten(2).argmax(dim=2)
    for i, side in enumerate([0.5, 0.25]):
        middles = torch.stack((places[:, i] % 2, places[:, i] // 2), dim=1) / 2 + 0.25 + away
        middles = middles.clamp(0, 1).clamp(side / 2, 1 - side / 2)
        torch.testing.assert_close(answer.boxes[:, i], torch.cat((middles - side / 2, middles + side / 2), dim=1))
    assert away < -0.05


def test_training_draws_by_the_chances_and_boxes_stay_inside():
    model = decided(part_sizes=[0.75, 0.5], num_samples=400)
    model.crop_size = 32
    model.train().enter("recognise")
    torch.manual_seed(0)
    seen = model(photos(1))
    counts = torch.stack([(seen.drawn[:, 0] == value).float().mean() for value in seen.maps[0, 0].flatten()])
    chances = seen.maps[0, 0].exp().flatten()
    assert ((counts - chances).abs() <= 4 * (chances * (1 - chances) / 400).sqrt() + 1e-6).all()
    for _ in range(5):
        boxes = model(photos(1)).boxes
        assert (boxes >= 0).all() and (boxes <= 1).all()
        torch.testing.assert_close(boxes[..., 2:] - boxes[..., :2], torch.tensor([[[0.75] * 2, [0.5] * 2]]))


def test_all_draws_are_classified(monkeypatch):
    model = decided(part_sizes=[0.5], num_samples=2)
    image, label = photos(1), torch.tensor([2])
    single = []
    model.train().enter("attend")  # batch statistics stand still
    for cells in ((3, 0), (0, 0), (3, 3)):
        draw(monkeypatch, *cells)
        answer = model(image)
        model.phase = "recognise"
        single.append(model.loss(answer, label)["part1_classes"])
        model.phase = "attend"
    torch.testing.assert_close(single[0], (single[1] + single[2]) / 2)
    assert answer.views["part1"].logits["species"].shape == (1, 5)


def test_the_draws_of_an_image_share_its_label(monkeypatch):
    model = decided(part_sizes=[0.5], num_samples=2)
    model.train().enter("attend")
    draw(monkeypatch, 0, 3, 0, 3)  # two images, two draws each
    answer = model(photos(4)[2:])
    scores = answer.parts[0].logits["species"].log_softmax(1)
    assert torch.equal(scores[::2], answer.views["part1"].logits["species"].log_softmax(1))
    labels = scores[::2].argmax(1)
    assert labels[0] != labels[1]
    hits = [[float(scores[2 * n + k].argmax() == labels[n]) for k in range(2)] for n in range(2)]
    torch.testing.assert_close(model.measures(answer, labels)["reward1"], torch.tensor(hits).mean())
    expected = -sum(scores[2 * n + k, labels[n]] for n in range(2) for k in range(2)) / 4
    model.phase = "recognise"
    torch.testing.assert_close(model.loss(answer, labels)["part1_classes"], expected)


@pytest.mark.parametrize(
    ("phase", "learning"),
    [
        ("all", {"backbone", "closer", "heads", "attentions"}),
        ("head", {"heads"}),
        ("recognise", {"backbone", "closer", "heads"}),
        ("attend", {"attentions"}),
    ],
)
def test_each_phase_trains_its_parts_and_is_scored_in_evaluation(phase, learning):
    model = decided(share_backbone=False, entropy_weight=0.1, diversity_weight=0.1)
    images, labels = photos(4), torch.tensor([0, 1, 2, -1])
    model.train().enter(phase)
    answer = model(images)
    terms = model.loss(answer, labels)
    sum(terms.values()).backward()
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()} == learning
    classes = {"whole_classes", "part1_classes", "part2_classes"} if phase != "attend" else set()
    assert set(terms) == classes | ({"policy", "entropy", "diversity"} if phase in ("all", "attend") else set())

    before = model.baseline.clone()
    model.eval()
    assert set(model.loss(model(images), labels)) == {"whole_classes", "part1_classes", "part2_classes"}
    assert torch.equal(before, model.baseline)


def test_in_a_phase_of_its_heads_it_rewards_and_classifies_but_no_attention_learns():
    hse = partial(HSEHead, embedding_width=4, guide_width=4)
    torch.manual_seed(0)
    model = FCAN(TAXONOMY, SIZE, TINY, hse)
    model.train().enter("level1")
    terms = model.loss(model(photos(4)), torch.arange(4))
    assert set(terms) == {*(f"{view}_family" for view in ("whole", "part1", "part2")), "policy"}
    assert not terms["policy"].requires_grad


def test_a_prediction_of_another_recognizer_is_refused():
    with pytest.raises(TypeError, match="FCAN reads its own Glimpses, not a Prediction"):
        decided().loss(Prediction({"species": torch.zeros(1, 5)}, torch.zeros(1, 2)), torch.tensor([0]))


def test_classification_and_policy_teach_different_parts():
    model = decided()
    model.train().enter("all")
    terms = model.loss(model(photos(4)), torch.tensor([0, 1, 2, 3]))
    policy = terms.pop("policy")
    attentions = list(model.attentions.parameters())
    rest = [*model.backbone.parameters(), *model.heads.parameters()]
    assert all(g is None for g in torch.autograd.grad(sum(terms.values()), attentions, allow_unused=True))
    assert all(g is None for g in torch.autograd.grad(policy, rest, allow_unused=True))


def test_the_running_baseline_takes_the_rewards_in_and_unknown_images_count_nowhere():
    model = decided()
    model.train().enter("attend")
    images = photos(6)
    answer = model(images)
    labels = answer.views["part1"].logits["species"].argmax(1)
    labels[3:] = torch.tensor([3, 4, -1])
    measured = model.measures(answer, labels)
    known = model.measures(replace(answer, parts=[first_five(part) for part in answer.parts]), labels[:5])
    terms = model.loss(answer, labels)
    rewards = torch.stack([measured["reward1"], measured["reward2"]])
    assert rewards[0] >= 0.6 and measured["reward1"] == known["reward1"]
    torch.testing.assert_close(model.baseline, 0.1 * rewards)
    assert terms["policy"] != 0
    before = model.baseline.clone()
    assert model.loss(answer, torch.full((6,), -1))["policy"] == 0
    assert torch.equal(before, model.baseline)
    assert 0 < measured["entropy1"] < torch.tensor(4.0).log()


def first_five(part):
    return replace(part, logits={"species": part.logits["species"][:5]}, embedding=part.embedding[:5])


def test_a_model_file_rebuilds_it():
    arguments = {"backbone": PLAIN["init_args"]["backbone"], "part_sizes": [0.6, 0.5, 0.3], "share_backbone": False}
    model, again = (build({"class_path": "FCAN", "init_args": arguments}, TAXONOMY, 64, "none") for _ in range(2))
    model.train()
    model.loss(model(photos(2)), torch.tensor([0, 1]))
    again.load_state_dict(model.state_dict())
    first, second = (one.eval()(photos(2)) for one in (model, again))
    assert torch.equal(first.logits["species"], second.logits["species"])
    assert first.boxes.shape == (2, 3, 4) and len(first.views) == 4
    assert first.embedding.shape[1] == sum(head.embedding_size for head in model.heads)


@pytest.mark.parametrize(
    "wrong", [{"part_sizes": s} for s in ([], [0.25, 0.5], [1.5], [0.5, 0.0])] + [{"num_samples": 0}]
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=r"FCAN: part_sizes .* give sizes in \(0, 1\], largest first"):
        FCAN(TAXONOMY, SIZE, TINY, **wrong)


def test_the_reward_may_be_the_log_probability_of_the_true_class():
    scores = torch.randn(6, 2, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 4, 2, 1, 3, 0])
    expected = [[float(scores[i, p].double().softmax(0)[t].log()) for p in (0, 1)] for i, t in enumerate(targets)]
    torch.testing.assert_close(fcan.likelihood_rewards(scores, targets), torch.tensor(expected))
    model, labels = decided(reward="log_probability").train(), torch.tensor([0, 1, 2, 3])
    seen = model(photos(4))
    rewards, _ = model._rewards(seen, labels)
    parts = torch.stack([part.logits["species"] for part in seen.parts], dim=1)
    torch.testing.assert_close(rewards, fcan.likelihood_rewards(parts, labels))
    assert (rewards <= 0).all() and not rewards.requires_grad
