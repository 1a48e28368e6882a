import numpy as np
import pytest
import torch
from fakes.cub import BIRD, make_fake_cub

from fgvc.config import quiet
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.places import other_side, shown
from fgvc.data.sources.base import Annotations
from fgvc.data.sources.cub import CUB
from fgvc.data.transforms import Augmentation, TrainTransform
from fgvc.errors import UsageError
from fgvc.methods.part_localizer import BIRD_POINTS

NAMES = ("left eye", "right eye", "beak")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("left eye", "right eye"),
        ("wing_right", "wing_left"),
        ("beak", "beak"),
        ("cleft", "cleft"),  # no word of its own
        ("left of right", "left of right"),
    ],
)
def test_a_mirrored_part_has_the_name_of_the_other_side(name, other):
    assert other_side(name) == other


@pytest.mark.parametrize("seed", range(12))
def test_points_lie_on_the_pixels_that_they_were_annotated_on_after_crop_and_flip(seed):
    places = {"left eye": (0.30, 0.45), "right eye": (0.62, 0.40), "beak": (0.5, 0.7)}
    colours = {"left eye": 0, "right eye": 1, "beak": 2}
    image = np.zeros((120, 160, 3), np.uint8)
    for name, (x, y) in places.items():  # a disc of its own colour around each point
        rows, columns = np.mgrid[:120, :160]
        image[np.hypot(columns + 0.5 - x * 160, rows + 0.5 - y * 120) < 6, colours[name]] = 255
    transform = TrainTransform(96, Augmentation(scale=(0.5, 1.0), color_jitter=0.0))
    pixels, view = transform(image, (7, 0, seed))
    found = shown(Annotations(points=places), view, NAMES)
    mirrored = view[0] > view[2]
    swap = {0: 1, 1: 0, 2: 2} if mirrored else {0: 0, 1: 1, 2: 2}
    checked = 0
    for row, channel in swap.items():  # the part called left in the mirror is the one that was painted as right
        disc = pixels[:, :, channel] > 128
        x, y = found.points[row].tolist()
        ys, xs = np.nonzero(disc)
        if np.isnan(x) or not disc.any() or min(xs.min(), ys.min()) == 0 or max(xs.max(), ys.max()) == 95:
            continue
        assert abs((xs.mean() + 0.5) / 96 - x) < 0.02 and abs((ys.mean() + 0.5) / 96 - y) < 0.02
        checked += 1
    assert checked or np.isnan(found.points.numpy()).any()


def test_what_is_cut_off_or_unknown_is_not_a_number():
    known = Annotations({"object": (0.2, 0.2, 0.6, 0.6)}, {"left eye": (0.3, 0.3), "beak": (0.9, 0.5)})
    found = shown(known, np.array([0.25, 0.0, 0.75, 0.5]), NAMES)
    torch.testing.assert_close(found.points[0], torch.tensor([0.1, 0.6]))
    assert found.points[1].isnan().all()  # not annotated
    assert found.points[2].isnan().all()  # outside
    torch.testing.assert_close(found.box, torch.tensor([0.0, 0.4, 0.7, 1.0]))
    assert shown(known, np.array([0.58, 0.58, 1.0, 1.0]), NAMES).box.isnan().all()  # 0.25 % of it is shown
    assert shown(Annotations(), np.array([0.0, 0.0, 1.0, 1.0]), NAMES).box.isnan().all()


def test_a_mirrored_box_has_its_corners_in_order():
    found = shown(Annotations({"object": (0.1, 0.2, 0.4, 0.9)}), np.array([1.0, 0.0, 0.0, 1.0]), ())
    torch.testing.assert_close(found.box, torch.tensor([0.6, 0.2, 0.9, 0.9]))
    assert found.points.shape == (0, 2)


@pytest.fixture
def birds(tmp_path):
    quiet.libraries()
    return CUB(str(make_fake_cub(tmp_path / "cub", num_classes=2, images_per_class=8, points=BIRD)))


def data(source, **keys):
    return FineGrainedData(source, **{"image_size": 32, "batch_size": 4, "num_workers": 0, "val_fraction": 0, **keys})


def test_batches_hold_places_only_once_they_are_asked_for(birds):
    plain = data(birds, fit="squash")
    assert next(iter(plain.train_dataloader())).places is None
    plain.show_places(BIRD_POINTS, "PartRCNN", learns=True)
    batch = next(iter(plain.train_dataloader()))
    assert batch.places.points.shape == (4, 15, 2) and batch.places.box.shape == (4, 4)
    shown = next(iter(plain.test_dataloader()))
    beak = shown.places.points[:, BIRD_POINTS.index("beak")]
    x1, y1, x2, y2 = shown.view.unbind(1)
    torch.testing.assert_close(beak[:, 0], (10 / 40 - x1) / (x2 - x1))
    torch.testing.assert_close(beak[:, 1], (8 / 32 - y1) / (y2 - y1))
    known = plain.known_places("train", most=5)
    assert known.box.shape == (5, 4) and not known.points[:, BIRD_POINTS.index("beak")].isnan().any()


def test_places_follow_the_images_into_worker_processes(birds):
    alone, workers = data(birds), data(birds, num_workers=1)
    for one in (alone, workers):
        one.show_places(BIRD_POINTS, "PartRCNN", learns=True)
    for first, second in zip(alone.train_dataloader(), workers.train_dataloader(), strict=True):
        assert torch.equal(first.places.points.nan_to_num(-1), second.places.points.nan_to_num(-1))


def test_a_source_without_the_points_and_rotations_are_refused_where_a_recognizer_learns(birds):
    with pytest.raises(UsageError, match="CUB knows none of them") as caught:
        data(birds).show_places(["snout"], "PartRCNN", learns=True)
    assert "\n" not in str(caught.value)
    data(birds).show_places(["snout"], "PartRCNN", learns=False)  # to be tested there is no fault
    with pytest.raises(UsageError, match="policy: 2; its rotations"):
        data(birds, augmentation=Augmentation(policy=2)).show_places(BIRD_POINTS, "PartRCNN", learns=True)
