import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.datatypes import Places
from fgvc.errors import UsageError
from fgvc.images.regions import crop_and_resize
from fgvc.methods.backbone import Backbone
from fgvc.methods.part_localizer import BIRD_HEAD, BIRD_POINTS
from fgvc.methods.recognizers.mask_cnn import CROPS, MaskCNN

TINY = partial(Backbone, name="test_resnet", weights="none")
SIZE = 96  # the map is 3 x 3
NAN = math.nan


def photos(number: int) -> torch.Tensor:
    coarse = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear") * 255


def birds(number: int) -> Places:
    """Heads in the upper left, bodies in the lower right of their objects."""
    draw = torch.Generator().manual_seed(2)
    low = 0.3 * torch.rand(number, 2, generator=draw)
    body = torch.tensor([name not in BIRD_HEAD for name in BIRD_POINTS])[:, None]
    points = low[:, None] + 0.3 * torch.rand(number, 15, 2, generator=draw) + 0.3 * body
    points[:, 3] = NAN
    return Places(torch.cat((low, low + 0.6), dim=1), points)


def made(**arguments) -> MaskCNN:
    torch.manual_seed(0)
    model = MaskCNN(TAXONOMY, SIZE, TINY, **arguments)
    model.classifier.weight.data.normal_()
    return model


def test_in_evaluation_annotations_change_no_answer():
    model = made(upper_bound=True).eval()
    with torch.no_grad():
        alone, told = model(photos(3)), model(photos(3), birds(3))
    assert torch.equal(alone.logits["species"], told.logits["species"]) and torch.equal(alone.boxes, told.boxes)
    assert "annotated" not in alone.views
    assert not torch.allclose(told.views["annotated"].logits["species"], told.logits["species"])


def test_the_embedding_is_mean_and_maximum_of_the_selected_descriptors_of_four_streams():
    model, places, images = made(reach=0.12).eval(), birds(2), photos(2)
    model.training = True  # the masks are those of the annotated points, while batch statistics stand still
    with torch.no_grad():
        answer = model(images, places)
        crops = crop_and_resize(images, answer.boxes, SIZE)
        maps = [model.backbone(images).map, *(model.backbone(crops[:, k]).map for k in range(3))]
    for n in range(2):
        parts = []
        for stream, frame, features in zip(
            ("image", *CROPS), [torch.tensor([0.0, 0, 1, 1]), *answer.boxes[n]], maps, strict=True
        ):
            chosen = []
            for row in range(3):
                for column in range(3):
                    x = float(frame[0] + (column + 0.5) / 3 * (frame[2] - frame[0]))
                    y = float(frame[1] + (row + 0.5) / 3 * (frame[3] - frame[1]))
                    if on_part(model, places.points[n], stream, x, y, 0.12 * 0.6):
                        chosen.append(features[n, :, row, column])
            chosen = torch.stack(chosen or list(features[n].flatten(1).T))
            parts += [torch.nn.functional.normalize(v, dim=0) for v in (chosen.mean(0), chosen.amax(0))]
        torch.testing.assert_close(answer.embedding[n], torch.cat(parts), atol=1e-5, rtol=1e-4)
    scores = 16 * answer.embedding @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(answer.logits["species"], scores)


def on_part(model, points, stream, x, y, reach):
    """Say whether (x, y) lies in a hull of the stream's points or near one: half-planes."""
    for part, rows in model._rows.items():
        if stream in model._rows and stream != part:
            continue
        known = [p.tolist() for p in points[rows] if not p.isnan().any()]
        if any(math.hypot(px - x, py - y) <= reach for px, py in known):
            return True
        separated = False
        for step in range(3600):
            angle = step * math.pi / 1800
            if all((px - x) * math.cos(angle) + (py - y) * math.sin(angle) > 0 for px, py in known):
                separated = True
        if not separated:
            return True
    return False


@pytest.mark.parametrize("learn_from", ["predicted", "annotated"])
def test_every_phase_has_the_terms_and_gradients_of_what_learns(learn_from):
    model, places, labels = made(learn_from=learn_from).train(), birds(4), torch.arange(4)
    for phase in ("locate", "all"):
        model.enter(phase)
        model.zero_grad()
        answer = model(photos(4), places)
        terms = model.loss(answer, labels)
        assert set(terms) == {"classes", "box", "points", "visible"}
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        width = 2 * model.backbone.channels
        assert answer.embedding[:, width:].any().item() == (phase == "all")
    without = model.loss(replace(answer, places=None), labels)
    assert set(without) == {"classes"}


def test_what_the_method_cannot_do_is_said_in_one_line():
    for arguments, said in (
        ({"reach": -0.1}, "must not be negative"),
        ({"head_points": list(BIRD_POINTS)}, "leave some to the body"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            MaskCNN(TAXONOMY, SIZE, TINY, **arguments)
        assert "\n" not in str(caught.value)
