import math
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torchvision import ops

from fgvc.config import quiet
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.base import Annotations
from fgvc.data.sources.generated_birds import GeneratedBirds
from fgvc.datatypes import Sample
from fgvc.methods.attention.centre import CentreBox
from fgvc.methods.backbone import Backbone
from fgvc.methods.recognizers.ra_cnn import RACNN
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.training.callbacks.crop_health import CropHealth, agreement, box_shape
from fgvc.training.module import FineGrainedModule

HEAD = ("eye", "throat")
BOX = torch.tensor([0.2, 0.3, 0.6, 0.9])
FEW = {"num_orders": 1, "families_per_order": 1, "genera_per_family": 1, "species_per_genus": 2, "num_processes": 1}
SMALL = {"train_per_class": 4, "val_per_class": 2, "test_per_class": 2, "image_size": 64, "mark_size": 0.06}
TINY = partial(Backbone, name="test_resnet", weights="none")
CENTRED = partial(RACNN, backbone=TINY, attention=partial(CentreBox, side=0.5))


@pytest.fixture(autouse=True)
def calm():
    quiet.libraries()


def test_the_side_is_the_mean_of_both_and_the_border_is_any_edge():
    boxes = [[0.1, 0.2, 0.5, 0.8], [0.0, 0.2, 0.5, 0.8], [0.2, 0.2, 0.5, 1.0], [0.2, 0.004, 0.5, 0.9], [0, 0, 1, 1]]
    found = box_shape(torch.tensor(boxes))
    assert found["side"].tolist() == pytest.approx([0.5, 0.55, 0.55, 0.598, 1])
    assert found["at_border"].tolist() == [0, 1, 1, 1, 1]


def test_the_overlap_with_the_object_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    low, side = torch.rand(20, 2, generator=generator) * 0.6, 0.1 + torch.rand(20, 2, generator=generator) * 0.3
    known = torch.cat((low, low + side), dim=1)
    for row, expected in zip(known.tolist(), ops.box_iou(BOX[None], known)[0].tolist(), strict=True):
        found = agreement(BOX, Annotations({"object": tuple(row)}), HEAD)
        assert found == {"iou": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ({"eye": (0.3, 0.4), "throat": (0.5, 0.8)}, 1),
        ({"eye": (0.3, 0.4), "throat": (0.5, 0.91)}, 0),
        ({"eye": (0.1, 0.4), "throat": (0.5, 0.8)}, 0),
        ({"eye": (0.3, 0.4), "tail": (0.9, 0.9)}, 1),  # no part of the head
        ({"tail": (0.3, 0.4)}, None),
        ({}, None),
    ],
)
def test_the_head_is_kept_where_all_of_its_points_are(points, kept):
    found = agreement(BOX, Annotations(points=points), HEAD)
    assert found.get("head_kept") == kept
    tail = points.get("tail")  # every other point is the body's
    assert found.get("body_kept") == (None if tail is None else float(tail == (0.3, 0.4)))
    assert agreement(BOX, Annotations(points=points), ()) == {}


@pytest.mark.parametrize(
    ("mark", "kept"),
    [
        ((0.3, 0.4, 0.35, 0.45), 1),
        ((0.2, 0.3, 0.25, 0.35), 1),  # in the corner
        ((0.58, 0.4, 0.62, 0.45), 0),
        ((0.3, 0.28, 0.35, 0.33), 0),
        ((0.7, 0.4, 0.75, 0.45), 0),
    ],
)
def test_the_mark_is_kept_where_all_of_it_is(mark, kept):
    assert agreement(BOX, Annotations({"mark": mark}), HEAD) == {"mark_kept": kept}


class Watched:
    """What the callback needs of trainer and module, and what it logged."""

    def __init__(self, known: list[Annotations]) -> None:
        self.callback, self.logged, self.device = CropHealth(), {}, torch.device("cpu")
        source = SimpleNamespace(head_parts=HEAD)
        data = SimpleNamespace(source=source, annotations=lambda split, index: known[index])
        self.trainer = SimpleNamespace(datamodule=data, sanity_checking=False)

    def log(self, name: str, value: torch.Tensor, **keys: object) -> None:
        self.logged[name] = float(value)

    def validate(self, *batches, stage="validation"):
        """Show batches of (boxes (N, K, 4), indices, views (N, 4)) and return what is logged at the end."""
        self.logged = {}
        for boxes, indices, views in batches:
            empty = torch.zeros(len(indices))
            sample = Sample(empty, empty, torch.tensor(indices), torch.tensor(views))
            outputs = {"boxes": torch.tensor(boxes)}
            getattr(self.callback, f"on_{stage}_batch_end")(self.trainer, self, outputs, sample, 0)
        getattr(self.callback, f"on_{stage}_epoch_end")(self.trainer, self)
        return self.logged


WHOLE = [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("view", "shown"),
    [  # a box of the view, and where that lies in the photograph
        ([0.2, 0.1, 0.8, 0.9], [0.2 + 0.6 * 0.1, 0.1 + 0.8 * 0.25, 0.2 + 0.6 * 0.5, 0.1 + 0.8 * 0.75]),
        ([0.8, 0.1, 0.2, 0.9], [0.8 - 0.6 * 0.5, 0.1 + 0.8 * 0.25, 0.8 - 0.6 * 0.1, 0.1 + 0.8 * 0.75]),
    ],
)
def test_boxes_of_a_plain_or_mirrored_view_are_compared_in_the_photograph(view, shown):
    object_box = [0.3, 0.2, 0.7, 0.7]
    middle = ((shown[0] + shown[2]) / 2, (shown[1] + shown[3]) / 2)
    mark = (shown[0] + 0.01, shown[1] + 0.01, shown[0] + 0.05, shown[1] + 0.05)
    known = Annotations({"object": tuple(object_box), "mark": mark}, {"eye": middle})
    found = Watched([known]).validate(([[[0.1, 0.25, 0.5, 0.75]]], [0], [view]), stage="test")
    assert found == {
        "test/box1_iou": pytest.approx(float(ops.box_iou(torch.tensor([shown]), torch.tensor([object_box])))),
        "test/box1_mark_kept": 1,
        "test/box1_head_kept": 1,
        "test/box1_side": pytest.approx(0.45),  # of what the recognizer sees
        "test/box1_at_border": 0,
    }


def test_the_drift_is_the_way_of_the_centres_since_the_validation_before():
    watched = Watched([Annotations()] * 3)

    def at(*centres):
        return [[[x - 0.1, y - 0.1, x + 0.1, y + 0.1] for x, y in row] for row in centres]

    first = watched.validate(
        (at([(0.5, 0.5), (0.2, 0.2)], [(0.4, 0.4), (0.3, 0.3)]), [0, 1], [WHOLE] * 2),
        (at([(0.6, 0.6), (0.7, 0.7)]), [2], [WHOLE]),
    )
    assert not any("drift" in name for name in first)
    moved = (
        (at([(0.6, 0.6), (0.7, 0.7)], [(0.4, 0.7), (0.3, 0.3)]), [2, 1], [WHOLE] * 2),  # in another order
        (at([(0.8, 0.9), (0.2, 0.3)]), [0], [WHOLE]),
    )
    second = watched.validate(*moved)
    assert second["val/box1_drift"] == pytest.approx((0 + 0.3 + 0.5) / 3)
    assert second["val/box2_drift"] == pytest.approx((0 + 0 + 0.1) / 3)
    assert watched.validate(*moved)["val/box1_drift"] == 0


def test_the_sanity_check_is_no_validation_to_drift_from():
    watched = Watched([Annotations()])
    watched.trainer.sanity_checking = True
    watched.validate(([[[0.0, 0.0, 0.5, 0.5]]], [0], [WHOLE]))
    watched.trainer.sanity_checking = False
    assert "val/box1_drift" not in watched.validate(([[[0.5, 0.5, 1.0, 1.0]]], [0], [WHOLE]))


def test_means_are_over_images_and_over_what_is_annotated():
    known = [
        Annotations({"object": (0.0, 0.0, 0.5, 0.5)}),
        Annotations(),
        Annotations({"object": (0.0, 0.0, 1.0, 1.0)}),
    ]
    quarter = [[0.0, 0.0, 0.5, 0.5]]
    found = Watched(known).validate(([quarter, quarter], [0, 1], [WHOLE] * 2), ([[WHOLE]], [2], [WHOLE]))
    assert found["val/box1_iou"] == 1  # the second image knows nothing
    assert found["val/box1_side"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    again = Watched(known)
    again.validate(([[WHOLE]], [0], [WHOLE]))
    assert again.validate(([quarter], [0], [WHOLE]))["val/box1_iou"] == 1, "what was logged is forgotten"


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    return GeneratedBirds(**FEW, **SMALL, root=str(tmp_path_factory.mktemp("cache")))


def fitted(birds, recognizer, **keys):
    data = FineGrainedData(birds, image_size=32, batch_size=3, num_workers=0, source_size=64, crop_fraction=0.75)
    module = FineGrainedModule(recognizer, data.taxonomy, image_size=32, channels_last=False)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    plain = {"accelerator": "cpu", "enable_model_summary": False, "use_distributed_sampler": False}
    trainer = pl.Trainer(**silent, **plain, **keys, callbacks=[CropHealth()])
    trainer.fit(module, datamodule=data)
    seen = dict(trainer.callback_metrics)
    trainer.test(module, datamodule=data, verbose=False)
    return {name: float(value) for name, value in (seen | trainer.callback_metrics).items() if "box" in name}


def test_a_fixed_box_in_a_real_run_gets_the_numbers_of_a_recount(birds):
    found = fitted(birds, CENTRED, max_epochs=2)
    edge = 0.125 + 0.75 / 4  # the view is the inner 3/4, the box is the inner half of that
    box = [edge, edge, 1 - edge, 1 - edge]
    for split in ("val", "test"):
        overlaps, heads, marks = [], [], []
        for index in range(4):
            known = birds.annotations(split, index)
            overlaps.append(float(ops.box_iou(torch.tensor([box]), torch.tensor([known.boxes["object"]]))))
            heads.append(all(edge <= p <= 1 - edge for n in birds.head_parts for p in known.points.get(n, ())))
            left, top, right, bottom = known.boxes["mark"]
            marks.append(edge <= min(left, top) and max(right, bottom) <= 1 - edge)
        assert len(set(overlaps)) > 1 and 0 < sum(marks) < 4, "a run that can tell right from wrong"
        assert found[f"{split}/box1_iou"] == pytest.approx(sum(overlaps) / 4)
        assert found[f"{split}/box1_head_kept"] == sum(heads) / 4
        assert found[f"{split}/box1_mark_kept"] == sum(marks) / 4
        assert found[f"{split}/box1_side"] == 0.5 and found[f"{split}/box1_at_border"] == 0
    assert found["val/box1_drift"] == 0 and "test/box1_drift" not in found
    assert found["train/box1_side"] == 0.5
    assert all(math.isfinite(value) for value in found.values())


def test_every_box_of_the_recognizer_is_logged(birds):
    found = fitted(birds, partial(CENTRED, num_scales=3), max_epochs=1)
    assert found["val/box2_side"] == pytest.approx(0.25)
    assert found["test/box2_mark_kept"] <= found["test/box1_mark_kept"]


def test_a_recognizer_without_boxes_logs_nothing(birds):
    assert fitted(birds, partial(WholeImage, backbone=TINY), max_epochs=1) == {}
