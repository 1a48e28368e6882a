"""Write a tiny model as the fgvc of some format did, with the answer that plain timm and torch give.

Run it with the fgvc of that format, whose folder `tests/stored/format_<n>` it makes beside itself:

    git archive COMMIT fgvc | tar -x -C OLD
    PYTHONPATH=OLD python tests/stored/make.py

Format 1 was written by the fgvc of commit e26fedb, format 2 by that of b28ddf1,
format 4 by that of 4e40a44, formats 5 and 6 by those of the commits that added their folders. What is stored is never
made again: it is what a user has on disk. Of a new format a folder is added, see `fgvc/model_file/migrations.py`.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file

from fgvc.images.resizing import EvalResize
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, save
from fgvc.taxonomy.tree import Taxonomy

HERE = Path(__file__).parent
LEAVES = [("Finches", "Goldfinch"), ("Finches", "Siskin"), ("Owls", "Barn Owl")]
NET = {"stem_width": 4, "channels": [4, 4, 4, 8]}
PLAIN = {
    "class_path": "WholeImage",
    "init_args": {
        "backbone": {
            "class_path": "Backbone",
            "init_args": {"name": "test_resnet", "weights": "pretrained", "model_args": NET},
        },
        "head": {"class_path": "LinearHead", "init_args": {"label_smoothing": 0.1}},
    },
}


def picture() -> torch.Tensor:
    """Return (2, 3, 32, 32) uint8, the same for ever."""
    return (torch.arange(2 * 3 * 32 * 32) * 7919 % 251).to(torch.uint8).view(2, 3, 32, 32)


def answer(weights: Path) -> torch.Tensor:
    """Return the logits (2, 3) of the picture, without fgvc."""
    state = load_file(weights)
    net = timm.create_model("test_resnet", pretrained=False, num_classes=0, **NET).eval()
    net.load_state_dict({key[13:]: value for key, value in state.items() if key.startswith("backbone.net.")})
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    seen = net.forward_features((picture().float() / 255 - mean) / std).mean(dim=(2, 3))
    return seen @ state["head.classifier.weight"].T + state["head.classifier.bias"]


def model() -> Model:
    """Return the tiny model with random numbers everywhere."""
    torch.manual_seed(5)
    recognizer = build(PLAIN, Taxonomy(["family", "species"], LEAVES), 32, weights="none").eval()
    for name, value in recognizer.state_dict().items():
        if value.is_floating_point() and not name.endswith((".mean", ".std")):
            value.copy_(torch.rand(value.shape) + 0.5 if name.endswith("running_var") else torch.randn(value.shape) / 2)
    provenance = {"run": "stored", "checkpoint": "best.ckpt", "metrics": {"val/loss": float("nan")}}
    made = Model(recognizer, PLAIN, EvalResize(40, "squash", 0.9), {"species": 1.5}, provenance)
    if "vouching" in {field.name for field in dataclasses.fields(Model)}:
        from fgvc.confidence.vouching import GRID, Vouching

        made.vouching = Vouching((100,) * len(GRID), tuple(0 if t >= 0.5 else 100 for t in GRID))
    if hasattr(made, "readout"):
        made.readout = "marginal"
    return made


if __name__ == "__main__":
    folder = save(model(), HERE / "new")
    number = json.loads((folder / "fgvc.json").read_text(encoding="utf-8"))["format"]
    target = HERE / f"format_{number}"
    if target.exists():
        shutil.rmtree(folder)
        raise SystemExit(f"{target} is there already, and what is stored stays as it is")
    with torch.inference_mode():
        (folder / "answer.json").write_text(json.dumps(answer(folder / "model.safetensors").tolist()))
    folder.rename(target)
    print(target)
