"""`fgvc few-shot enroll MODEL PHOTOS`: a model of new classes from a few photographs each, without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import torch
from torch import Tensor

from fgvc.confidence.intervals import wilson
from fgvc.config.data_cli import parse
from fgvc.config.network_flags import add_network_flags, wishes_of
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.records import Records
from fgvc.errors import UsageError
from fgvc.features.network import Network, read_network
from fgvc.few_shot.enrolling import FALSE_NEW, Old, Seen, enrolled, leave_one_out, look, set_beside
from fgvc.few_shot.methods import Method, method
from fgvc.files import run_folder
from fgvc.files.lines import counted, quoted, tell
from fgvc.files.origin import environment
from fgvc.methods.devices import device_of
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.enrolled import EnrolledRecognizer
from fgvc.methods.recognizers.few_shot import FewShotRecognizer
from fgvc.model_file.architecture import build
from fgvc.model_file.model import DESCRIPTION, Model, save
from fgvc.taxonomy.joining import joined
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.calibration import fit_temperature

COMMAND = "fgvc few-shot enroll"
ABOUT = (
    "Teach a network new classes by a few photographs each, without training. MODEL is a run, a model folder or a name "
    "of timm. PHOTOS are labelled as those of a training: a folder per class, a table, or --config DATA. The new model "
    "answers the new classes, or with --keep_old the model's own too, and is used like any other: fgvc predict."
)
BEST = "logistic_regression"
"""What is best without training on frozen features, see docs/results/few_shot.md."""


def main(words: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: no model, photographs that cannot be read, or a model that cannot be written.
    """
    if not words or words[0].startswith("-"):
        if any(word in ("-h", "--help") for word in words):
            parse(COMMAND, ABOUT, ["--help"], _options)
        raise UsageError(
            f"{COMMAND}: give a model, then the photographs: {COMMAND} runs/NAME photos/ --output new_model"
        )
    given, rest = Path(words[0]), words[1:]
    uncut = ["--data.val_fraction", "0"]
    options, open_data = parse(f"{COMMAND} MODEL", ABOUT, [*rest, *uncut], _options)
    if options.output is None:
        raise UsageError(f"{COMMAND}: give --output FOLDER, where the new model is written")
    if (options.output / DESCRIPTION).exists() and not options.overwrite:
        raise UsageError(f"{options.output}: holds a model already; give --overwrite or another --output")
    options.device = str(device_of(options.device))
    network = read_network(words[0], wishes_of(words[0], options))
    chosen, model = _chosen(network, options)
    data = _whole(options, open_data)
    records, labels = _everything(data)
    old = _old(given, model, options) if options.keep_old else None
    taxonomy, leaves = _classes(model, data.taxonomy, options.keep_old)
    model.recognizer.to(options.device)
    seen = look(model.recognizer, records, model.resize, "photographs", options.keep_old, data.limits, options.device)
    model.recognizer.cpu()
    of_each = torch.tensor([leaves[label] for label in labels.tolist()])
    made, architecture = enrolled(model, chosen, taxonomy, seen, of_each, old)
    told, temperatures = _judged(made, seen, old)
    provenance = {
        "enrolled": {
            "from": str(given),
            "method": chosen.name,
            "photographs": len(records),
            "keep_old": options.keep_old,
        },
        "metrics": {},
        **environment(),
    }
    save(Model(made.eval(), architecture, model.resize, temperatures, provenance), options.output)
    _tell(data.taxonomy, labels, told, options.output)
    return 0


def _chosen(network: Network, options: jsonargparse.Namespace) -> tuple[Method, Model]:
    """Return the method, and the network as a model that knows no classes where it is none yet.

    Raises:
        UsageError: a method that cannot answer one photograph at a time, or needs what is not there.
    """
    own = isinstance(network.module, FewShotRecognizer)
    chosen = method(options.method or (network.given if own else BEST))
    if isinstance(network.module, Recognizer):
        model = Model(network.module, dict(network.built), network.resize)
        takes = "map" if isinstance(network.module, FewShotRecognizer) and not network.module.pooling else "vector"
    else:
        model, takes = _bare(network), "vector"
        if options.keep_old:
            raise UsageError(f"--keep_old: {network.name} is a network of timm, which knows no classes; leave it out")
    if own and options.keep_old:
        raise UsageError(f"--keep_old: {network.name} was trained on episodes and knows no classes; leave it out")
    looked = chosen.make(_width(model.recognizer, takes))
    for odd, why in (
        (looked.needs_training and not chosen.is_trained, "its weights say nothing before a training on episodes"),
        (looked.transductive, "its answer hangs on the other photographs that are asked about"),
        (looked.takes != takes, f"it compares {looked.takes}s, and {network.name} makes {takes}s of photographs"),
    ):
        if odd:
            raise UsageError(f"--method {chosen.name}: {why}; give another, such as {BEST}")
    return chosen, model


def _width(recognizer: Recognizer, takes: str) -> int:
    """Return the numbers of an embedding, or the channels of its maps."""
    backbone = next(recognizer.backbones())
    with torch.inference_mode():
        blank = torch.zeros(1, 3, recognizer.image_size, recognizer.image_size)
        return backbone.channels if takes == "map" else int(recognizer.embed(blank).shape[1])


def _bare(network: Network) -> Model:
    """Return a network of timm as a model whose classes are still to be enrolled."""
    arguments = {**(network.arguments or {}), "weights": "none"}
    plain = {
        "class_path": FewShotRecognizer.__name__,
        "init_args": {"backbone": {"class_path": "Backbone", "init_args": arguments}},
    }
    recognizer: Any = build(plain, Taxonomy.flat(["none yet"]), network.image_size).eval()
    recognizer.backbone.load_state_dict(network.module.state_dict())
    return Model(recognizer, plain, network.resize)


def _whole(options: jsonargparse.Namespace, open_data: Any) -> FineGrainedData:
    """Open the photographs without cutting a test part off, where nobody asks for one."""
    arguments = options.data.source.get("init_args") or {}
    if "test_fraction" in arguments:
        arguments["test_fraction"] = 0.0
    return open_data()  # type: ignore[no-any-return]


def _everything(data: FineGrainedData) -> tuple[Records, Tensor]:
    """Return all photographs with a class, of every split.

    Raises:
        UsageError: there are none, or classes without any.
    """
    parts = [data.records(split) for split in data.splits]
    paths = [part[i].path for part in parts for i in range(len(part))]
    labels = np.concatenate([part.labels for part in parts])
    kept = np.flatnonzero((labels >= 0) & (labels < data.taxonomy.num_classes))
    names = data.taxonomy.unique_names(data.taxonomy.leaf_level)
    if missing := sorted(set(range(data.taxonomy.num_classes)) - set(labels[kept].tolist())):
        raise UsageError(f"class {names[missing[0]]!r} has no photograph; give it at least one, or leave it out")
    return Records([paths[i] for i in kept], labels[kept]), torch.from_numpy(labels[kept]).long()


def _old(given: Path, model: Model, options: jsonargparse.Namespace) -> Old:
    """Look at photographs of the old classes, which tell how far the new ones reach into them.

    Raises:
        UsageError: the run's own held-out photographs are not there and no others are given.
    """
    where = options.old_data or str(given)
    if options.old_data is None and not (run_folder.followed(given) / run_folder.CONFIG).is_file():
        raise UsageError(
            f"--keep_old: {given} is no run folder, and the new classes are weighed against photographs of the old "
            "ones; give --old_data DATA, labelled photographs that the model was not trained on"
        )
    _, open_data = parse(f"{COMMAND} --old_data", ABOUT, [where])
    data = open_data()
    split = next((one for one in ("val", "test") if one in data.splits), "")
    if not split:
        raise UsageError(f"--keep_old: {where} holds no val or test photographs out; give --old_data DATA with some")
    if data.taxonomy != model.taxonomy:
        raise UsageError(f"--keep_old: the data of {where} have other classes than the model; give --old_data DATA")
    records = data.records(split)
    rows = np.flatnonzero((records.labels >= 0) & (records.labels < model.taxonomy.num_classes))
    records = records.subset(rows)
    model.recognizer.to(options.device)
    seen = look(model.recognizer, records, model.resize, "old classes", True, data.limits, options.device)
    return Old(torch.from_numpy(records.labels).long(), seen)


def _classes(model: Model, new: Taxonomy, keep_old: bool) -> tuple[Taxonomy, list[int]]:
    """Return the classes of the new model, and the leaf there of each new leaf."""
    if not keep_old:
        return new, [*range(new.num_classes)]
    both, _, leaves = joined(model.taxonomy, new)
    return both, leaves


def _judged(made: EnrolledRecognizer, seen: Seen, old: Old | None) -> tuple[list[str], dict[str, float]]:
    """Judge the model by leaving one photograph out at a time, and by old photographs.

    Returns:
        What is told, and the temperature of the leaf level.
    """
    rows, scores = leave_one_out(made)
    ways = made.ways()[1]
    leaf = made.taxonomy.leaf_level
    told = ["one photograph per class: how often it is right cannot be told; a second one of each would"]
    if len(rows):
        told = [_told("by the other photographs of its class", scores.argmax(dim=1) == ways[rows], ways[rows])]
        if alone := int(ways.max()) + 1 - len(ways[rows].unique()):  # type: ignore[no-untyped-call]
            told.append(f"not judged: {counted(alone, 'class', 'classes')} of one photograph")
    if old is None:
        temperature = fit_temperature(scores, ways[rows]).value if len(rows) else 1.0
        return told, {leaf: temperature}
    with torch.no_grad():
        of_old = made.scores(old.seen.embedding)
    set_beside(made, seen, old, of_old, rows, scores)
    return [*told, *_told_of_both(made, seen, old, of_old, rows, scores)], {leaf: 1.0}


def _told_of_both(
    made: EnrolledRecognizer, seen: Seen, old: Old, of_old: Tensor, rows: Tensor, scores: Tensor
) -> list[str]:
    before = old.seen.logits.argmax(dim=1) == old.labels
    after = made.joined(old.seen.logits, of_old).argmax(dim=1) == old.labels
    lost = 100 * (float(before.float().mean()) - float(after.float().mean()))
    told = []
    if len(rows):
        among = made.joined(seen.logits[rows], scores).argmax(dim=1) == made.support_labels[rows]
        told.append(_told("the same beside the old classes", among, made.support_labels[rows]))
    else:
        told.append(f"so the new classes may take at most {100 * FALSE_NEW:.0f} % of the old ones' photographs")
    told.append(_told("old classes before", before, old.labels))
    told.append(f"{_told('old classes now', after, old.labels)}: {lost:.1f} points lost")
    return told


def _told(what: str, right: Tensor, classes: Tensor) -> str:
    """Say how many are right, and the mean of the classes where they have unequal numbers of photographs."""
    count, total = int(right.sum()), len(right)
    low, high = wilson(count, total)
    _, places, sizes = torch.unique(classes, return_inverse=True, return_counts=True)
    of_classes = torch.bincount(places, right.double()) / sizes
    uneven = f", mean of classes {100 * float(of_classes.mean()):.1f} %" if len({*sizes.tolist()}) > 1 else ""
    interval = f"{100 * low:.1f} to {100 * high:.1f} %, 95 % interval"
    return f"{what}: {100 * count / total:.1f} % of {total} ({interval}){uneven}"


def _tell(taxonomy: Taxonomy, labels: Tensor, told: Sequence[str], output: Path) -> None:
    counts = torch.bincount(labels).tolist()
    each = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    tell(f"enrolled {taxonomy.num_classes} new classes by {each} photographs each")
    for line in told:
        tell(line)
    tell(f"model: {output}")
    tell(f"next:  fgvc predict {quoted(output)} PHOTO...")


def _options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path | None, default=None, help="the folder of the new model")
    how = f"how classes are compared (default: {BEST}; for a run trained on episodes its own)"
    parser.add_argument("--method", type=str | None, default=None, help=how)
    parser.add_argument("--keep_old", action="store_true", help="answer the model's old classes too")
    held = (
        "labelled photographs of the old classes that the model was not trained on; by default those the run held out"
    )
    parser.add_argument("--old_data", type=str | None, default=None, help=held)
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    add_network_flags(parser)
