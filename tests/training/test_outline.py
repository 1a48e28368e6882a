from types import SimpleNamespace

import pytest
import torch

from fgvc.data.episode_batches import EpisodePlan
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.outline import _steps, limited, outline

TREE = Taxonomy(["genus", "species"], [["Larus", "canus"], ["Larus", "fuscus"], ["Sterna", "hirundo"]])


def told(
    images=100,
    batch=8,
    world=1,
    limit=1.0,
    together=1,
    balance="uniform",
    epochs=3,
    steps=-1,
    by_phase=False,
    thinned_from=0,
    amended=None,
):
    """Return the lines about made-up data; the loader holds what one process gets in whole batches."""
    sizes = {"train": images, "test": 1234, "val": 20}

    class Sized:
        root = "photos"

        def __init__(self, number):
            self.number = number

        def __len__(self):
            return self.number

    data = SimpleNamespace(
        taxonomy=TREE,
        splits=tuple(sizes),
        records=lambda split: Sized(sizes[split]),
        balance=balance,
        draws_by_phase=by_phase,
        batch_size=batch,
        episodes=None,
        long_tail=None,
        thinned_from=thinned_from,
        class_counts=torch.tensor([60, 34, 6]),
        amended=amended,
        train_dataloader=lambda: range(images // world // batch),
        resize=SimpleNamespace(size=160),
    )
    net = torch.nn.Linear(1000, 1500, bias=False)
    net.pretrained_cfg = {"architecture": "some_net"}
    recognizer = torch.nn.ModuleList([net])
    recognizer.backbones = lambda: [SimpleNamespace(net=net), SimpleNamespace(net=net)]
    model = SimpleNamespace(recognizer=recognizer, hparams={"image_size": 96})
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(
        strategy=strategy,
        world_size=world,
        limit_train_batches=limit,
        accumulate_grad_batches=together,
        max_epochs=epochs,
        max_steps=steps,
    )
    return outline(data, model, trainer)


def test_episodes_are_told_in_place_of_images():
    plan = EpisodePlan(20, 1, 15, per_epoch=100)
    for limit, number in ((1.0, "100"), (7, "7")):
        data = SimpleNamespace(episodes=plan)
        trainer = SimpleNamespace(max_epochs=3, limit_train_batches=limit)
        expected = f"training: 3 epochs of {number} episodes, 20-way 1-shot, 15 queries per class"
        assert _steps(data, trainer) == expected


def test_a_tail_is_told_after_the_images():
    lines = told(thinned_from=180)
    assert lines[0].startswith("images: 100 to train") and lines[2].startswith("classes: ")
    assert lines[1] == "long tail: 100 of 180 training images are kept, 60 to 6 per class (data.long_tail)"


def test_the_lines_tell_images_classes_network_and_steps():
    assert told() == [
        "images: 100 to train, 20 to validate, 1,234 to test, in photos",
        "classes: genus 2, species 3",
        "network: some_net, 1.5 million numbers, 96 px, on the CPU",
        "training: 3 epochs of 12 steps of 8 images; each epoch leaves out 4 (the rest of a batch), others each time",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": 96}, "3 epochs of 12 steps of 8 images"),
        ({"images": 96, "epochs": -1}, "an epoch is 12 steps of 8 images"),
        ({"images": 96, "steps": 20}, "at most 20 steps, 3 epochs of 12 steps of 8 images"),
        ({"images": 96, "together": 5}, "3 epochs of 3 steps of 40 images"),  # the last step holds 2 batches
        (
            {"world": 2, "images": 97},
            "3 epochs of 6 steps of 16 images; each epoch leaves out 1 (the rest of a batch), others each time",
        ),
        (
            {"limit": 2},
            "3 epochs of 2 steps of 8 images; each epoch leaves out 4 (the rest of a batch) and 80 "
            "(trainer.limit_train_batches), others each time",
        ),
        (
            {"balance": "sqrt"},
            "3 epochs of 12 steps of 8 images; images are drawn sqrt, so an epoch has some twice and others not at all",
        ),
        (
            {"by_phase": True},
            "3 epochs of 12 steps of 8 images; phases say which images are drawn, of as many steps each epoch",
        ),
    ],
)  # fmt: skip
def test_every_image_that_an_epoch_leaves_out_is_counted(given, said):
    assert told(**given)[-1] == f"training: {said}"


@pytest.mark.parametrize(("limit", "left"), [(None, 10), (1.0, 10), (0.25, 2), (1, 1), (20, 10), (3.0, 3), (0.05, 0)])
def test_a_limit_is_a_share_or_a_number_of_batches(limit, left):
    assert limited(10, limit) == left


def test_what_was_done_to_the_labels_stands_below_the_images():
    lines = told(amended=SimpleNamespace(told=["noise: uniform, 3 of 100", "left out by x.csv: 1 photograph"]))
    assert lines[0].startswith("images: ")
    assert lines[1:3] == ["noise: uniform, 3 of 100", "left out by x.csv: 1 photograph"]
    assert lines[3].startswith("classes: ")
