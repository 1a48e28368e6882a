"""What every number of a test and of the report means: one source for tooltips and docs/glossary.md."""

import re
from collections.abc import Iterator, Mapping

LEVEL = {
    "top1": "Accuracy: the share of images whose class at this level is named rightly.",
    "top<k>": "The share of images whose true class is among the k most probable ones; left out where there are "
    "no more classes than k.",
    "mean_per_class": "The accuracy of each class, averaged over the classes that have images: a rare class "
    "counts as much as a frequent one. It is the macro recall.",
    "many": "The accuracy of the classes with many training images, averaged over these classes. More than 100 are "
    "many, fewer than 20 few; where that leaves a group empty, the span of the numbers is cut into thirds of its "
    "logarithm. Told where the most frequent class has at least ten times the training images of the rarest.",
    "medium": "The same of the classes between many and few.",
    "few": "The same of the classes with few training images.",
    "macro_precision": "The precision of each class (of the images that were given its name, the share that "
    "bears it rightly), averaged over the classes that have images; 0 for a class that was never the answer.",
    "macro_f1": "The F1 of each class (the harmonic mean of its precision and its recall), averaged over the "
    "classes that have images.",
}
"""Measures of one level. `<k>` stands for a number."""
TREE = {
    "full_path": "The share of images that are named rightly at every level.",
    "weighted_ap": "The accuracies of the levels, averaged with the number of classes of each level as its "
    "weight, so that fine levels count most.",
    "inconsistency": "The share of images whose answers at the levels contradict each other: the genus is not "
    "that of the species. An answer and its ancestors never do, so it is 0 but for `own` and other ways to "
    "answer.",
    "severity": "How bad mistakes are: of the images that are named wrongly, how many levels up the answer and "
    "the truth meet, on average; 1 is a sister class. More easy mistakes make it smaller, so read it beside hd@1.",
    "hd@<k>": "Hierarchical distance: how many levels up the k most probable classes and the truth meet, "
    "averaged over these classes and all images; 0 is the truth itself. Lower is better.",
    "h_precision": "Hierarchical precision: of the names that the answer and its ancestors bear, the share that "
    "the truth and its ancestors bear too.",
    "h_recall": "Hierarchical recall: of the names that the truth and its ancestors bear, the share that the "
    "answer and its ancestors bear too. It equals h_precision where every class has a name at each level.",
    "h_f1": "The harmonic mean of h_precision and h_recall.",
}
"""Measures of all levels together."""
SINGLE = {
    "loss": "What the training makes small, here on images that are not trained on. Compare it only between "
    "runs of one method.",
    "loss_<term>": "One term of the loss.",
    "ece": "Expected calibration error of the finest level: how far the probabilities of the answers are from "
    "the share of them that is right, averaged over all images in 15 bins of equal width. 0.05 means off by 5 "
    "points. Calibrated probabilities, as `fgvc predict` gives them.",
    "ece_uncalibrated": "The same of the probabilities as the network gives them, before calibration.",
    "box<k>_side": "The mean side of the k-th box that the method looks at more closely, as a part of the "
    "image's side.",
    "box<k>_at_border": "The share of images whose k-th box touches the edge of the image.",
    "box<k>_drift": "How far the centre of the k-th box has moved since the validation before, as a part of the "
    "image's side. It falls as the attention settles.",
    "box<k>_iou": "The overlap of the k-th box with the annotated box of the object: their common area over the "
    "area that both cover; 1 is the same box.",
    "box<k>_head_kept": "The share of images in whose k-th box all annotated points of the head lie.",
    "box<k>_body_kept": "The share of images in whose k-th box all annotated points lie that are not of the head.",
    "box<k>_mark_kept": "The share of images in whose k-th box the annotated mark lies.",
    "pck": "Percentage of correct keypoints: the share of an image's visible annotated points that the method finds "
    "within a tenth of the longer side of the object's box, averaged over images.",
    "object_iou": "The overlap of the object's box that the method finds with the annotated one: their common area "
    "over the area that both cover.",
    "pcp_<part>": "Percentage of correct parts: the share of images in which the box of this part that the method "
    "finds has an IoU of at least 0.5 with the one around its annotated points.",
    "rank<k>": "RA-CNN's ranking loss of two scales: 0 where scale k + 1 is surer of the true class than scale "
    "k, by the margin.",
    "reward<k>": "FCAN's reward of the k-th part: the share of images for which looking there helped.",
    "entropy<k>": "How undecided FCAN's k-th attention map is; 0 looks at one place.",
    "disagreement": "The share of images that the two networks of co-teaching name differently. It falls as they "
    "become alike; then each tells the other nothing new.",
    "moved": "How far the boxes of the spatial transformer have moved from where they began, as a part of the image.",
}
"""Measures that stand alone."""
WAYS = {
    "answer": "What fgvc answers: the most probable finest class and its ancestors. Its names stand without a "
    "word in front, such as `test/species/top1`.",
    "own": "The most probable class of each level by itself, from the level's own classifier where the method "
    "has one. These names may contradict each other.",
    "marginal": "The most probable class of each level, with the probabilities of the finest classes summed.",
    "ancestor": "The most probable finest class and its ancestors, from calibrated probabilities.",
    "crm": "The finest class with the least expected distance in the tree (Karthik and others, ICLR 2021).",
    "tta_<name>": "The answer from the mean over several looks at each image: mirrored (`flip`) or cut at "
    "several places (`crops`), or its centre at larger scales (`scales`).",
    "member_<name>": "Of an ensemble: the answer of that member alone, calibrated.",
    "scale<k>": "The answer of the k-th scale of a method that looks closer; 1 is the whole image.",
    "fused": "The answer of all scales together.",
    "whole": "The answer from the whole image alone.",
    "part<k>": "The answer from the k-th part alone.",
    "network<k>": "The answer of the k-th network of co-teaching alone.",
    "object": "The answer from the crop of the object alone.",
    "head": "The answer from the crop of the head alone.",
    "body": "The answer from the crop of the body alone.",
    "windows": "The mean answer to windows on the object: the object level of two-level attention.",
    "parts": "The answer to object and parts together: the part level of two-level attention.",
    "annotated": "An upper bound, not an answer: what the method would say if it knew where the parts are annotated. "
    "It is counted where `upper_bound` is true.",
    "raw": "The answer from the whole image alone.",
    "crop": "The answer from the crop alone.",
}
"""Ways to answer: what stands between `test` and the measure in a name such as `test/own/genus/top1`."""
WORDS = {
    "precision": "Of the images that were given the name of a class, the share that bears it rightly; a dash "
    "where none was.",
    "recall": "Of the images of a class, the share that was given its name: the accuracy of the class.",
    "F1": "The harmonic mean of precision and recall.",
    "confusion matrix": "How often each class (a row) was given each name (a column). Right answers lie on the "
    "diagonal.",
    "95 % interval": "Where the accuracy of all images like these lies, with a chance of 95 % (Wilson). It "
    "tells chance in these images, not how much another training would differ.",
    "score": "The calibrated probability of an answer.",
    "score_uncalibrated": "The probability of the answer as the network gives it, before calibration.",
    "calibration": "Temperatures that make probabilities honest: of the answers that are 80 % sure, 80 in 100 "
    "should be right. They are fitted on one half of the validation images and judged on the other half, which "
    "fitted none.",
    "AURC": "Area under the risk-coverage curve: the share of mistakes among the surest images, averaged over "
    "all numbers of images. Lower is better.",
    "vouched answer": "The finest name of a lineage that is sure enough for the precision that was asked for: "
    "the species, else the genus, ..., else no name. How sure that is was counted on images that were not trained "
    "on.",
    "depth": "At which level the vouched answers stand on average; 1 is the coarsest.",
}
"""Words of the report and of the files beside it."""
OF_METHOD = "A number of the method itself; its class in fgvc/methods says what it is."

_ABOUT = """# Glossary

What every number means that `fgvc test` prints, that `test.json` holds and that the report shows. The report has the
same sentences: point at a name. They are kept in `fgvc/report/glossary.py`, and this page is what
`python -m fgvc.report.glossary` prints.

A name such as `test/own/genus/top1` reads: on the test images, answered by `own`, at the level `genus`, the measure
`top1`.
"""
_PARTS: Mapping[str, Mapping[str, str]] = {
    "Measures of one level": LEVEL,
    "Measures of the whole tree, where there is more than one level": TREE,
    "Other numbers": SINGLE,
    "Ways to answer": WAYS,
    "Words of the report and its files": WORDS,
}


def measure(name: str) -> str:
    """Return what a measure means, such as `top5` or `hd@1`; of a method's own numbers, where to look."""
    return _found({**LEVEL, **TREE, **SINGLE}, name) or OF_METHOD


def is_of_tree(name: str) -> bool:
    """Whether a measure is one of all levels together, such as `hd@1`."""
    return bool(_found(TREE, name))


def place(name: str) -> int:
    """Return where a measure of one level stands among them; those that are none come last."""
    return next((i for i, known in enumerate(LEVEL) if re.fullmatch(_pattern(known), name)), len(LEVEL))


def way(name: str) -> str:
    """Return what a way to answer means, such as `own` or `scale2`; "" for a word that is none."""
    return _found(WAYS, name)


def page() -> str:
    """Return docs/glossary.md."""
    return "\n".join([_ABOUT, *_sections()])


def _sections() -> Iterator[str]:
    for title, entries in _PARTS.items():
        yield f"## {title}\n\n| name | what it says |\n|---|---|"
        yield from (f"| `{name}` | {sentence} |" for name, sentence in entries.items())
        yield ""


def _found(entries: Mapping[str, str], name: str) -> str:
    return next((text for known, text in entries.items() if re.fullmatch(_pattern(known), name)), "")


def _pattern(known: str) -> str:
    words = re.escape(known)
    return words.replace("<k>", r"\d+").replace("<term>", ".+").replace("<name>", ".+").replace("<part>", ".+")


if __name__ == "__main__":
    print(page(), end="")
