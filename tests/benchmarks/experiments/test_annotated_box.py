from functools import partial
from types import SimpleNamespace

import pytest
import torch

from benchmarks.experiments import annotated_box
from fgvc.data.sources.base import Annotations
from fgvc.datatypes import Sample
from fgvc.images.regions import crop_and_resize
from fgvc.methods.backbone import Backbone
from fgvc.methods.recognizers.ra_cnn import RACNN
from fgvc.taxonomy.tree import Taxonomy

WHOLE = [0.0, 0.0, 1.0, 1.0]


def box_by_hand(box, view):
    """Paint the box on a photograph of 1000 pixels, cut out the view, flip it if it is mirrored, and look for paint."""
    photo = torch.zeros(1000, 1000)
    left, top, right, bottom = (round(1000 * edge) for edge in box)
    photo[top:bottom, left:right] = 1
    x1, y1, x2, y2 = (round(1000 * edge) for edge in view)
    shown = photo[y1:y2, min(x1, x2) : max(x1, x2)]
    shown = shown.flip(1) if x1 > x2 else shown
    rows, columns = (shown.any(dim=axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    height, width = shown.shape
    return [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]


@pytest.mark.parametrize("box", [[0.3, 0.4, 0.6, 0.7], [0.05, 0.1, 0.5, 0.95], [0.4, 0.2, 0.55, 0.5]])
@pytest.mark.parametrize("view", [WHOLE, [0.1, 0.2, 0.9, 0.8], [0.9, 0.2, 0.1, 0.8], [1.0, 0.0, 0.0, 1.0]])
def test_a_box_of_the_photograph_is_found_in_what_is_shown(box, view):
    found = annotated_box.seen_in(torch.tensor([box]), torch.tensor([view]))[0]
    assert found.tolist() == pytest.approx(box_by_hand(box, view), abs=1e-5)


def test_a_small_box_grows_to_a_tenth_and_a_lost_one_to_the_whole():
    boxes = torch.tensor([[0.5, 0.5, 0.55, 0.8], [0.0, 0.0, 0.1, 0.1], [0.0, 0.4, 0.205, 0.6]])
    found = annotated_box.seen_in(boxes, torch.tensor([0.2, 0.2, 0.8, 0.8]).expand(3, 4))
    middle = (0.525 - 0.2) / 0.6
    assert found[0].tolist() == pytest.approx([middle - 0.05, 0.5, middle + 0.05, 1.0])
    assert found[1].tolist() == WHOLE and found[2].tolist() == WHOLE  # not shown, and a sliver of 1 in 120


class Told:
    """Trainer, module and data as the callback needs them."""

    def __init__(self, scales=2):
        backbone = partial(Backbone, name="test_resnet", weights="none")
        make = partial(
            RACNN, backbone=backbone, attention=annotated_box.AnnotatedBox, num_scales=scales, crop="sampler"
        )
        torch.manual_seed(0)
        self.recognizer = make(Taxonomy.flat(["a", "b"]), 32).eval()
        self.asked = []
        known = [Annotations({"object": (0.25, 0.25, 0.75, 0.5)}), Annotations()]

        def annotations(split, index):
            self.asked.append(split)
            return known[index]

        self.trainer = SimpleNamespace(datamodule=SimpleNamespace(annotations=annotations))

    def see(self, stage, indices, views):
        generator = torch.Generator().manual_seed(1)
        images = torch.randint(256, (len(indices), 3, 64, 64), dtype=torch.uint8, generator=generator)
        sample = Sample(images, torch.zeros(len(indices)), torch.tensor(indices), torch.tensor(views))
        getattr(annotated_box.TellBoxes(), f"on_{stage}_batch_start")(self.trainer, self, sample, 0)
        return images, self.recognizer(images)


@pytest.mark.parametrize(("stage", "split"), [("train", "train"), ("validation", "val"), ("test", "test")])
def test_the_recognizer_looks_at_the_annotated_box(stage, split):
    told = Told()
    images, answer = told.see(stage, [1, 0, 0], [WHOLE, WHOLE, [1.0, 0.0, 0.5, 1.0]])
    assert told.asked == [split] * 3
    # nothing annotated; the box itself; mirrored, of the right half of the photograph
    expected = [WHOLE, [0.25, 0.25, 0.75, 0.5], [0.5, 0.25, 1.0, 0.5]]
    assert answer.boxes[:, 0].tolist() == [pytest.approx(box) for box in expected]
    crops = crop_and_resize(images, torch.tensor(expected)[:, None], 32)[:, 0]
    scale = told.recognizer.scales[1]
    by_hand = scale.head(scale.backbone(crops)).logits["class"]
    torch.testing.assert_close(answer.views["scale2"].logits["class"], by_hand)
    assert told.recognizer(images[:2]).boxes[0, 0].tolist() == WHOLE  # a batch that nobody told about


def test_a_third_scale_sees_the_same_box_and_not_a_box_in_it():
    _, answer = Told(scales=3).see("test", [0], [WHOLE])
    assert answer.boxes[0].tolist() == [pytest.approx([0.25, 0.25, 0.75, 0.5])] * 2
