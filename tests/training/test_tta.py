import numpy as np
import pytest
import torch
from PIL import Image

from fgvc.errors import UsageError
from fgvc.training import tta


def answer(images):
    """Log-probabilities of two levels that depend on where the light is."""
    images = images.float() / 255
    left = images[..., : images.shape[-1] // 2].mean(dim=(1, 2, 3))
    top = images[:, :, : images.shape[-2] // 2].mean(dim=(1, 2, 3))
    logits = torch.stack([3 * left, 5 * top, left * top], dim=1)
    return {"species": logits.log_softmax(dim=1), "genus": logits[:, :2].log_softmax(dim=1)}


def pictures(side=16):
    # smooth, so that two ways of resizing agree
    y, x = np.mgrid[:side, :side] / side
    planes = [np.stack([200 * x * y, 150 * y, 100 * (1 - x)]), np.stack([90 * x, 240 * x * x, 30 + 60 * y])]
    return torch.from_numpy(np.stack(planes).round().astype(np.uint8))


def mean_of_probabilities(versions):
    answers = [answer(version) for version in versions]
    return {level: np.log(np.mean([a[level].double().exp().numpy() for a in answers], axis=0)) for level in answers[0]}


def test_flip_averages_an_image_and_its_mirror_image():
    images = pictures()
    mirrored = torch.from_numpy(np.ascontiguousarray(images.numpy()[..., ::-1]))
    expected = mean_of_probabilities([images, mirrored])
    found = tta.averaged(lambda squares: answer(*squares), [images], "flip")
    assert set(found) == {"genus", "species"}
    for level, scores in found.items():
        np.testing.assert_allclose(scores.numpy(), expected[level], atol=1e-6)
        assert not np.allclose(scores.numpy(), answer(images)[level].numpy(), atol=1e-3)
        np.testing.assert_allclose(scores.exp().sum(dim=1).numpy(), 1, atol=1e-6)


def resized_by_pillow(images, box):
    planes = [
        [
            Image.fromarray(plane.astype(np.float32)).crop(box).resize((16, 16), Image.Resampling.BILINEAR)
            for plane in im
        ]
        for im in images.numpy()
    ]
    return torch.from_numpy(np.array([[np.asarray(plane) for plane in im] for im in planes]))


def test_crops_average_twelve_views():
    images = pictures()
    boxes = [(0, 0, 14, 14), (2, 0, 16, 14), (0, 2, 14, 16), (2, 2, 16, 16), (1, 1, 15, 15)]
    versions = [images.float(), *(resized_by_pillow(images, box) for box in boxes)]
    versions += [version.flip(-1) for version in versions]
    expected = mean_of_probabilities(versions)
    for level, scores in tta.averaged(lambda squares: answer(*squares), [images], "crops").items():
        np.testing.assert_allclose(scores.numpy(), expected[level], atol=2e-5)


def test_scales_average_the_whole_image_and_its_enlarged_centres():
    images = pictures()
    versions = [images.float(), *(resized_by_pillow(images, box) for box in ((1, 1, 14, 14), (2, 2, 13, 13)))]
    versions += [version.flip(-1) for version in versions]
    expected = mean_of_probabilities(versions)
    for level, scores in tta.averaged(lambda squares: answer(*squares), [images], "scales").items():
        np.testing.assert_allclose(scores.numpy(), expected[level], atol=2e-5)


def test_several_squares_of_a_photograph_change_alike():
    images = pictures()
    seen = []

    def noted(squares):
        seen.append(squares)
        return answer(squares[0])

    tta.averaged(noted, [images, images.float() * 2], "flip")
    assert [len(squares) for squares in seen] == [2, 2]
    assert torch.equal(seen[1][0], images.flip(-1)) and torch.equal(seen[1][1], 2 * images.float().flip(-1))


@pytest.mark.parametrize("name", tta.VERSIONS)
def test_the_looks_that_are_told_are_the_looks_that_are_taken(name):
    assert len([*tta.VERSIONS[name](pictures())]) == tta.LOOKS[name]
    assert tta.cost([name, "flip"]) == (
        f"model.tta: {name} {tta.LOOKS[name]}, flip 2 looks at each image; with the plain one the network runs "
        f"{tta.LOOKS[name] + 3} times"
    )


def test_every_view_keeps_the_shape():
    assert [tuple(view.shape) for view in tta.crops(pictures(15))] == [(2, 3, 15, 15)] * 12


def test_an_unknown_name_is_refused_with_the_nearest_one():
    tta.check(["flip", "crops"])
    with pytest.raises(UsageError, match=r"model.tta: 'crop'; there are .* did you mean 'crops'"):
        tta.check(["flip", "crop"])
