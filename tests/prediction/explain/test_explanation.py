import io
import json

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY, tiny_model
from PIL import Image
from scipy.ndimage import map_coordinates

from fgvc.datatypes import Prediction
from fgvc.errors import FgvcError, UsageError
from fgvc.images.decoding import MENDED
from fgvc.images.regions import crop_and_resize
from fgvc.images.resizing import EvalResize
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.recognizers.base import Recognizer
from fgvc.model_file.model import Model
from fgvc.prediction.explain.explanation import Explanation, View, explain
from fgvc.prediction.predictor import Predictor


def places(cells, number):
    """Where the middles of a grid four times as fine as n cells lie on the map, for rows and columns."""
    fine = (np.arange(4 * number) + 0.5) / (4 * number)
    return [(fine - cells.displacement) * number - 0.5] * 2


LEFT, LOW = [0.0, 0.0, 0.5, 1.0], [0.25, 0.5, 0.75, 1.0]


class Joined(Recognizer):
    """Reads three boxes, in one call or in three, and names them by one classifier; no views."""

    def __init__(self, in_one_call=True):
        super().__init__(TAXONOMY, 64)
        torch.manual_seed(0)
        self.backbone = Backbone(64, "test_resnet", "none")
        self.classifier = torch.nn.Linear(3 * self.backbone.channels, 5)
        self.fixed = torch.tensor([[LEFT, LOW, [0.5, 0.0, 1.0, 0.5]]])
        self.in_one_call = in_one_call

    def forward(self, images):
        boxes = self.fixed.expand(len(images), 3, 4)
        crops = crop_and_resize(images, boxes, 64)
        if self.in_one_call:
            maps = self.backbone(crops.flatten(0, 1)).map.unflatten(0, crops.shape[:2])
        else:
            maps = torch.stack([self.backbone(crops[:, i]).map for i in range(3)], dim=1)
        embedding = maps.mean(dim=(3, 4)).flatten(1)
        return Prediction({"species": self.classifier(embedding)}, embedding, boxes)

    def loss(self, prediction, labels):
        return {}


class Known(Recognizer):
    """Answers fixed scores and looks at fixed boxes."""

    def __init__(self, boxes=(LEFT, LOW), scores=(3.0, 1.0, 0.0, 0.0, -1.0)):
        super().__init__(TAXONOMY, 16)
        self.fixed, self.scores = boxes, torch.tensor(scores)

    def forward(self, images):
        n = len(images)

        def answer(shift, box=None):
            logits = {"species": self.scores.roll(shift).expand(n, 5)}
            return Prediction(logits, torch.zeros(n, 2), None if box is None else torch.tensor([[box]] * n))

        whole = answer(1, [0.0, 0.0, 1.0, 1.0])
        parts = {f"part{i + 1}": answer(2 + i, box) for i, box in enumerate(self.fixed)}
        boxes = torch.tensor([list(self.fixed)] * n)
        views = {"whole": whole, **parts, "fused": answer(0)}
        return Prediction(views["fused"].logits, torch.zeros(n, 2), boxes, views)

    def loss(self, prediction, labels):
        return {}


SQUARE = EvalResize(16)


def known(resize=SQUARE, temperatures=None, **keys):
    return Predictor(Model(Known(**keys), {}, resize, temperatures or {}))


def photograph(height=40, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_file_is_explained_as_its_pixels_with_its_warning(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:-12])
    predictor = Predictor(tiny_model())
    expected = explain(predictor, photograph(), heat=False)
    assert explain(predictor, buffer, heat=False) == expected
    cut = explain(predictor, tmp_path / "cut.png", heat=False)
    assert cut.to_dict() == {**expected.to_dict(), "warning": MENDED}
    for given, said in ((None, "NoneType is not one"), ([photograph()], "list is"), (photograph() / 255, "float64")):
        with pytest.raises(UsageError, match=said):
            explain(predictor, given)


def test_it_says_what_predict_says_and_more():
    predictor = Predictor(tiny_model({"species": 2.0}))
    result, found = predictor.predict(photograph(), top_k=4), explain(predictor, photograph(), top_k=4)
    for key in ("label", "lineage", "boxes", "error"):
        assert getattr(found, key) == getattr(result, key)
    assert [guess.label for guess in found.top] == [guess.label for guess in result.top]
    assert [guess.score for guess in found.top] == pytest.approx([guess.score for guess in result.top], abs=1e-5)
    assert found.lineage_scores == pytest.approx(result.lineage_scores, abs=1e-5)
    assert (found.width, found.height, found.views) == (80, 40, [])
    # The central 40 x 40 pixels are seen.
    assert found.seen == pytest.approx((0.25, 0, 0.75, 1))


def test_the_heat_lies_where_the_models_own_map_and_weights_say():
    model = tiny_model()
    model.recognizer.image_size = 128  # a map of 4 x 4
    predictor = Predictor(Model(model.recognizer, {}, EvalResize(128)))
    image = np.kron(np.random.default_rng(1).integers(0, 256, (4, 4, 3)), np.ones((32, 32, 1))).astype(np.uint8)
    found = explain(predictor, image)
    leaf = TAXONOMY.names("species").index(found.label)
    with torch.no_grad():
        features = model.recognizer.backbone(torch.from_numpy(image).permute(2, 0, 1)[None]).map
        logits = model.recognizer.head(Features(features)).logits["species"][0].double()
    weight = model.recognizer.head.classifier.weight.detach().double()
    others = [k for k in range(5) if k != leaf]
    slope = weight[leaf] - torch.softmax(logits[others], 0) @ weight[others]
    expected = torch.einsum("c,chw->hw", slope, features[0].double()).clamp_min(0)
    where = model.recognizer.backbone.cells(128)
    expected = map_coordinates(expected.numpy(), np.meshgrid(*places(where, 4), indexing="ij"), order=1, mode="nearest")
    assert expected.std() > 0 and where.displacement < -0.05
    assert found.heat.dtype == np.float32
    np.testing.assert_allclose(found.heat, expected / expected.max(), atol=1e-3)


def test_views_have_their_boxes_on_the_photograph_and_their_own_calibrated_guesses():
    found = explain(known(EvalResize(16, "crop", 0.5), {"species": 2.0}), photograph(), top_k=2)
    # The central 20 x 20 of 80 x 40 pixels are seen: x 30 .. 50, y 10 .. 30.
    boxes = {
        "whole": (30 / 80, 10 / 40, 50 / 80, 30 / 40),
        "part1": (30 / 80, 10 / 40, 40 / 80, 30 / 40),
        "part2": (35 / 80, 20 / 40, 45 / 80, 30 / 40),
    }
    names = TAXONOMY.names("species")
    scores = np.exp(np.array([3, 1, 0, 0, -1]) / 2) / np.exp(np.array([3, 1, 0, 0, -1]) / 2).sum()
    assert [view.name for view in found.views] == ["whole", "part1", "part2", "fused"]
    for view, first in zip(found.views, (1, 2, 3, 0), strict=True):
        assert view.box == (pytest.approx(boxes[view.name]) if view.name in boxes else None)
        assert [guess.label for guess in view.top] == [names[first], names[(first + 1) % 5]]
        assert [guess.score for guess in view.top] == pytest.approx(scores[:2])
    assert found.label == names[0] and found.score == pytest.approx(scores[0])
    assert found.boxes == [pytest.approx(boxes["part1"]), pytest.approx(boxes["part2"])]
    assert [name for name, _ in found.named_boxes()] == ["part1", "part2"]


def test_boxes_are_plain_data_in_pixels():
    found = explain(known(EvalResize(16, "crop", 0.5)), photograph())
    found.path, found.picture = "a.jpg", "a.jpg"
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["boxes"] == [
        {"name": "part1", "box": [30, 10, 40, 30]},
        {"name": "part2", "box": [35, 20, 45, 30]},
    ]
    assert [view["box"] for view in plain["views"]] == [[30, 10, 50, 30], [30, 10, 40, 30], [35, 20, 45, 30], None]
    assert [view["top"][0]["label"] for view in plain["views"]] == [view.top[0].label for view in found.views]
    assert (plain["width"], plain["height"], plain["label"]) == (80, 40, found.label)
    assert set(plain) == {
        *("path", "label", "score", "lineage", "lineage_scores", "top", "boxes", "error", "warning"),
        *("width", "height", "views", "picture"),
    }


def test_two_views_of_the_same_box_are_told_apart_and_a_box_without_a_view_has_no_name():
    same = explain(known(boxes=(LEFT, LEFT)), photograph())
    assert [name for name, _ in same.named_boxes()] == ["part1", "part2"]
    lone = Explanation(None, boxes=[(0.0, 0.0, 0.5, 0.5)], views=[View("crop", [], (0.0, 0.0, 0.6, 0.5))])
    assert lone.named_boxes() == [(None, (0.0, 0.0, 0.5, 0.5))]


@pytest.mark.parametrize("in_one_call", [True, False])
def test_boxes_without_views_become_views_with_their_share_of_the_evidence(in_one_call):
    model = Joined(in_one_call).eval()
    found = explain(Predictor(Model(model, {}, EvalResize(64))), photograph(64, 64))
    assert [(view.name, view.top) for view in found.views] == [("box1", []), ("box2", []), ("box3", [])]
    assert [view.box for view in found.views] == found.boxes and found.heat is None
    image = torch.from_numpy(photograph(64, 64)).permute(2, 0, 1)[None]
    with torch.no_grad():
        maps = model.backbone(crop_and_resize(image, model.fixed, 64)[0]).map
        logits = model(image).logits["species"][0]
    leaf = int(logits.argmax())
    weight = model.classifier.weight.detach()
    others = [k for k in range(5) if k != leaf]
    slope = (weight[leaf] - torch.softmax(logits[others], 0) @ weight[others]).unflatten(0, (3, -1))
    expected = torch.stack([torch.einsum("c,chw->hw", slope[i], maps[i]).clamp_min(0) for i in range(3)])
    assert len({float(part.max()) for part in expected}) == 3 and float(expected.max()) > 0
    grid = np.meshgrid(*places(model.backbone.cells(), 2), indexing="ij")
    parts = np.stack([map_coordinates(part.numpy(), grid, order=1, mode="nearest") for part in expected])
    for view, part in zip(found.views, parts / parts.max(), strict=True):
        np.testing.assert_allclose(view.heat, part, atol=1e-3)


def test_without_a_map_that_is_read_and_without_being_asked_there_is_no_heat():
    assert explain(known(), photograph()).heat is None
    predictor = Predictor(tiny_model())
    with_heat, without = explain(predictor, photograph()), explain(predictor, photograph(), heat=False)
    assert without.heat is None and with_heat.heat is not None
    assert without.label == with_heat.label and without.score == pytest.approx(with_heat.score, abs=1e-5)


def test_an_unreadable_photograph_is_plain_data_too():
    plain = Explanation("gone.jpg", error="gone").to_dict()
    assert plain["error"] == "gone" and plain["boxes"] is None and plain["views"] == [] and plain["width"] is None


def test_scores_that_are_no_numbers_are_a_failure():
    with pytest.raises(FgvcError, match="not numbers"):
        explain(known(scores=(float("nan"),) * 5), photograph())


class Parted(Joined):
    """Names its boxes, and sees two of three points."""

    parts, points = ("object", "head", "body"), ("eye", "tail", "beak")

    def forward(self, images):
        found = super().forward(images)
        nan = float("nan")
        found.points = torch.tensor([[0.25, 0.5], [nan, nan], [1.0, 0.0]]).expand(len(images), 3, 2)
        return found


def test_boxes_bear_the_names_of_their_parts_and_points_lie_on_the_photograph():
    explanation = explain(Predictor(Model(Parted().eval(), {}, EvalResize(64))), photograph(40, 80))
    assert [name for name, _ in explanation.named_boxes()] == ["object", "head", "body"]
    assert [view.name for view in explanation.views if view.box] == ["object", "head", "body"]
    # the middle square of 80 x 40 is seen
    assert explanation.points == {"eye": pytest.approx((0.375, 0.5)), "beak": pytest.approx((0.75, 0.0))}
    plain = explanation.to_dict()
    assert plain["points"] == {"eye": [30.0, 20.0], "beak": [60.0, 0.0]} and "parts" not in plain
