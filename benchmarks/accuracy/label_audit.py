"""How well `fgvc data audit` finds labels that were made wrong on purpose.

    python -m benchmarks.accuracy.label_audit features/lite2 features/mnv2

Each folder of `fgvc embed` holds a split train. Its labels are made wrong by `data.noise`: uniform, relatives, and
strangers of the last classes; then each rule names suspects. Precision and recall are of wrong labels among the
suspects; `kind` is how often a suspect whose label is wrong is called what it is, and `strangers` how many of the
strangers among the suspects are called so. `likely` is how often the likely label is the true one.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fgvc.data.amended import amended
from fgvc.data.noise import Noise
from fgvc.data.records import Records
from fgvc.features.folder import FeatureFolder, open_features
from fgvc.features.labels.confident import RULES, joint, share_at_random, share_of_joint
from fgvc.features.labels.suspects import suspects
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.out_of_fold import out_of_fold
from fgvc.training.probe import Images, images_of

PENALTY = 0.05
HEAD = (
    "| features | noise | wrong | at random | joint "
    "| rule | suspects | precision | recall | kind | strangers | likely |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


class Made(NamedTuple):
    """Features with labels of which some are wrong. true: (N,) leaves; strange: (N,) bool, of strangers."""

    images: Images
    true: npt.NDArray[np.int64]
    strange: npt.NDArray[np.bool_]


def noises(taxonomy: Taxonomy, seed: int) -> dict[str, Noise]:
    """Return the noises that are measured: 40 %, 40 %, and a third of the classes as strangers."""
    first = taxonomy.num_classes - round(taxonomy.num_classes / 3) + 1
    strange = Noise("strangers", seed=seed, classes=[f"{first}-{taxonomy.num_classes}"])
    return {
        "uniform 40 %": Noise("uniform", 0.4, seed),
        "relatives 40 %": Noise("relatives", 0.4, seed),
        "strangers 33 %": strange,
    }


def made(folder: FeatureFolder, noise: Noise | None) -> Made:
    """Return the training features with labels as a training with this noise has them."""
    images = images_of(folder, "train", "whole", torch.device("cpu"))
    true = images.labels.numpy()
    records = Records(images.paths, true.astype(np.int32))
    new = amended({"train": records}, folder.taxonomy, noise)
    labels = torch.from_numpy(new.records["train"].labels.astype(np.int64))
    kept = new.places["train"]
    paths = [images.paths[place] for place in kept.tolist()]
    strange = np.zeros(len(kept), dtype=np.bool_)
    if noise is not None and noise.kind == "strangers":
        strange = labels.numpy() != true[kept]
    return Made(Images(images.features[torch.from_numpy(kept)], labels, paths), true[kept], strange)


def rows(name: str, folder: FeatureFolder, seed: int, penalty: float) -> Iterator[str]:
    """Yield a line per noise and rule."""
    taxonomy = folder.taxonomy
    for title, noise in {**noises(taxonomy, seed), "none": None}.items():
        of = made(folder, noise)
        answered = out_of_fold(of.images, taxonomy.num_classes, penalties=[penalty])
        labels = of.images.labels.numpy()
        wrong = labels != of.true
        found = [f"{100 * share_at_random(answered.probabilities, labels):.1f} %"]
        found.append(f"{100 * share_of_joint(*joint(answered.probabilities, labels)):.1f} %")
        for rule in RULES:
            cells = _scores(of, answered.probabilities, labels, taxonomy, rule)
            yield f"| {' | '.join([name, title, f'{100 * wrong.mean():.1f} %', *found, rule, *cells])} |"


def _scores(
    of: Made, probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], taxonomy: Taxonomy, rule: str
) -> list[str]:
    wrong = labels != of.true
    suspected = suspects(probabilities, labels, taxonomy, rule)
    places = np.array([one.place for one in suspected], dtype=np.int64)
    hits = [one for one in suspected if wrong[one.place]]
    relative = taxonomy.ancestors[torch.from_numpy(labels), 1] == taxonomy.ancestors[torch.from_numpy(of.true), 1]
    kinds = ["stranger" if strange else "relative" if near else "far"
             for strange, near in zip(of.strange.tolist(), relative.tolist(), strict=True)]  # fmt: skip
    of_strangers = [one for one in hits if of.strange[one.place]]
    return [
        str(len(suspected)),
        _share([bool(wrong[place]) for place in places.tolist()]),
        _share(np.isin(np.flatnonzero(wrong), places).tolist()),
        _share([one.kind == kinds[one.place] for one in hits]),
        _share([one.kind == "stranger" for one in of_strangers]),
        _share([one.likely == of.true[one.place] for one in hits if not of.strange[one.place]]),
    ]


def _share(flags: Sequence[bool]) -> str:
    return f"{100 * sum(flags) / len(flags):.1f} %" if flags else "-"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--penalty", type=float, default=PENALTY, help="of all fits, chosen once on clean labels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEAD)
    for path in options.features:
        folder = open_features(path)
        for row in rows(folder.path.name, folder, options.seed, options.penalty):
            print(row, flush=True)


if __name__ == "__main__":
    main()
