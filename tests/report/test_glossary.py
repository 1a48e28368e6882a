import re
from pathlib import Path

import torch
from fakes.tiny_model import TAXONOMY

from fgvc.data.sources.base import Annotations
from fgvc.report import glossary
from fgvc.taxonomy.readouts import OWN, READOUTS
from fgvc.training.callbacks.crop_health import agreement, box_shape
from fgvc.training.metrics.accuracy import HierarchyMetrics
from fgvc.training.tta import VERSIONS

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"


def measures():
    """Return the names of what every test counts, from the counters themselves."""
    counted = HierarchyMetrics(TAXONOMY, top_k=3, class_counts=torch.tensor([30, 10, 3, 3, 3]))
    counted.update(TAXONOMY.complete({"species": torch.eye(5)}), torch.arange(5))
    names = {key.rpartition("/")[2] for key in counted.compute()}
    box, point = torch.tensor([0.1, 0.1, 0.5, 0.5]), (0.2, 0.2)
    known = Annotations({"object": (0.1, 0.1, 0.5, 0.5), "mark": (0.2, 0.2, 0.3, 0.3)}, {"beak": point})
    of_box = {*box_shape(box[None]), *agreement(box, known, ("beak",)), "drift"}
    return {*names, *(f"box2_{name}" for name in of_box), "loss", "loss_classes", "ece", "ece_uncalibrated"}


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == glossary.page(), "python -m fgvc.report.glossary > docs/glossary.md"


def test_every_number_that_is_counted_is_explained_in_a_sentence():
    found = measures()
    assert {
        "top3",
        "many",
        "medium",
        "few",
        "hd@5",
        "severity",
        "h_f1",
        "weighted_ap",
        "box2_iou",
        "box2_mark_kept",
    } <= found
    for name in found:
        assert glossary.measure(name) not in ("", glossary.OF_METHOD), name
    for way in (
        OWN,
        *READOUTS,
        *(f"tta_{name}" for name in VERSIONS),
        "scale2",
        "fused",
        "part1",
        "raw",
        "crop",
        "whole",
    ):
        assert glossary.way(way), way
    assert glossary.measure("something_else") == glossary.OF_METHOD and glossary.way("genus") == ""


def test_a_row_of_the_page_is_a_name_and_a_sentence():
    rows = re.findall(r"(?m)^\| `([^`]+)` \| (.+) \|$", glossary.page())
    assert len(rows) == sum(len(part) for part in (glossary.LEVEL, glossary.TREE, glossary.SINGLE)) + len(
        glossary.WAYS | glossary.WORDS
    )
    for name, sentence in rows:
        assert sentence.endswith(".") and sentence[0].isupper() and "|" not in sentence, name


def test_measures_of_the_tree_are_told_from_those_of_a_level():
    assert all(map(glossary.is_of_tree, ("hd@20", "full_path", "h_f1")))
    assert not any(map(glossary.is_of_tree, ("top1", "macro_f1", "loss", "ece")))
