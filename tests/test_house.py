"""The rules of the house (docs/house.md), read from the source with `ast`."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]

# An import goes to a folder with a lower number, or stays in its own folder.
FLOORS = {
    "errors": 1, "datatypes": 1,
    "files": 2, "taxonomy": 2, "confidence": 2, "images": 2,
    "data": 3, "methods": 3,
    "model_file": 4,
    "features": 5,
    "training": 6, "prediction": 6, "report": 6, "few_shot": 6,
    "config": 7,
    "commands": 8,
    "__init__": 9, "__main__": 9,
}  # fmt: skip
MOST_FOLDERS, MOST_MODULES = 14, 4
SLOTS = ("pooling", "heads", "losses", "attention", "recognizers", "few_shot")
DEFAULTS = {"fgvc.methods.pooling.native", "fgvc.methods.heads.linear"}  # what the slots above them take by default
LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric"}
LONGEST = 60  # lines of code in a function


def sources(root):
    """Return dotted name -> text of every file under `root/fgvc`."""
    files = sorted((root / "fgvc").rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts): file.read_text(encoding="utf-8") for file in files}


def imports(name, text):
    """Return the dotted names that a module imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def graph(modules):
    """Return module -> the modules of fgvc that it imports when it is loaded or later."""
    known = {name.removesuffix(".__init__") for name in modules}
    return {
        name.removesuffix(".__init__"): {i for i in imports(name, text) if i in known and i != "fgvc"}
        for name, text in modules.items()
    }


def entry(module):
    """Return the entry of `fgvc/` that a module lies in."""
    return module.split(".")[1] if "." in module else "__init__"


def circle(edges):
    """Return the nodes of a circle, or an empty list."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        path.append(node)
        for other in sorted(edges.get(node, ())):
            if loop := visit(other):
                return loop
        done.add(path.pop())
        return []

    return next((loop for node in sorted(edges) if (loop := visit(node))), [])


def between_folders(edges, depth):
    """Return the imports between folders cut at a depth: `fgvc.data.birds.body` is `fgvc.data.birds` at depth 3.

    A module that lies right in a folder at that depth stands for itself, so that only folders can form a circle.
    """
    merged = {}
    for module, targets in edges.items():
        here = ".".join(module.split(".")[:depth])
        merged.setdefault(here, set()).update({".".join(t.split(".")[:depth]) for t in targets} - {here})
    return merged


def faults_of_place(modules):
    """Return one line for each entry of `fgvc/` without a number, and for a root that is too full."""
    entries = {entry(name.removesuffix(".__init__")) for name in modules}
    folders = {name.split(".")[1] for name in modules if name.count(".") > 1}
    roots = {name.split(".")[1] for name in modules if name.count(".") == 1}
    faults = [f"fgvc/{name}: no number in FLOORS" for name in sorted(entries - set(FLOORS))]
    if len(folders) > MOST_FOLDERS:
        faults.append(f"{len(folders)} folders in fgvc/: at most {MOST_FOLDERS}")
    if len(roots) > MOST_MODULES:
        faults.append(f"{len(roots)} modules right in fgvc/: at most {MOST_MODULES}")
    return faults


def faults_of_imports(modules):
    """Return one line for each import that runs up or aside, and for each circle."""
    edges, faults = graph(modules), []
    for module, targets in edges.items():
        here = entry(module)
        for target in sorted(targets):
            there = entry(target)
            if there != here and FLOORS.get(there, 0) >= FLOORS.get(here, 99):
                faults.append(f"{module} imports {target}: from {FLOORS[here]} to {FLOORS[there]}")
        parts = module.split(".")
        if parts[1:2] == ["methods"] and len(parts) == 4:
            own = {t for t in targets if t.startswith(f"fgvc.methods.{parts[2]}.") and not t.endswith(".base")}
            faults += [f"{module} imports {t}: from its own slot only base" for t in sorted(own - DEFAULTS)]
    for depth in (2, 3, 4):
        if loop := circle(between_folders(edges, depth)):
            faults.append(f"circle: {' -> '.join(loop)}")
            break
    return faults


def faults_of_names(modules):
    """Return one line for each library named outside its place, and for each file name that says nothing."""
    faults = []
    for name, text in modules.items():
        tops = {i.partition(".")[0] for i in imports(name, text)}
        if tops & LIGHTNING and not name.startswith(("fgvc.training.", "fgvc.config.", "fgvc.data.datamodule")):
            faults.append(f"{name} imports Lightning")
        if "albumentations" in tops and name != "fgvc.data.transforms":
            faults.append(f"{name} imports albumentations")
        if name.rpartition(".")[2] in ("utils", "common", "core", "helpers", "misc"):
            faults.append(f"{name}: a name that says nothing")
    return faults


def faults_of(modules):
    return faults_of_place(modules) + faults_of_imports(modules) + faults_of_names(modules)


def test_the_house_stands():
    assert faults_of(sources(REPO)) == []


def test_the_picture_on_the_page_shows_every_number():
    picture = (REPO / "docs" / "house.md").read_text(encoding="utf-8").partition("fgvc/\n")[2].partition("```")[0]
    shown = {
        name: int(line.split()[-1])
        for line in picture.splitlines()
        for name in re.findall(r"(?<=  )(\w+)(?:/|\.py) ", line)
        if name in FLOORS
    }
    assert shown == FLOORS


HOUSE = {
    "fgvc.__init__": "",
    "fgvc.datatypes": "",
    "fgvc.images.decoding": "from fgvc.images.resizing import resize",
    "fgvc.images.resizing": "",
    "fgvc.data.datamodule": "from fgvc.data.sources import cub",
    "fgvc.data.sources.cub": "from fgvc.data.reading.lists import read",
    "fgvc.data.reading.lists": "",
    "fgvc.prediction.predictor": "",
    "fgvc.report.run": "",
    "fgvc.training.module": "import pytorch_lightning",
    "fgvc.methods.heads.base": "from fgvc.datatypes import Prediction",
    "fgvc.methods.heads.softmax": "from fgvc.methods.heads.base import Head",
}


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("fgvc.taxonomy.tree", "from fgvc.methods.heads.base import Head", "from 2 to 3"),
        ("fgvc.methods.heads.linear", "def f():\n    import fgvc.training.module", "from 3 to 6"),
        ("fgvc.methods.backbone", "from fgvc.data.sources import cub", "from 3 to 3"),
        ("fgvc.prediction.tally", "from fgvc.report import run", "from 6 to 6"),
        ("fgvc.methods.heads.cosine", "from fgvc.methods.heads.softmax import Softmax", "from its own slot only base"),
        ("fgvc.methods.recognizers.base", "import pytorch_lightning as pl", "imports Lightning"),
        ("fgvc.prediction.predictor", "from lightning_fabric import seed_everything", "imports Lightning"),
        ("fgvc.data.dataset", "import albumentations as A", "imports albumentations"),
        ("fgvc.data.utils", "x = 1", "a name that says nothing"),
        ("fgvc.helpers", "x = 1", "no number"),
        ("fgvc.extras.thing", "x = 1", "no number"),
        ("fgvc.datatypes", "from fgvc.images.decoding import decode", "from 1 to 2"),
        (
            "fgvc.data.reading.lists",
            "from fgvc.data.sources.cub import CUB",
            "circle: fgvc.data.sources -> fgvc.data.reading",
        ),
        ("fgvc.data.reading.lists", "from fgvc.data.datamodule import x", "circle: fgvc.data.datamodule"),
        ("fgvc.images.resizing", "from fgvc.images.decoding import decode", "circle: fgvc.images.decoding"),
    ],
)
def test_the_checker_sees_each_fault(module, text, fault):
    assert faults_of(HOUSE) == []
    faults = faults_of({**HOUSE, module: text})
    assert faults and any(fault in line for line in faults), faults


def test_a_full_root_is_seen():
    folders = {f"fgvc.folder{n}.part": "" for n in range(15)}
    assert any("15 folders" in line for line in faults_of_place(folders))
    modules = {f"fgvc.{name}": "" for name in ("__init__", "__main__", "datatypes", "errors", "more")}
    assert any("5 modules" in line for line in faults_of_place(modules))


def test_every_folder_has_its_tests():
    folders = {file.parent for file in (REPO / "fgvc").rglob("*.py") if file.name != "__init__.py"}
    without = [
        str(folder.relative_to(REPO))
        for folder in sorted(folders)
        if not list((REPO / "tests" / folder.relative_to(REPO / "fgvc")).glob("test_*.py"))
    ]
    assert without == []


def test_no_function_is_long():
    long = []
    for name, text in sources(REPO).items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                long += [f"{name}.{node.name}: {lines} lines of code"] if lines > LONGEST else []
    assert long == []


def test_the_wheel_lists_every_folder():
    listed = set(tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {".".join(f.parent.relative_to(REPO).parts) for f in (REPO / "fgvc").rglob("*.py")}
    configs = {f.parent.relative_to(REPO / "configs") for f in (REPO / "configs").rglob("*.yaml")}
    facts = {f.parent.relative_to(REPO / "data") for f in (REPO / "data").rglob("*") if f.suffix in (".csv", ".yaml")}
    folders |= {".".join(("fgvc", "_configs", *folder.parts)) for folder in configs} | {"fgvc._configs"}
    folders |= {".".join(("fgvc", "_facts", *folder.parts)) for folder in facts}
    assert listed == folders
