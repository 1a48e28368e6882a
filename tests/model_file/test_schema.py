import copy
import math

import pytest
from fakes.tiny_model import LEAVES, PLAIN, certified

from fgvc.errors import UsageError
from fgvc.model_file.migrations import FORMAT
from fgvc.model_file.schema import check, parse, shown
from fgvc.taxonomy.readouts import LINEAGE_READOUTS

SOUND = {
    "format": FORMAT,
    "fgvc_version": "0.1.0",
    "architecture": PLAIN,
    "image_size": 32,
    "input": {"size": 40, "fit": "crop", "crop_fraction": 0.9, "interpolation": "bicubic"},
    "taxonomy": {"levels": ["family", "genus", "species"], "leaves": [list(path) for path in LEAVES]},
    "temperatures": {"species": 1.5, "genus": 2},
    "views": {"scale1": {"temperature": 1.5, "weight": 0.25}, "scale2": {"temperature": 1, "weight": 0.75}},
    "readout": "marginal",
    "provenance": {
        "run": "a",
        "metrics": {"val/loss": None, "val/top1": 0.5},
        "calibration": {"split": "val", "images": 9, "ece_before": {"species": 0.2}, "ece_after": {"species": 0.1}},
        "gpus": [],
        "any": {"thing": [1, "two", None, True]},
    },
    "vouching": certified(0.5).to_plain(),
    "weights_sha256": "0" * 64,
}
COUNTS = SOUND["vouching"]
NESTED: list = []
for _ in range(40):
    NESTED = [NESTED]


def with_value(where: tuple, value) -> dict:
    """Return the sound description with another value at a path; `...` takes the key out."""
    described = copy.deepcopy(SOUND)
    node = described
    for key in where[:-1]:
        node = node[key]
    if value is ...:
        del node[where[-1]]
    else:
        node[where[-1]] = value
    return described


def refusal(described) -> str:
    with pytest.raises(UsageError) as caught:
        check(described)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_description_passes():
    for readout in LINEAGE_READOUTS:
        assert check({**SOUND, "readout": readout}) is None
    bare = {"vouching": None, "weights_sha256": None, "temperatures": {}, "provenance": {}}
    assert check({**SOUND, **bare}) is None


@pytest.mark.parametrize("key", sorted(SOUND))
def test_every_key_is_needed(key):
    assert refusal(with_value((key,), ...)) == f"{key}: missing"


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("vuoching",), 1, "vuoching: unknown key; did you mean 'vouching'?"),
        (("\x1b[2J",), 1, "'\\x1b[2J': unknown key"),
        (("input", "siez"), 1, "input.siez: unknown key; did you mean 'size'?"),
        (("input", "size"), ..., "input.size: missing"),
        (("input", "size"), "abc", "input.size: 'abc'; an integer of 1 to 8192"),
        (("input", "size"), 0, "input.size: 0; an integer of 1 to 8192"),
        (("input", "size"), 10**9, "input.size: 1000000000; an integer of 1 to 8192"),
        (("input", "size"), 10**400, "input.size: an integer of many digits; an integer of 1 to 8192"),
        (("input", "size"), 32.0, "input.size: 32.0; an integer of 1 to 8192"),
        (("input", "size"), True, "input.size: true; an integer of 1 to 8192"),
        (("input", "fit"), "stretch", "input.fit: 'stretch'; 'crop' or 'squash'"),
        (("input", "fit"), ["crop"], "input.fit: a list of 1; 'crop' or 'squash'"),
        (("input", "interpolation"), "lanczos", "input.interpolation: 'lanczos'; 'area' or 'bilinear' or 'bicubic'"),
        (("input", "crop_fraction"), 0, "input.crop_fraction: 0; a number above 0, at most 1"),
        (("input", "crop_fraction"), math.nan, "input.crop_fraction: NaN; a number above 0, at most 1"),
        (("input",), [], "input: a list of 0; a mapping"),
        (("image_size",), 10**9, "image_size: 1000000000; an integer of 1 to 8192"),
        (("image_size",), "32", "image_size: '32'; an integer of 1 to 8192"),
        (("fgvc_version",), 1, "fgvc_version: 1; a text"),
        (("taxonomy",), 3, "taxonomy: 3; a mapping"),
        (("taxonomy", "leaves"), ..., "taxonomy.leaves: missing"),
        (("taxonomy", "leaves"), [], "taxonomy.leaves: a list of 0; a list of 1 to 500000 classes"),
        (("taxonomy", "leaves"), "abc", "taxonomy.leaves: 'abc'; a list of 1 to 500000 classes"),
        (("taxonomy", "leaves", 1), ["a", "b"], "taxonomy.leaves[1]: a list of 2; a list of 3 names, one per level"),
        (("taxonomy", "leaves", 1), "abc", "taxonomy.leaves[1]: 'abc'; a list of 3 names, one per level"),
        (("taxonomy", "leaves", 1, 2), 7, "taxonomy.leaves[1]: 7; a text"),
        (("taxonomy", "leaves", 4), list(LEAVES[0]),
         "taxonomy.leaves[0]: 'Finches > Carduelis > Goldfinch' appears twice"),
        (("taxonomy", "leaves", 1, 2), "\ud800",
         "taxonomy.leaves[1]: '\\ud800'; a text without half characters (lone surrogates)"),
        (("taxonomy", "levels"), [], "taxonomy.levels: a list of 0; a list of 1 to 64 names, coarse to fine"),
        (("taxonomy", "levels"), ["a", "b", "a"], "taxonomy.levels: a list of 3; a name appears twice"),
        (("taxonomy", "levels", 0), None, "taxonomy.levels[0]: null; a text"),
        (("temperatures",), [], "temperatures: a list of 0; a mapping"),
        (("temperatures", "species"), "hot", "temperatures.species: 'hot'; a number above 0"),
        (("temperatures", "species"), None, "temperatures.species: null; a number above 0"),
        (("temperatures", "species"), 0, "temperatures.species: 0; a number above 0"),
        (("temperatures", "species"), math.inf, "temperatures.species: Infinity; a number above 0"),
        (("readout",), "sums", "readout: 'sums'; 'own' or 'marginal'"),
        (("readout",), None, "readout: null; 'own' or 'marginal'"),
        (("provenance", "calibration", "readout_gain"), [1, 2, 3],
         "provenance.calibration.readout_gain: a list of 3; at most 2 entries"),
        (("temperatures", "order"), 1.0, "temperatures.order: no level of the taxonomy; it has family, genus, species"),
        (("provenance",), None, "provenance: null; a mapping"),
        (("provenance", "run"), 3, "provenance.run: 3; a text"),
        (("provenance", "metrics", "val/top1"), "good", "provenance.metrics.val/top1: 'good'; a number or null"),
        (("provenance", "metrics", "val/top1"), math.nan,
         "provenance.metrics.val/top1: NaN; a number of at most 1e+300"),
        (("provenance", "calibration"), 3, "provenance.calibration: 3; a mapping"),
        (("provenance", "calibration", "images"), -1,
         "provenance.calibration.images: -1; an integer of 0 to 9007199254740992"),
        (("provenance", "calibration", "split"), [], "provenance.calibration.split: a list of 0; a text"),
        (("provenance", "calibration", "ece_after"), 1, "provenance.calibration.ece_after: 1; a mapping"),
        (("architecture", "init_args", "head", "x"), 10**6,
         "architecture.init_args.head.x: 1000000; a number of at most 100000"),
        (("architecture", "init_args", "head", "x"), -math.inf,
         "architecture.init_args.head.x: -Infinity; a number of at most 100000"),
        (("architecture", "init_args", "head", "x"), [1] * 1001,
         "architecture.init_args.head.x: a list of 1001; at most 1000 entries"),
        (("vouching",), 3, "vouching: 3 is not ['answered', 'wrong', 'pilot_answered', 'pilot_wrong']; calibrate the "
                           "model again"),
        (("vouching",), COUNTS | {"answered": [1]},
         "vouching.answered: not a list of 201 counts; calibrate the model again"),
        (("vouching",), COUNTS | {"wrong": [2**60] * 201},
         f"vouching.wrong: {2**60} is no count; calibrate the model again"),
        (("weights_sha256",), "abc", "weights_sha256: 'abc'; 64 hexadecimal digits, or null"),
        (("weights_sha256",), 7, "weights_sha256: 7; 64 hexadecimal digits, or null"),
        (("views",), None, "views: null; a mapping"),
        (("views", "scale1", "weight"), 0, "views.scale1.weight: 0; a number above 0, at most 1"),
        (("views", "scale1", "temperature"), -1, "views.scale1.temperature: -1; a number above 0"),
        (("views", "scale1", "share"), 1, "views.scale1.share: unknown key"),
        (("format",), 2, "format: 2; an integer of 6 to 6"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_key(where, value, said):
    assert refusal(with_value(where, value)) == said


def test_deep_nests_are_refused():
    for where in (("architecture", "init_args", "head"), ("provenance", "any")):
        found = refusal(with_value(where, NESTED))
        assert found.startswith(f"{'.'.join(where)}[0][0]") and found.endswith("nested deeper than 16")


def test_a_description_that_is_no_mapping_is_refused():
    assert refusal([1]) == "description: a list of 1; a mapping"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is given twice"),
        ("[" * 100_000, "nested too deep"),
        ("{'a': 1}", "Expecting property name"),
        ("", "Expecting value"),
        ('{"a": ' + "9" * 5000 + "}", "integer string conversion"),
    ],
)
def test_text_that_is_no_json_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_values_are_quoted_short_whatever_they_are():
    assert [shown(value) for value in (None, True, 1.5, "a" * 99, [1, 2], {}, math.nan)] == [
        "null", "true", "1.5", repr("a" * 60), "a list of 2", "a mapping of 0", "NaN",
    ]  # fmt: skip
