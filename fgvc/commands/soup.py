"""`fgvc soup A B C --output M`: the mean of the weights of runs with one start, or of the checkpoints of one run."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fgvc.commands.ensemble import add_output, calibrated, check_output, write
from fgvc.config.held_out import HeldOut, difference, open_held_out, run_of
from fgvc.config.one_line_parser import OneLineParser
from fgvc.config.yaml_files import read_text
from fgvc.errors import UsageError
from fgvc.files.bars import bar
from fgvc.files.lines import counted, quoted, tell
from fgvc.files.origin import environment
from fgvc.files.run_folder import CONFIG
from fgvc.model_file.ensembles import check_same_classes
from fgvc.model_file.model import Model, load
from fgvc.training import soup
from fgvc.training.checkpoints import load_weights

BATCH_NORM_IMAGES = 2048
"""Training images that statistics of batch normalisation are measured on: each gives many places of a map."""


class Pot(NamedTuple):
    """What is averaged.

    model: the first one, whose tensors are replaced. states: of all. folders: where each lies. norms: the batch
    normalisations whose statistics are measured anew. images: what the choice is made on, or None.
    """

    model: Model
    states: list[soup.State]
    folders: list[Path]
    norms: list[str]
    images: HeldOut | None

    def fill(self, places: Sequence[int]) -> None:
        """Put the mean of some states into the model."""
        recognizer: Any = self.model.recognizer
        recognizer.load_state_dict(soup.mean_state([self.states[i] for i in places], soup.averaged_names(recognizer)))
        if self.norms and len(places) > 1 and self.images is not None:
            data, device = self.images.data, self.images.device
            loader = data.train_dataloader()
            batches = islice(loader, math.ceil(BATCH_NORM_IMAGES / data.batch_size))
            total = min(len(loader), math.ceil(BATCH_NORM_IMAGES / data.batch_size))
            batches = bar("measuring batch norms", batches, total=total, delay=2, unit=" batches")
            soup.recompute_statistics(recognizer, self.norms, batches, device)

    def score(self, places: Sequence[int]) -> float:
        """Return the accuracy of the mean of some states on the held-out images."""
        assert self.images is not None
        self.fill(places)
        batches = self.images.data.whole_split(self.images.split)
        return soup.accuracy(
            self.model.recognizer, bar("tasting", batches, delay=2, unit=" batches"), self.images.device
        )


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: no run at a path, runs that cannot be averaged, or a folder that cannot be written.
    """
    asked, rest = _parser().parse_known_args(argv)
    if rest and not rest[0].startswith("--"):
        raise UsageError(f"fgvc soup: {rest[0]!r} is one word too many; name all runs first")
    check_output(asked.output, asked.overwrite)
    if len(asked.runs) < 2:
        raise UsageError("fgvc soup: one run makes no mean; give two or more, or checkpoints: RUN/checkpoints/*.ckpt")
    model, states = _read(asked.runs)
    run = next(filter(None, map(run_of, asked.runs)), None)
    if run is None:
        raise UsageError("fgvc soup: none of the models lies in a run, whose config says where the images are")
    if odd := "" if asked.data else difference(asked.runs):
        raise UsageError(f"{odd}; give --data FOLDER of images that none has seen")
    if doubt := _starts(asked.runs):
        tell(doubt)
    norms = soup.moving_norms(model.recognizer, states) if asked.batch_norm == "measure" else []
    images = open_held_out("soup", run, model.taxonomy, asked.data, rest)
    if norms and "train" not in images.data.splits:
        raise UsageError("--batch_norm measure: there are no training images here; give --batch_norm average")
    pot = Pot(model, states, list(asked.runs), norms, images)
    kept, told = _cooked(pot, asked.uniform)
    pot.fill(kept)
    model.temperatures, model.vouching, model.readout = {}, None, "own"
    model.provenance = {"soup": {**told, "batch_norm": asked.batch_norm}, "metrics": {}, **environment()}
    tell(calibrated(model, images))
    tell(f"model: {write(model, asked.output, run)}")
    tell(f"next:  fgvc test {quoted(asked.output)}\n       fgvc predict {quoted(asked.output)} PHOTO...")
    return 0


def _read(members: Sequence[Path]) -> tuple[Model, list[soup.State]]:
    """Return the first model and the tensors of all.

    Raises:
        UsageError: classes, architecture or preprocessing differ; the first differing key is named.
    """
    first, states = None, []
    for member in members:
        run = run_of(member)
        model = load(member if member.suffix != ".ckpt" or run is None else run)
        if member.suffix == ".ckpt":
            load_weights(model.recognizer, member)
        first = first or model
        check_same_classes(first.taxonomy, model.taxonomy, members[0], member)
        seen = [
            {"image_size": one.recognizer.image_size, "input": one.resize._asdict(), "recognizer": one.architecture}
            for one in (first, model)
        ]
        for key in seen[0]:
            if odd := soup.first_difference(seen[0][key], seen[1][key], key):
                raise UsageError(
                    f"{member}: another network than {members[0]} ({odd}), and their weights have no mean; fgvc "
                    "ensemble averages their answers"
                )
        states.append({name: value.detach().clone() for name, value in model.recognizer.state_dict().items()})
    assert first is not None
    first.recognizer.view_shares = {}  # they were weighed for its own weights, which no soup has
    return first, states


def _starts(members: Sequence[Path]) -> str:
    """Return a line where nothing says that the runs began from the same weights; "" where something does."""
    runs = dict.fromkeys(run for run in map(run_of, members) if run is not None)
    if len(runs) < 2:
        return ""
    configs: list[Any] = [yaml.safe_load(read_text(run / CONFIG)) for run in runs]
    starts = {str(one.get("init_from")) for one in configs}
    if len(starts) > 1:
        return f"the runs have unlike starts (init_from {', '.join(sorted(starts))}): their mean may be worse than each"
    drawn = "weights: none" in read_text(next(iter(runs)) / CONFIG)
    if starts == {"None"} and drawn:
        return "the runs began from random weights of their own: their mean is mostly worse than each"
    return ""


def _cooked(pot: Pot, uniform: bool) -> tuple[list[int], dict[str, Any]]:
    """Choose what is averaged, tell, and return the places and what the model file says of it."""
    alone = [pot.score([i]) for i in range(len(pot.states))]
    everyone = list(range(len(pot.states)))
    split = "" if pot.images is None else pot.images.split
    tell(f"accuracy on the {split} images that choose:")
    for folder, share in zip(pot.folders, alone, strict=True):
        tell(f"  {folder!s:<48} {100 * share:6.2f} %")
    of_all = pot.score(everyone)
    tell(f"  {'mean of all':<48} {100 * of_all:6.2f} %")
    kept, best = (everyone, of_all) if uniform else soup.greedy(alone, pot.score)
    if not uniform:
        tell(f"  {f'greedy: the mean of {len(kept)}':<48} {100 * best:6.2f} %")
        if len(kept) == 1:
            tell(f"no other run adds to {pot.folders[kept[0]]}: the model is that run's")
    if pot.norms and len(kept) > 1:
        tell(f"statistics of {counted(len(pot.norms), 'batch normalisation')} are measured on training images")
    members = [
        {"path": str(folder), f"{split}/top1": round(share, 6), "kept": i in kept}
        for i, (folder, share) in enumerate(zip(pot.folders, alone, strict=True))
    ]
    return kept, {"kind": "uniform" if uniform else "greedy", "members": members, "of_all": round(of_all, 6)}


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc soup",
        allow_abbrev=False,
        description="Average the weights of runs that began from the same weights, or of checkpoints of one run: one "
        "model that costs what one costs. Greedy: from the best run on, each is added if the accuracy on the first "
        "run's validation images does not fall. Further --KEY VALUE override that run's config.",
    )
    words = "run folders, model folders, or checkpoints such as RUN/checkpoints/*.ckpt"
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help=words)
    add_output(parser)
    parser.add_argument("--uniform", action="store_true", help="average all, whatever the validation images say")
    how = (
        "average: the mean of the runs' statistics of batch normalisation (default); measure: where they differ, take "
        "them anew from training images, augmented as in training"
    )
    parser.add_argument("--batch_norm", choices=("average", "measure"), default="average", help=how)
    return parser
