import hashlib
import itertools
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fgvc.data import transforms
from fgvc.data.transforms import A, Augmentation, EvalTransform, TrainTransform
from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize

PLAIN = Augmentation(scale=(0.2, 1.0), color_jitter=0.0)
RICH = Augmentation(policy=2, erase=0.5)


def photo(height=90, width=120, seed=0):
    """A smooth colourful picture: resizers agree on it, and no two of its parts look the same."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    shift = np.random.default_rng(seed).uniform(0, 3, 6)
    channels = [127 + 120 * np.sin(5 * x + shift[c]) * np.cos(4 * y + 2 * x * y + shift[c + 3]) for c in range(3)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def agreement(a, b):
    return np.mean(np.asarray(a) == np.asarray(b))


def digest(transform, image, seeds):
    """One hash of all pictures and views, whatever the order in which they are asked for."""
    drawn = {seed: transform(image, seed) for seed in seeds}
    parts = b"".join(drawn[seed][0].tobytes() + drawn[seed][1].tobytes() for seed in sorted(drawn))
    return hashlib.sha256(parts).hexdigest()


def digests_in_a_worker(queue, compose, transform, epoch):
    """Runs in a process of its own, like a loader's worker: what each of the two ways draws there."""
    image = photo()
    naive = hashlib.sha256(b"".join(compose(image=image)["image"].tobytes() for _ in range(8))).hexdigest()
    queue.put((naive, digest(transform, image, [(0, epoch, i) for i in range(8)])))


def in_forked_workers(epochs):
    """[(naive digest, our digest)] of one fresh worker per entry of `epochs`, all made from the same objects."""
    context = multiprocessing.get_context("fork")
    compose = A.Compose([A.HorizontalFlip(p=0.5), A.RandomResizedCrop((32, 32)), A.ColorJitter(p=1.0)])
    transform, found = TrainTransform(32, RICH), []
    for epoch in epochs:
        queue = context.SimpleQueue()
        worker = context.Process(target=digests_in_a_worker, args=(queue, compose, transform, epoch))
        worker.start()
        found.append(queue.get())
        worker.join()
    return found


def in_a_fresh_python(code, given=b""):
    """Run code after imports of fgvc.data.transforms alone, without torch, which takes seconds to load."""
    prelude = f"""
import pickle, sys, types
sys.modules["torch"] = None
package = types.ModuleType("fgvc.data")
package.__path__ = [{str(Path(transforms.__file__).parent)!r}]
import fgvc
sys.modules["fgvc.data"] = package
"""
    variables = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    command = [sys.executable, "-c", prelude + code]
    done = subprocess.run(command, input=given, capture_output=True, env=variables, check=False)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout.decode().split()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked_workers_repeat_the_library_s_own_stream_but_not_ours():
    found = in_forked_workers([0, 1, 2, 0])
    naive, ours = zip(*found, strict=True)
    assert len(set(naive)) == 1, "the library has mended its streams: our cure may be simplified"
    assert len(set(ours)) == 3
    assert ours[0] == ours[3]


def test_the_library_s_seed_locks_flips_together_and_our_state_does_not():
    image = photo(8, 8)
    steps = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]

    def flips(compose, reseed):
        across, down = [], []
        for index in range(400):
            if reseed:
                generator = np.random.default_rng([0, 0, index])
                compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
            applied = {name for name, _ in compose(image=image)["applied_transforms"]}
            across.append("HorizontalFlip" in applied)
            down.append("VerticalFlip" in applied)
        assert 0.4 < np.mean(across) < 0.6
        return agreement(across, down)

    assert flips(A.Compose(steps, seed=0, save_applied_params=True), reseed=False) == 1.0
    # 400 fair coins agree in 200 +- 10 cases.
    assert 0.4 < flips(A.Compose(steps, save_applied_params=True), reseed=True) < 0.6


def test_flip_crop_and_jitter_are_independent_of_each_other_and_of_their_neighbours():
    image = np.full((40, 40, 3), 100, dtype=np.uint8)
    transform = TrainTransform(8, Augmentation(color_jitter=0.5))
    drawn = [transform(image, (0, 0, index)) for index in range(600)]
    flipped = np.array([view[0] > view[2] for _, view in drawn])
    bright = np.array([pixels.mean() for pixels, _ in drawn])
    left = np.array([min(view[0], view[2]) for _, view in drawn])
    assert 0.4 < flipped.mean() < 0.6
    # 1/sqrt(600) is 0.04: a correlation beyond 0.17 is no accident.
    for one, other in [(flipped, bright), (flipped, left), (bright, left)]:
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.17
    for decision in (flipped, bright, left):
        assert abs(np.corrcoef(decision[1:], decision[:-1])[0, 1]) < 0.17


def test_brightness_contrast_and_saturation_are_drawn_apart(monkeypatch):
    seen = []

    class Spy(transforms._Jitter):
        def get_params(self):
            seen.append(super().get_params())
            return seen[-1]

    monkeypatch.setattr(transforms, "_Jitter", Spy)
    transform, image = TrainTransform(8, Augmentation(color_jitter=0.2)), photo(16, 16)
    for index in range(300):
        transform(image, (0, 0, index))
    values = np.array([[one[key] for key in ("brightness", "contrast", "saturation")] for one in seen])
    assert values.min() >= 0.8
    assert values.max() <= 1.2
    assert values.std() > 0.1  # uniform over 0.8 .. 1.2 has 0.115
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.25


ORDERS = list(itertools.permutations(["brightness", "contrast", "saturation"]))


def slow_jitter(image, changes):
    """One change after the other in float64, as the words are defined: blend with black, mean grey or own grey."""
    pixels = image.astype(np.float64)
    for name, factor in changes:
        grey = pixels[..., 0] * 0.299 + pixels[..., 1] * 0.587 + pixels[..., 2] * 0.114
        other = {"brightness": 0.0, "contrast": grey.mean(), "saturation": grey[..., None]}[name]
        pixels = factor * pixels + (1 - factor) * other
    return pixels.clip(0, 255)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("factors", [(1.2, 0.8, 1.2), (0.0, 1.1, 1.1), (1.2, 0.0, 1.1), (1.1, 1.1, 0.0)])
def test_jitter_is_that_of_a_slow_float_loop_in_every_order(order, factors):
    image = photo(32, 40)
    by_name = dict(zip(("brightness", "contrast", "saturation"), factors, strict=True))
    expected = slow_jitter(image, [(name, by_name[name]) for name in order])
    drawn = transforms._Jitter(hue=(0, 0), p=1.0).apply(image, **by_name)
    assert (drawn.dtype, drawn.shape) == (np.uint8, image.shape)
    assert np.abs(drawn - expected).max() < 1  # OpenCV computes in fixed point


def test_jitter_is_near_pillow_s_own():
    image = photo(64, 64)
    steps = [(ImageEnhance.Brightness, 1.15), (ImageEnhance.Contrast, 0.85), (ImageEnhance.Color, 1.2)]
    expected = Image.fromarray(image)
    for enhance, factor in steps:
        expected = enhance(expected).enhance(factor)
    drawn = transforms._Jitter(hue=(0, 0), p=1.0).apply(image, 1.15, 0.85, 1.2)
    difference = np.abs(drawn - np.asarray(expected, dtype=float))
    assert difference.mean() < 3  # Pillow rounds and clips after each of the three
    assert difference.mean() < np.abs(image - np.asarray(expected, dtype=float)).mean() / 3


def test_the_same_seed_gives_the_same_bytes_in_any_order_and_in_another_process():
    image = photo()
    seeds = [(0, 5, index) for index in range(8)]
    here = digest(TrainTransform(32, RICH), image, seeds)
    assert digest(TrainTransform(32, RICH), image, seeds[::-1]) == here
    transform = TrainTransform(32, RICH)
    transform(image, (9, 9, 9))
    assert digest(transform, image, random.Random(0).sample(seeds, len(seeds))) == here
    code = """
import hashlib
transform, image, seeds = pickle.load(sys.stdin.buffer)
drawn = [transform(image, seed) for seed in seeds]
print(hashlib.sha256(b"".join(pixels.tobytes() + view.tobytes() for pixels, view in drawn)).hexdigest())
"""
    assert in_a_fresh_python(code, pickle.dumps((transform, image, seeds))) == [here]


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_another_seed_epoch_or_index_gives_another_picture(other):
    transform = TrainTransform(32, Augmentation())
    pixels, view = transform(photo(), (0, 0, 0))
    other_pixels, other_view = transform(photo(), other)
    assert not np.array_equal(view, other_view)
    assert not np.array_equal(pixels, other_pixels)


def test_a_pickled_transform_draws_the_same():
    transform = TrainTransform(32, RICH)
    copy = pickle.loads(pickle.dumps(transform))  # noqa: S301 - our own bytes
    seeds = [(1, 2, index) for index in range(12)]
    assert digest(copy, photo(), seeds) == digest(transform, photo(), seeds)
    how = pickle.loads(pickle.dumps(EvalTransform(EvalResize(16))))  # noqa: S301
    assert np.array_equal(how(photo(), (0,))[0], EvalTransform(EvalResize(16))(photo(), (0,))[0])


@pytest.mark.parametrize("shape", [(90, 120), (200, 61), (24, 30)])
def test_the_view_is_the_part_that_is_shown(shape):
    image = photo(*shape)
    transform, size = TrainTransform(48, PLAIN), 48
    mirrored = 0
    for index in range(40):
        pixels, view = transform(image, (0, 0, index))
        assert pixels.shape == (size, size, 3)
        assert (pixels.dtype, view.dtype, view.shape) == (np.uint8, np.float32, (4,))
        x1, y1, x2, y2 = view * [shape[1], shape[0], shape[1], shape[0]]
        box = (min(x1, x2), y1, max(x1, x2), y2)
        expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
        if x1 > x2:
            mirrored += 1
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        wrong = np.asarray(expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT), dtype=float)
        difference = np.abs(np.asarray(expected, dtype=float) - pixels).mean()
        assert difference < 3 < np.abs(wrong - pixels).mean()
    assert 5 < mirrored < 35


def test_the_crop_keeps_the_share_and_the_proportions_that_were_asked_for():
    transform = TrainTransform(16, Augmentation(scale=(0.3, 0.5), ratio=(0.8, 1.25)))
    image = photo(200, 200)
    views = np.array([transform(image, (0, 0, index))[1] for index in range(100)])
    width, height = np.abs(views[:, 2] - views[:, 0]), views[:, 3] - views[:, 1]
    assert 0.29 < (width * height).min() < 0.33
    assert 0.47 < (width * height).max() < 0.51
    assert 0.78 < (width / height).min() < (width / height).max() < 1.28


def test_a_fine_checkerboard_becomes_grey_when_it_shrinks():
    y, x = np.mgrid[0:400, 0:400]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    pixels, _ = TrainTransform(60, Augmentation(scale=(1, 1), ratio=(1, 1), color_jitter=0.0))(board, (0, 0, 0))
    assert np.abs(pixels.astype(int) - 127).max() < 20
    aliased = A.Compose([A.RandomResizedCrop((60, 60), scale=(1, 1), ratio=(1, 1))])(image=board)["image"]
    assert np.abs(aliased.astype(int) - 127).max() > 40, "the check does not tell the filters apart"


def test_without_flip_and_jitter_the_crop_is_all_that_is_drawn():
    image = np.full((50, 50, 3), (10, 120, 230), dtype=np.uint8)
    transform = TrainTransform(16, Augmentation(flip=0.0, color_jitter=0.0))
    for index in range(30):
        pixels, view = transform(image, (0, 0, index))
        assert view[0] < view[2]
        assert (pixels == image[:16, :16]).all()


def test_a_policy_draws_different_operations_and_the_same_ones_again():
    image = photo(40, 40)
    alone = TrainTransform(24, Augmentation(scale=(1, 1), ratio=(1, 1), flip=0.0, color_jitter=0.0))
    policy = TrainTransform(24, Augmentation(scale=(1, 1), ratio=(1, 1), flip=0.0, color_jitter=0.0, policy=2))
    drawn = [policy(image, (0, 0, index))[0] for index in range(40)]
    assert len({pixels.tobytes() for pixels in drawn}) > 20
    plain = alone(image, (0, 0, 0))[0]
    assert sum(np.array_equal(pixels, plain) for pixels in drawn) < 5
    again = [policy(image, (0, 0, index))[0] for index in range(40)]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_every_operation_of_the_policy_is_drawn_about_equally_often():
    transform, image = TrainTransform(8, Augmentation(policy=3)), photo(16, 16)
    counts: dict[str, int] = {}
    for index in range(300):
        generator = np.random.default_rng([0, 0, index])
        transform._compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        applied = [name for name, _ in transform._compose(image=image)["applied_transforms"]]
        for name in set(applied) - {"RandomResizedCrop", "HorizontalFlip", "_Jitter"}:
            counts[name] = counts.get(name, 0) + 1
    assert len(counts) == 9
    # 300 * 3 / 9 = 100 each, give or take 8.
    assert all(65 < count < 135 for count in counts.values()), counts


def test_erasing_covers_one_part_of_the_share_of_pictures_that_was_asked_for():
    image = np.full((40, 40, 3), 77, dtype=np.uint8)
    transform = TrainTransform(40, Augmentation(color_jitter=0.0, erase=0.5))
    changed = [(transform(image, (0, 0, index))[0] != 77).any(axis=2).mean() for index in range(200)]
    assert 0.38 < np.mean([share > 0 for share in changed]) < 0.62
    assert max(changed) < 0.25


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (1500, 1000)])
def test_pictures_of_any_shape_pass(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    transform = TrainTransform(32, Augmentation(policy=3, erase=0.5))
    for index in range(10):
        pixels, view = transform(image, (0, 0, index))
        assert pixels.shape == (32, 32, 3)
        assert pixels.flags.c_contiguous
        assert view.min() >= 0
        assert view.max() <= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", (0.5, 0.2)),
        ("scale", (0.5, 1.2)),
        ("scale", (0.0, 0.0)),
        ("ratio", (2.0, 1.0)),
        ("ratio", (0.0, 1.0)),
        ("flip", 1.2),
        ("flip", -0.1),
        ("color_jitter", -0.2),
        ("color_jitter", float("nan")),
        ("policy", -1),
        ("policy", 10),
        ("erase", 1.5),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(name, value):
    with pytest.raises(UsageError) as caught:
        TrainTransform(32, Augmentation(**{name: value}))
    assert f"data.augmentation.{name}: {value}; it must be" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_ends_of_the_ranges_are_allowed():
    edge = Augmentation(scale=(1, 1), ratio=(1, 1), flip=1.0, color_jitter=2.0, policy=9, erase=1.0)
    assert TrainTransform(8, edge)(photo(), (0, 0, 0))[0].shape == (8, 8, 3)


def test_a_size_below_1_is_refused():
    with pytest.raises(UsageError, match=r"data\.image_size: 0"):
        TrainTransform(0, Augmentation())


@pytest.mark.filterwarnings("ignore:Argument")
def test_a_misspelt_argument_of_the_library_is_refused(monkeypatch):
    monkeypatch.setattr(transforms, "_steps", lambda size, wanted: [A.HorizontalFlip(probability=1.0)])
    A.Compose([A.HorizontalFlip(probability=1.0)])  # only a warning: the flip would quietly keep its default
    with pytest.raises(ValueError, match="probability"):
        TrainTransform(32, Augmentation())


def test_eval_transform_draws_nothing():
    transform = EvalTransform(EvalResize(24, "squash"))
    pixels, view = transform(photo(), (0, 0, 0))
    assert np.array_equal(pixels, transform(photo(), (1, 2, 3))[0])
    assert view.tolist() == [0, 0, 1, 1]
    with pytest.raises(UsageError, match="fit"):
        EvalTransform(EvalResize(24, "stretch"))


@pytest.mark.parametrize("ratio", [(0.75, 1.3333), (0.5, 1.0), (1.0, 3.0), (1.5, 2.0)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 1.5), (2, 1)])
def test_at_least_is_where_the_smallest_crop_has_the_size_of_the_result(ratio, height, width):
    transform = TrainTransform(32, Augmentation(scale=(0.2, 0.2), ratio=ratio, color_jitter=0.0, flip=0.0))
    sides = np.ceil(np.array([height, width]) * transform.at_least).astype(int)
    picture, smallest = np.zeros((*sides, 3), dtype=np.uint8), []
    for draw in range(300):
        left, top, right, bottom = transform(picture, (draw,))[1]
        smallest.append(min((right - left) * sides[1], (bottom - top) * sides[0]))
    assert min(smallest) >= 31.4  # a crop's sides are whole pixels
    assert min(smallest) < 34 or (height, width) != (1, 1) or ratio[0] > 1  # no more than that is asked for


def test_at_least_of_the_evaluation_is_that_of_its_resize():
    assert EvalTransform(EvalResize(224, "crop", 0.875)).at_least == 512
    assert EvalTransform(EvalResize(224, "squash")).at_least == 448


def test_importing_asks_no_network():
    code = """
import os, socket, urllib.request
def refuse(*args, **kwargs): raise SystemError("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
asked = []
urllib.request.OpenerDirector.open = lambda *args, **kwargs: asked.append(args) or refuse()
import fgvc.data.transforms
print("albumentations" in sys.modules, len(asked), os.environ["NO_ALBUMENTATIONS_UPDATE"])
import albumentations, warnings
warnings.simplefilter("ignore")
albumentations.check_for_updates()
print(len(asked))
"""
    # The last number: what the import does without the variable.
    assert in_a_fresh_python(code) == ["True", "0", "1", "1"]
