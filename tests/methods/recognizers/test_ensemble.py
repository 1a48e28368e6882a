import numpy as np
import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY, tiny_model
from scipy.special import log_softmax, softmax

from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize, Strip, resize_for_eval
from fgvc.methods.recognizers.ensemble import Ensemble
from fgvc.model_file.architecture import build


def how(size, **keys):
    return EvalResize(size, **keys)._asdict()


def plain(**keys):
    arguments = {"members": [PLAIN, PLAIN], "image_sizes": [32, 40], "inputs": [how(32), how(40)], "names": ["a", "b"]}
    return {"class_path": "Ensemble", "init_args": arguments | keys}


def members(count):
    """Return networks that answer differently."""
    made = []
    for seed in range(count):
        recognizer = tiny_model().recognizer
        torch.manual_seed(seed)
        weight = recognizer.head.classifier.weight.data
        recognizer.head.classifier.weight.data = weight[torch.randperm(len(weight))] * (1 + seed)
        made.append(recognizer.eval())
    return made


def of(networks, **keys):
    sizes = [one.image_size for one in networks]
    arguments = {"image_sizes": sizes, "inputs": [how(size) for size in sizes]} | keys
    names = [f"m{i}" for i in range(len(networks))]
    parts = [lambda taxonomy, size, one=one: one for one in networks]
    return Ensemble(TAXONOMY, max(sizes), parts, names=names, **arguments).eval()


def slow_answer(networks, images, weights, temperatures, readouts):
    """Return level -> (N, C), the weighted mean of probabilities, image by image and class by class."""
    expected = {level: np.zeros((len(images), TAXONOMY.size(level))) for level in TAXONOMY.levels}
    for network, weight, own, readout in zip(networks, weights, temperatures, readouts, strict=True):
        with torch.no_grad():
            logits = network(images).logits
        leaf = softmax(logits["species"].double().numpy() / own.get("species", 1.0), axis=1)
        for level in TAXONOMY.levels:
            for n in range(len(images)):
                if level in logits and (level == "species" or readout == "own"):
                    scores = softmax(logits[level][n].double().numpy() / own.get(level, 1.0))
                    expected[level][n] += weight * scores
                    continue
                for k in range(TAXONOMY.num_classes):
                    above = int(TAXONOMY.ancestors[k, TAXONOMY.depth(level)])
                    expected[level][n, above] += weight * leaf[n, k]
    return expected


def test_the_answer_is_the_weighted_mean_of_calibrated_probabilities_at_every_level():
    networks, images = members(3), torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    weights, temperatures = [0.5, 0.2, 0.3], [{"species": 2.0}, {}, {"species": 0.5}]
    readouts = ["own", "marginal", "own"]
    made = of(networks, weights=weights, temperatures=temperatures, readouts=readouts)
    with torch.no_grad():
        found = made(images)
    expected = slow_answer(networks, images, weights, temperatures, readouts)
    assert list(found.logits) == list(TAXONOMY.levels)
    for level, scores in found.logits.items():
        np.testing.assert_allclose(scores.exp().numpy(), expected[level], atol=1e-6)
    assert list(found.views) == ["member_m0", "member_m1", "member_m2"]
    with torch.no_grad():
        alone = networks[0](images).logits["species"].double().numpy()
    np.testing.assert_allclose(
        found.views["member_m0"].logits["species"].numpy(), log_softmax(alone / 2, axis=1), atol=1e-5
    )


def test_without_weights_every_member_counts_alike_and_one_of_weight_0_nothing():
    networks, images = members(3), torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        equal, one = of(networks)(images), of(networks, weights=[0.0, 1.0, 0.0])(images)
        alone = networks[1](images)
    expected = slow_answer(networks, images, [1 / 3] * 3, [{}] * 3, ["own"] * 3)
    np.testing.assert_allclose(equal.logits["species"].exp().numpy(), expected["species"], atol=1e-6)
    np.testing.assert_allclose(
        one.logits["species"].numpy(), alone.logits["species"].log_softmax(dim=1).numpy(), atol=1e-6
    )


def test_the_product_of_two_embeddings_is_the_weighted_mean_of_cosines():
    networks, images = members(2), torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        first, second = of(networks, weights=[0.3, 0.7])(images).embedding.double().numpy()
        alone = [network(images).embedding.double().numpy() for network in networks]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in alone]
    assert first @ second == pytest.approx(0.3 * cosines[0] + 0.7 * cosines[1], abs=1e-6)


def test_each_member_sees_the_square_that_it_asks_for():
    torch.manual_seed(0)
    made = build(plain(inputs=[how(32, fit="squash"), how(40, crop_fraction=0.8)]), TAXONOMY, 40).eval()
    photograph = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    shown = made.resize(EvalResize(40))
    assert isinstance(shown, Strip) and shown.at_least == 100
    strip = torch.from_numpy(resize_for_eval(photograph, shown)[0]).permute(2, 0, 1)[None]
    assert strip.shape == (1, 3, 40, 72)
    expected = []
    for member, one in zip(made.members, shown.squares, strict=True):
        square = torch.from_numpy(resize_for_eval(photograph, one)[0]).permute(2, 0, 1)[None]
        with torch.no_grad():
            expected.append(member(square).logits["species"].softmax(dim=1).double().numpy())
    with torch.no_grad():
        found = made(strip).logits["species"].exp().numpy()
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-6)


def test_squares_are_cut_apart_and_laid_together_again():
    made = build(plain(image_sizes=[32, 40], inputs=[how(32), how(40)]), TAXONOMY, 40)
    squares = (torch.rand(2, 3, 32, 32), torch.rand(2, 3, 40, 40))
    strip = made.together(squares)
    assert strip.shape == (2, 3, 40, 72)
    assert all(torch.equal(a, b) for a, b in zip(made.apart(strip), squares, strict=True))
    with pytest.raises(UsageError, match=r"images of 40 x 80; give squares, or 40 x 72 for \[32, 40\]"):
        made(torch.zeros(1, 3, 40, 80))


def test_members_that_see_alike_share_one_square():
    made = build(plain(image_sizes=[32, 32], inputs=[how(32), how(32)]), TAXONOMY, 32)
    assert made.resize(EvalResize(99)) == EvalResize(32)


def test_the_loss_is_the_cross_entropy_of_the_answer():
    images, labels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 4, 2, 1])
    made = of(members(2))
    with torch.no_grad():
        prediction = made(images)
        found = float(made.loss(prediction, labels)["classes"])
    truth = prediction.logits["species"].numpy()[range(4), labels]
    assert found == pytest.approx(-truth.mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"members": []}, "ensemble members: none; give at least one"),
        ({"names": ["a"]}, "ensemble names: 1 for 2 members; give one each"),
        ({"names": ["a", "a"]}, "ensemble names: 'a', 'a'; each member needs one of its own"),
        ({"names": ["a", "b/c"]}, "ensemble names: 'a', 'b/c'; each member needs one of its own, of letters, digits"),
        ({"inputs": [{"size": "x"}, how(32)]}, "ensemble inputs: 'x'; a side in pixels"),
        ({"inputs": [how(10**6), how(32)]}, "ensemble inputs: 1000000"),
        ({"inputs": [how(8192), how(32)]}, "eval resize: 2 squares of up to 8192 pixels; too many to show at once"),
        ({"image_sizes": [0, 32]}, "ensemble image_sizes: 0"),
        ({"weights": [0.5, 0.6]}, "ensemble weights: .* whose sum is 1"),
        ({"weights": [1.5, -0.5]}, "ensemble weights: .* numbers of 0 to 1"),
        ({"temperatures": [{"order": 1.0}, {}]}, "ensemble temperatures: order 1.0; a level of the taxonomy"),
        ({"temperatures": [{"species": 0.0}, {}]}, "ensemble temperatures: species 0.0"),
        (
            {"inputs": [{"size": 3, "side": 3}, how(32)]},
            "ensemble inputs: .* each has size, fit, crop_fraction, interpolation",
        ),
        ({"inputs": [how(32, fit="cut"), how(32)]}, "fit: 'cut'"),
        ({"readouts": ["own"]}, "ensemble readouts: 1 for 2 members"),
        ({"readouts": ["own", "mine"]}, "ensemble readouts: mine; own or marginal"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(UsageError, match=message):
        build(plain(**keys), TAXONOMY, 40)
