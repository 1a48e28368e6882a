import ast
from pathlib import Path

import fgvc.methods
from fgvc.methods.attention.base import Attention
from fgvc.methods.slots import known_classes

FOLDER = Path(fgvc.methods.__file__).parent


class Corner(Attention):
    """A user's own attention."""

    def forward(self, features):
        raise NotImplementedError


def written_classes() -> dict[str, str]:
    """Return class -> module, for what is derived from a class of a slot's base.py, read from the source."""
    bases: dict[str, list[str]] = {}
    modules: dict[str, str] = {}
    abstract = set()
    for file in FOLDER.glob("*/*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                modules[node.name] = f"fgvc.methods.{file.parent.name}.{file.stem}"
                abstract |= {node.name} if file.stem == "base" and bases[node.name] != ["NamedTuple"] else set()

    def derived(name: str) -> bool:
        return any(base in abstract or (base in bases and derived(base)) for base in bases[name])

    return {name: modules[name] for name in bases if name not in abstract and derived(name)}


def test_the_known_classes_are_those_that_the_slot_folders_derive_from_their_bases():
    expected = {**written_classes(), "Backbone": "fgvc.methods.backbone"}
    assert len(expected) > 20
    assert {name: cls.__module__ for name, cls in known_classes().items()} == expected


def test_a_users_class_is_not_known_by_its_short_name():
    assert Corner.__name__ not in known_classes()
