"""A new method and a new data set are one file and one YAML each, outside fgvc or inside; nothing else is touched."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fakes.tiny_run import CPU, make_photos, read_csv

from fgvc.__main__ import main

REPO = Path(__file__).parents[1]

POOLING = '''
from fgvc.methods.pooling.base import Pooling


class MiddlePooling(Pooling):
    """The mean of the largest and the smallest activation, times a factor."""

    def __init__(self, in_channels: int, factor: float = 0.5) -> None:
        super().__init__(in_channels)
        self.factor = factor

    def forward(self, features):
        return (features.amax(dim=(2, 3)) + features.amin(dim=(2, 3))) * self.factor
'''

METHOD = (
    POOLING
    + '''

from torch import nn
from fgvc.methods.backbone import Backbone
from fgvc.datatypes import Prediction
from fgvc.methods.heads.base import Head, PoolingFactory
from fgvc.methods.recognizers.base import BackboneFactory, HeadFactory, Recognizer


class TwoLayerHead(Head):
    def __init__(self, taxonomy, backbone, pooling: PoolingFactory = MiddlePooling, hidden: int = 8) -> None:
        super().__init__(taxonomy, backbone, pooling)
        self.first = nn.Linear(self.pooling.out_features, hidden)
        self.second = nn.Linear(hidden, taxonomy.num_classes)

    def forward(self, features):
        embedding = self.first(self.pooling(features.map)).relu()
        return Prediction({self.taxonomy.leaf_level: self.second(embedding)}, embedding)


class TwoLooks(Recognizer):
    """Look at the picture and at its mirror image."""

    def __init__(
        self, taxonomy, image_size: int, backbone: BackboneFactory = Backbone, head: HeadFactory = TwoLayerHead
    ) -> None:
        super().__init__(taxonomy, image_size)
        self.backbone = backbone(image_size)
        self.head = head(taxonomy, self.backbone)

    def forward(self, images):
        first, second = (self.head(self.backbone(view)) for view in (images, images.flip(-1)))
        level = self.taxonomy.leaf_level
        both = {level: (first.logits[level] + second.logits[level]) / 2}
        return Prediction(both, first.embedding, views={"mirror": second})

    def loss(self, prediction, labels):
        mirror = self.head.loss(prediction.views["mirror"], labels)["classes"]
        return {"both": self.head.loss(prediction, labels)["classes"], "mirror": mirror}
'''
)

SOURCE = '''
from pathlib import Path

from fgvc.data.sources.base import DataSource
from fgvc.data.records import Records
from fgvc.taxonomy.tree import Taxonomy


class Lines(DataSource):
    """A text file of paths; the folder is the label."""

    splits = ("train", "val", "test")

    def __init__(self, file: str) -> None:
        self.lines = Path(file).read_text().splitlines()
        self._taxonomy = Taxonomy.flat(sorted({Path(line).parent.name for line in self.lines}), "species")

    @property
    def taxonomy(self):
        return self._taxonomy

    def records(self, split):
        mine = [line for line in self.lines if Path(line).parts[0] == split]
        return Records(mine, [self._taxonomy.find(Path(line).parent.name) for line in mine], "photos")
'''

DATA_YAML = "data: {{source: {{class_path: {}, init_args: {{file: lines.txt}}}}, batch_size: 2, num_workers: 0}}\n"
BACKBONE = "{class_path: Backbone, init_args: {name: test_resnet, weights: none}}"
SHORT = [*CPU, "--trainer.max_epochs", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", train=3, val=1, test=1)
    lines = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_method_and_a_data_set_of_ones_own_are_a_file_and_a_yaml_each(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "my_source.py").write_text(SOURCE)
    (folder / "my_data.yaml").write_text(DATA_YAML.format("my_source.Lines"))
    (folder / "two_looks.py").write_text(METHOD)
    (folder / "my_method.yaml").write_text(
        f"""
model:
  image_size: 32
  recognizer:
    class_path: two_looks.TwoLooks
    init_args:
      backbone: {BACKBONE}
      head: {{class_path: two_looks.TwoLayerHead, init_args: {{hidden: 6}}}}
"""
    )
    try:
        assert main(["fit", "--config", "my_data.yaml", "--config", "my_method.yaml", *SHORT]) == 0
        assert main(["test", "runs/my_data-my_method"]) == 0
    finally:
        for name in ("my_source", "two_looks"):
            sys.modules.pop(name, None)
    row = next(row for row in read_csv(Path("runs/my_data-my_method/metrics.csv")) if row["val/species/top1"])
    assert {"val/loss_both", "val/loss_mirror", "val/mirror/species/top1"} <= set(row)
    assert "test/mirror/species/top1" in json.loads(Path("runs/my_data-my_method/test.json").read_text())
    assert len(read_csv(Path("runs/my_data-my_method/predictions_test.csv"))) == 3
    assert "no model file" in capsys.readouterr().err


def blocks(language):
    """Return the code blocks of docs/house.md in a language, in order."""
    text = (REPO / "docs" / "house.md").read_text(encoding="utf-8")
    return [textwrap.dedent(block) for block in re.findall(rf"(?ms)^ *```{language}\n(.*?)^ *```", text)]


def test_inside_the_house_the_recipes_of_its_page_are_all_there_is_to_do(folder):
    house = folder / "house"
    for part in ("fgvc", "configs", "data/cub"):
        shutil.copytree(REPO / part, house / part, ignore=shutil.ignore_patterns("__pycache__", "*.jpg"))
    table = (house / "fgvc/__main__.py").read_text()
    before = contents(house)
    pooling, source, fake, command = blocks("python")
    head, data, network = blocks("yaml")
    (house / "fgvc/methods/pooling/my_pooling.py").write_text(pooling)
    (house / "fgvc/data/sources/my_birds.py").write_text(source)
    (house / "fgvc/commands/my_hello.py").write_text(command)
    (house / "configs/data/my_birds.yaml").write_text(data)
    network = network.replace("name: mobilenetv2_100", "name: test_byobnet").replace("pretrained", "none")
    (house / "configs/networks/my_network.yaml").write_text(network)
    init_args = f"backbone: {BACKBONE}\n{head}"
    (house / "configs/methods/my_pooling.yaml").write_text(
        "model:\n  image_size: 32\n  recognizer:\n    class_path: WholeImage\n    init_args:\n"
        + textwrap.indent(init_args, " " * 6)
    )
    after = contents(house)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 6
    row = re.search(r'`("my_hello": .*?\),)`', (REPO / "docs/house.md").read_text())[1]
    (house / "fgvc/__main__.py").write_text(table.replace("COMMANDS = {\n", f"COMMANDS = {{\n    {row}\n"))
    exec(fake, made := {})  # make_fake
    root = made["make_fake"](folder)["root"]

    def fgvc(*words):
        paths = {"PYTHONPATH": str(house), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "fgvc", *words]
        return subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True)

    assert fgvc("my_hello", "gull").stdout == "hello gull\n"
    small = ["--data.source.root", root, "--data.batch_size", "2", "--data.num_workers", "0"]
    done = fgvc("fit", "--config", "my_birds", "--config", "my_network", "--config", "my_pooling", *small, *SHORT)
    assert done.returncode == 0, done.stderr
    described = json.loads((folder / "runs/my_birds-my_network-my_pooling/model/fgvc.json").read_text())
    pooling = described["architecture"]["init_args"]["head"]["init_args"]["pooling"]
    assert described["architecture"]["init_args"]["backbone"]["init_args"]["name"] == "test_byobnet"
    assert pooling == {"class_path": "MyPooling", "init_args": {"factor": 1.0}}
    assert described["taxonomy"]["leaves"] == [["Larus canus"], ["Larus fuscus"], ["Sterna hirundo"]]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
