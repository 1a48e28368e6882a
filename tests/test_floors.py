"""The house rules about imports and files, read from the source with `ast`."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]

# A file may import what lies on a lower floor. Files of the same floor are ordered by the rule against circles.
FLOORS = {
    "errors": 0,
    "taxonomy": 1, "datatypes": 1, "images": 1, "regions": 1, "backbone": 1, "last_stage": 1,
    "tree": 1, "readouts": 1, "vouching": 1,
    "pooling": 1, "shipped": 1, "quiet": 1, "packed_paths": 1,
    "heads": 2, "attention": 2, "few_shot": 2, "data": 2,
    "recognizers": 3,
    "training": 4, "architecture": 4, "model_file": 4, "stored_model": 4,
    "inspection": 5, "answers": 5, "downloads": 5, "info_page": 5,
    "inputs": 5, "results": 5, "predictor": 5, "contact_sheet": 5, "config_errors": 5,
    "config_yaml": 5, "config_values": 5,
    "report": 5, "report_answers": 5, "report_mistakes": 5, "report_html": 5, "report_charts": 5, "report_page": 5,
    "heat_map": 5, "explanation": 5, "overlays": 5, "explain_drawing": 5,
}  # fmt: skip
DOORS = 6  # every other file right under fgvc/
SLOTS = {"pooling", "heads", "attention", "few_shot", "recognizers"}
LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric"}
# Files whose tests bear another name.
TESTED_ELSEWHERE = dict.fromkeys(("verify_command.py", "stats_command.py"), "test_data_command.py")


def sources(root):
    """Return dotted name -> text of every file under `root/fgvc`."""
    files = sorted((root / "fgvc").rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts): file.read_text(encoding="utf-8") for file in files}


def imports(name, text):
    """Return the dotted names that a module imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def graph(modules):
    """Return module -> the modules of fgvc that it imports when it is loaded or later."""
    known = {name.removesuffix(".__init__") for name in modules}
    return {
        name.removesuffix(".__init__"): {i for i in imports(name, text) if i in known and i != "fgvc"}
        for name, text in modules.items()
    }


def floor(module):
    parts = module.split(".")
    return FLOORS.get(parts[1], DOORS) if len(parts) > 1 else DOORS


def circle(edges):
    """Return the modules of a circle of imports, or an empty list."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        path.append(module)
        for other in sorted(edges.get(module, ())):
            if found := visit(other):
                return found
        done.add(path.pop())
        return []

    return next((found for module in sorted(edges) if (found := visit(module))), [])


def faults(modules):
    """Return one line for each break of the rules about imports."""
    found = []
    edges = graph(modules)
    for module, targets in edges.items():
        folder = module.split(".")[1] if module.count(".") else ""
        found += [f"{module} imports {t}, a floor up" for t in sorted(targets) if floor(t) > floor(module)]
        if folder in SLOTS and module.count(".") == 2:
            own = {t for t in targets if t.startswith(f"fgvc.{folder}.") and not t.endswith(".base")}
            allowed = {"fgvc.pooling.average", "fgvc.heads.linear"}  # the defaults of the slots above them
            found += [f"{module} imports {t}: from its own folder only base" for t in sorted(own - allowed)]
    for name, text in modules.items():
        tops = {i.partition(".")[0] for i in imports(name, text)}
        inside = name.startswith("fgvc.training.") or name in ("fgvc.data.datamodule", "fgvc.cli")
        if tops & LIGHTNING and not inside:
            found.append(f"{name} imports Lightning")
        if "albumentations" in tops and name != "fgvc.data.transforms":
            found.append(f"{name} imports albumentations")
        if name.rpartition(".")[2] in ("utils", "common", "core", "helpers", "misc"):
            found.append(f"{name}: a name that says nothing")
    loop = circle(edges)
    return found + ([f"circle: {' -> '.join(loop)}"] if loop else [])


def test_the_house_stands():
    assert faults(sources(REPO)) == []


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("fgvc.taxonomy", "from fgvc.heads.base import Head", "a floor up"),
        ("fgvc.heads.linear", "def f():\n    import fgvc.training.module", "a floor up"),
        ("fgvc.backbone", "from fgvc import predictor", "a floor up"),
        ("fgvc.heads.cosine", "from fgvc.heads.softmax import SoftmaxHead", "from its own folder only base"),
        ("fgvc.recognizers.base", "import pytorch_lightning as pl", "imports Lightning"),
        ("fgvc.predictor", "from lightning_fabric import seed_everything", "imports Lightning"),
        ("fgvc.data.dataset", "import albumentations as A", "imports albumentations"),
        ("fgvc.data.utils", "x = 1", "a name that says nothing"),
        ("fgvc.datatypes", "from fgvc.images import decode", "circle: fgvc.datatypes -> fgvc.images"),
    ],
)
def test_the_checker_sees_each_fault(module, text, fault):
    house = {
        "fgvc.__init__": "",
        "fgvc.images": "from fgvc.datatypes import Record",
        "fgvc.datatypes": "",
        "fgvc.predictor": "",
        "fgvc.training.module": "import pytorch_lightning",
        "fgvc.heads.base": "from fgvc.datatypes import Prediction",
        "fgvc.heads.softmax": "from fgvc.heads.base import Head",
    }
    assert faults(house) == []
    found = faults({**house, module: text})
    assert len(found) == 1 and fault in found[0], found


def test_every_file_has_a_test_of_its_name():
    missing = []
    for file in sorted((REPO / "fgvc").rglob("*.py")):
        inside = file.relative_to(REPO / "fgvc")
        if file.name != "__init__.py" and str(inside) not in TESTED_ELSEWHERE:
            test = REPO / "tests" / inside.with_name(f"test_{file.stem.strip('_')}.py")
            missing += [] if test.is_file() else [str(test.relative_to(REPO))]
    assert missing == []


def test_the_wheel_lists_every_folder():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    listed = set(tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {".".join(f.parent.relative_to(REPO).parts) for f in (REPO / "fgvc").rglob("*.py")}
    configs = {f.parent.relative_to(REPO / "configs") for f in (REPO / "configs").rglob("*.yaml")}
    facts = {f.parent.relative_to(REPO / "data") for f in (REPO / "data").rglob("*") if f.suffix in (".csv", ".yaml")}
    folders |= {".".join(("fgvc", "_configs", *folder.parts)) for folder in configs} | {"fgvc._configs"}
    folders |= {".".join(("fgvc", "_facts", *folder.parts)) for folder in facts}
    assert listed == folders


def test_no_file_is_long():
    lengths = {str(f.relative_to(REPO)): len(f.read_text().splitlines()) for f in (REPO / "fgvc").rglob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 250} == {}
