"""A model small enough to be made in every test: three levels, five leaves, 32 pixels, sure of its random opinions."""

from pathlib import Path

import torch

from fgvc.confidence.vouching import GRID, Vouching
from fgvc.images.resizing import EvalResize
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, save
from fgvc.taxonomy.tree import Taxonomy

LEAVES = [
    ("Finches", "Carduelis", "Goldfinch"),
    ("Finches", "Carduelis", "Siskin"),
    ("Finches", "Fringilla", "Brambling"),
    ("Owls", "Strix", "Tawny Owl"),
    ("Owls", "Tyto", "Barn Owl"),
]
TAXONOMY = Taxonomy(["family", "genus", "species"], LEAVES)
PLAIN = {
    "class_path": "WholeImage",
    "init_args": {
        "backbone": {"class_path": "Backbone", "init_args": {"name": "test_resnet", "weights": "none"}},
        "head": {"class_path": "LinearHead", "init_args": {}},
    },
}


def certified(least: float) -> Vouching:
    """Return counts that certify any usual precision from the threshold `least` on, and none below it."""
    return Vouching((1000,) * len(GRID), tuple(0 if t >= least else 1000 for t in GRID))


def tiny_model(
    temperatures: dict[str, float] | None = None, taxonomy: Taxonomy = TAXONOMY, vouching: Vouching | None = None
) -> Model:
    """Return a model whose answers differ from picture to picture."""
    torch.manual_seed(3)
    recognizer = build(PLAIN, taxonomy, 32).eval()
    embedding = recognizer(torch.randint(256, (16, 3, 32, 32)).float()).embedding.detach()
    weight = torch.randn(taxonomy.num_classes, embedding.shape[1])
    recognizer.head.classifier.weight.data = weight / (embedding @ weight.T).std()
    return Model(recognizer, PLAIN, EvalResize(32), temperatures or {}, vouching=vouching)


def saved(folder: Path, **keys) -> Path:
    """Save a tiny model as a run would and return the run folder."""
    save(tiny_model(**keys), folder / "model")
    return folder
