import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_type_hints

import pytest

from fgvc.methods.heads.base import Head
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.slots import known_classes
from fgvc.model_file.argument_types import fits, words

KNOWN = known_classes()
GEM = {"class_path": "GeMPooling", "init_args": {}}
GIVEN = {"taxonomy", "image_size", "backbone", "in_channels"}  # by the parent, never by a file


@pytest.mark.parametrize(
    ("hint", "good", "bad", "said"),
    [
        (int, [3, -1], [True, 3.0, "3", None, [3]], "an integer"),
        (float, [3, 0.5], [True, "0.5", None, GEM], "a number"),
        (str, ["x", ""], [3, None, ["x"]], "a text"),
        (bool, [True], [1, "true", None], "true or false"),
        (int | None, [3, None], [0.5, "x"], "an integer or null"),
        (Literal["peak", "mask"], ["peak"], ["top", None, ["peak"], GEM], "'peak' or 'mask'"),
        (list[float], [[1, 0.5], []], [1, [True], ["x"], [[1]]], "a list, each a number"),
        (list[list[float]] | None, [[[1]], None], [[1]], "a list, each a list, each a number or null"),
        (Sequence[float] | None, [[1, 2], (0.5,)], ["12", 3], "a list, each a number or null"),
        (tuple[float, float], [[1, 2]], [[1], [1, 2, 3], [1, "2"], 1], "a list of 2"),
        (dict[str, Any] | None, [{}, {"a": [1]}, None], [[], 3, GEM], "a mapping or null"),
        (Callable[[int], Pooling], [GEM], ["GeMPooling", None, {}, {"class_path": "LinearHead"}, [GEM]],
         "the name and arguments of a Pooling"),
        (Callable[[int], Head], [{"class_path": "LinearHead"}], [GEM, {"class_path": ["LinearHead"]}],
         "the name and arguments of a Head"),
    ],
)  # fmt: skip
def test_values_fit_their_annotation_and_no_other(hint, good, bad, said):
    assert [value for value in good if not fits(value, hint, KNOWN)] == []
    assert [value for value in bad if fits(value, hint, KNOWN)] == []
    assert words(hint) == said


def test_an_annotation_that_is_not_known_takes_nothing():
    assert not any(fits(value, bytes, KNOWN) for value in (b"x", "x", 1, None))


def test_every_argument_of_every_class_takes_its_own_default():
    checked = 0
    for name, cls in KNOWN.items():
        hints = get_type_hints(cls.__init__)
        for key, parameter in inspect.signature(cls).parameters.items():
            default = parameter.default
            if key in GIVEN - {"backbone"} or default is inspect.Parameter.empty:
                continue
            plain = {"class_path": default.__name__} if default in KNOWN.values() else default
            assert fits(plain, hints[key], KNOWN), f"{name}.{key}: {plain!r} is not {words(hints[key])}"
            checked += 1
    assert checked > 50
