"""What enrolling new classes is worth: accuracy alone and beside the old ones, and what the old ones lose.

The classes of CUB that the model does not know are the new ones. Photographs are enrolled from their training part,
drawn `--draws` times, and all their other photographs are asked for. Of the test photographs of the old classes every
second one sets the scale of the new classes, the others are judged.

    python -m benchmarks.accuracy.enroll --model runs/cub190 --root $CUB
"""

import argparse
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import hardware
from fgvc.confidence.means import spread
from fgvc.data.records import Records
from fgvc.data.sources.cub import CUB
from fgvc.errors import UsageError
from fgvc.few_shot.enrolling import Old, Seen, enrolled, leave_one_out, look, set_beside
from fgvc.few_shot.methods import Method, method
from fgvc.model_file.model import Model, load
from fgvc.taxonomy.joining import joined
from fgvc.taxonomy.tree import Taxonomy

UNEVEN = (1, 2, 3, 5, 10)


class Asked(NamedTuple):
    """Photographs of new classes: `labels` (N,) 0 .. W-1; `train` (N,) bool, whether one may be enrolled."""

    labels: Tensor
    train: Tensor
    seen: Seen


def main() -> None:
    """Parse the options, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a run or model that knows some of the classes")
    parser.add_argument("--root", required=True, help="the folder of CUB-200-2011")
    parser.add_argument(
        "--method", nargs="+", default=["logistic_regression", "ridge", "simple_shot", "cosine_prototypes"]
    )
    parser.add_argument("--n_shot", nargs="+", default=["1", "5", "10", "uneven"], help="uneven: 1, 2, 3, 5, 10, 1 ...")
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    model, source = load(options.model), CUB(options.root, "dev")
    old, judged, asked, new = photographs(model, source)
    print(f"{options.model}: {model.taxonomy.num_classes} old classes, {new.num_classes} new ones; {hardware()}")
    print(
        f"photographs: {len(old.labels)} of old classes weigh, {len(judged.labels)} judge; "
        f"{len(asked.labels)} of new ones"
    )
    before = 100 * right(judged.seen.logits, judged.labels)
    print("| method | photographs per class | new alone | leave-one-out | new beside old | old now | old lost |")
    print("|---|---|---|---|---|---|---|")
    for name in options.method:
        for n_shot in options.n_shot:
            found = [
                figures(model, method(name), new, old, judged, asked, n_shot, draw) for draw in range(options.draws)
            ]
            cells = []
            for column in zip(*found, strict=True):
                middle, deviation = spread([100 * one for one in column])
                cells.append("-" if middle != middle else f"{middle:.1f} ± {deviation:.1f}")
            lost = before - spread([100 * one[3] for one in found])[0]
            print(f"| {name} | {n_shot} | {' | '.join(cells)} | {lost:.1f} |", flush=True)
    print(f"old classes before: {before:.1f} %; ± is the standard deviation over {options.draws} draws of photographs")


def photographs(model: Model, source: CUB) -> tuple[Old, Old, Asked, Taxonomy]:
    """Look once; return the old classes' photographs that weigh and that judge, those of new ones, the new tree."""
    tree, known = source.taxonomy, model.taxonomy
    paths = [tree.path(leaf) for leaf in range(tree.num_classes)]
    place = {known.path(leaf): leaf for leaf in range(known.num_classes)}
    strange = [leaf for leaf, path in enumerate(paths) if path not in place]
    if not strange:
        raise UsageError(f"--model: it knows all {len(paths)} classes; train one on a part of them")
    new = Taxonomy(tree.levels, [paths[leaf] for leaf in strange])
    parts = {split: source.records(split) for split in ("train", "test")}
    labels = parts["test"].labels
    of_old = np.flatnonzero(~np.isin(labels, strange))
    seen = look(model.recognizer, parts["test"].subset(of_old), model.resize, "old classes", True)
    leaves = torch.tensor([place[paths[label]] for label in labels[of_old]])
    halves = [torch.arange(start, len(leaves), 2) for start in (0, 1)]
    old, judged = (Old(leaves[half], Seen(seen.embedding[half], seen.logits[half])) for half in halves)
    of_new = {split: np.flatnonzero(np.isin(part.labels, strange)) for split, part in parts.items()}
    chosen = [parts[split].subset(rows) for split, rows in of_new.items()]
    everything = Records(
        [one[i].path for one in chosen for i in range(len(one))], np.concatenate([c.labels for c in chosen])
    )
    ways = torch.tensor([strange.index(label) for label in everything.labels])
    train = torch.arange(len(ways)) < len(chosen[0])
    return old, judged, Asked(ways, train, look(model.recognizer, everything, model.resize, "new classes", True)), new


def figures(
    model: Model, chosen: Method, new: Taxonomy, old: Old, judged: Old, asked: Asked, n_shot: str, draw: int
) -> tuple[float, float, float, float]:
    """Return new alone, leave-one-out, new beside old, old now: shares of right answers."""
    counts = [*islice(cycle(UNEVEN if n_shot == "uneven" else [int(n_shot)]), new.num_classes)]
    random = np.random.default_rng([*counts, draw])
    candidates = [((asked.labels == way) & asked.train).nonzero()[:, 0].numpy() for way in range(new.num_classes)]
    rows = torch.from_numpy(
        np.concatenate([random.choice(one, n, replace=False) for one, n in zip(candidates, counts, strict=True)])
    )
    rest = torch.ones(len(asked.labels), dtype=torch.bool)
    rest[rows] = False
    seen = Seen(asked.seen.embedding[rows], asked.seen.logits[rows])
    alone, _ = enrolled(model, chosen, new, seen, asked.labels[rows], None)
    both_tree, _, leaves = joined(model.taxonomy, new)
    of_each = torch.tensor(leaves)
    both, _ = enrolled(model, chosen, both_tree, seen, of_each[asked.labels[rows]], old)
    with torch.no_grad():
        by_itself = right(alone.scores(asked.seen.embedding[rest]), asked.labels[rest])
        left, scores = leave_one_out(both)
        set_beside(both, seen, old, both.scores(old.seen.embedding), left, scores)
        in_both = both.joined(asked.seen.logits[rest], both.scores(asked.seen.embedding[rest]))
        of_old = both.joined(judged.seen.logits, both.scores(judged.seen.embedding))
    told = right(scores, asked.labels[rows][left]) if len(left) else float("nan")
    return by_itself, told, right(in_both, of_each[asked.labels[rest]]), right(of_old, judged.labels)


def right(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose best class is the label."""
    return float((logits.argmax(dim=1) == labels).float().mean())


if __name__ == "__main__":
    main()
