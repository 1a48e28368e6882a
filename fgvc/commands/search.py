"""`fgvc search GALLERY QUERY...`: the nearest photographs of a gallery; `--evaluate`: how well features find them."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fgvc.config.one_line_parser import OneLineParser
from fgvc.errors import UsageError
from fgvc.features.folder import FeatureFolder, open_features
from fgvc.files.bars import bar
from fgvc.files.lines import counted, print_lines, tell
from fgvc.files.whole_files import check_free, check_picture
from fgvc.images.decoding import Limits
from fgvc.images.folders import PassedOver
from fgvc.images.pictures import Picture, add_limits
from fgvc.prediction.inputs import add_inputs, pictures_of, read_inputs

if TYPE_CHECKING:
    from fgvc.features.network import Network
    from fgvc.prediction.retrieval.answers import Found
    from fgvc.prediction.retrieval.gallery import Gallery
    from fgvc.prediction.retrieval.nearest import ExactSearch
    from fgvc.prediction.retrieval.neighbour import Neighbour

HALVES = ("first_half", "second_half")
ALL = "all"
FORMATS = ("csv", "json", "jsonl")


def main(argv: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 where a query could not be read.

    Raises:
        UsageError: words, a gallery or queries that do not fit, or a network that is not there.
        FgvcError: an output that cannot be written.
    """
    if any(word == "--evaluate" or word.startswith("--evaluate=") for word in argv):
        return _evaluate(_evaluation_parser().parse_args(argv))
    options = _parser().parse_args(argv)
    _check(options)
    from fgvc.prediction.retrieval.answers import kind_of, save  # seconds: after what can be refused without it
    from fgvc.prediction.retrieval.gallery import Gallery
    from fgvc.prediction.retrieval.nearest import check_metric
    from fgvc.prediction.retrieval.sheet import row_sheet

    check_metric(options.metric)
    kind = kind_of(options.output, options.format)
    limits = Limits(options.max_pixels, options.any_format).check("--")
    inputs = read_inputs(options.inputs, options.path_column, options.root)
    gallery = Gallery(_folder(options), _listed(options.split), options.view)
    network, search = _network(gallery, options), _search(gallery, options)
    passed = PassedOver()
    pictures, total = pictures_of(inputs, passed)
    tally = _Tally()
    answers = tally.watched(_found(gallery, network, search, pictures, options, limits), total)
    save(answers, options.output, kind, options.metric)
    written = [str(options.output or "stdout")]
    rows = (_row(one) for one in tally.shown)
    if options.sheet and row_sheet(rows, 1 + options.top_k, options.sheet, limits):
        written.append(str(options.sheet))
    if passed.counts:
        tell(passed.line())
    failed = f", {tally.failed} failed (first: {tally.first_error})" if tally.failed else ""
    among = f"among {counted(len(gallery), 'photograph')} of {', '.join(gallery.names)} ({gallery.view})"
    tell(f"{tally.seen} {'query' if tally.seen == 1 else 'queries'}{failed} {among} -> {', '.join(written)}")
    return 1 if tally.failed else 0


class _Tally:
    """Counts of the queries that pass by, and the first of them for the sheet."""

    def __init__(self) -> None:
        self.seen = self.failed = 0
        self.first_error = ""
        self.shown: list[Found] = []

    def watched(self, answers: Iterable["Found"], total: int | None) -> Iterator["Found"]:
        """Yield the answers, counted, behind a progress bar of `total` pictures."""
        from fgvc.prediction.retrieval.sheet import ROWS

        for one in bar("searching", answers, total=total, unit=" images"):
            self.seen += 1
            if one.error:
                self.failed += 1
                self.first_error = self.first_error or one.error
            elif len(self.shown) < ROWS:
                self.shown.append(one)
            yield one


def _found(
    gallery: "Gallery",
    network: "Network",
    search: "ExactSearch",
    pictures: Iterable[Picture],
    options: argparse.Namespace,
    limits: Limits,
) -> Iterator["Found"]:
    """Yield what is near each picture; the gallery is gone through once for each batch of them."""
    import numpy as np

    from fgvc.methods.devices import device_of
    from fgvc.prediction.retrieval.answers import Found
    from fgvc.prediction.retrieval.queries import embedded

    take, device = gallery.folder.description["terms"].get("take", "prelogits"), device_of(options.device)
    for batch in embedded(network, take, pictures, options.batch_size, device, limits):
        read = [one for one in batch if one.vector is not None]
        near: Iterator[list[Neighbour]] = iter(())
        if read:
            vectors = np.stack([one.vector for one in read if one.vector is not None])
            found = search.nearest(vectors, options.top_k, gallery.own([one.path for one in read]))
            near = iter(gallery.neighbours(found))
        for one in batch:
            yield Found(one.path, [] if one.vector is None else next(near), one.error, one.warning)


def _row(one: "Found") -> list[tuple[str, str]]:
    near = [(each.path, f"{each.value:.3f} {each.label or ''}") for each in one.neighbours]
    return [(one.path or "", f"query {Path(one.path or '').name}"), *near]


def _folder(options: argparse.Namespace) -> FeatureFolder:
    """Open the gallery; with `--data` it is a model, whose features of the data are computed first."""
    if options.data is None:
        return open_features(options.gallery)
    from fgvc.commands.embed import embedded

    words = [str(options.gallery), options.data, "--device", options.device, "--views", options.view]
    return embedded(words)


def _network(gallery: "Gallery", options: argparse.Namespace) -> "Network":
    from fgvc.features.rebuilding import network_of

    return network_of(gallery.folder, options.model)


def _search(gallery: "Gallery", options: argparse.Namespace) -> "ExactSearch":
    from fgvc.methods.devices import device_of
    from fgvc.prediction.retrieval.nearest import ExactSearch

    if options.approximate:
        from fgvc.prediction.retrieval.approximate import ApproximateSearch

        return ApproximateSearch(gallery.features, options.metric)
    return ExactSearch(gallery.features, options.metric, device_of(options.device))


def _evaluate(options: argparse.Namespace) -> int:
    """Score the features of a folder and print the table."""
    import numpy as np

    from fgvc.methods.devices import device_of
    from fgvc.prediction.retrieval.gallery import Gallery
    from fgvc.prediction.retrieval.scores import retrieval_scores

    folder = open_features(options.evaluate)
    gallery = Gallery(folder, None if options.split == ALL else [options.split], options.view)
    labels = np.where(gallery.labels < folder.taxonomy.num_classes, gallery.labels, -1)
    chosen = np.arange(len(labels))
    if options.classes:
        chosen = np.flatnonzero(np.isin(labels, _leaves(options.classes, folder)))
        if not len(chosen):
            raise UsageError(f"--classes {options.classes}: no photograph of {options.split} has one of them")
    features = gallery.features if len(chosen) == len(labels) else gallery.features[chosen]
    scores = retrieval_scores(features, labels[chosen], options.metric, device=device_of(options.device))
    said = folder.description
    facts = {
        "features": str(folder.path),
        "network": f"{said['network']}, {said['terms'].get('take', '')}, {said['image_size']} px",
        "has seen": said.get("seen") or "not known",
        "split": f"{options.split}{f', {options.classes}' if options.classes else ''}, view {options.view}",
        "classes": str(len(np.unique(labels[chosen][labels[chosen] >= 0]))),
        "queries": f"{scores.queries} = gallery, itself removed; {scores.lone} lone ones only in the gallery; "
        f"{scores.unlabelled} without a class left out",
        "metric": options.metric,
        "mAP": f"{100 * scores.mean_average_precision:.2f} %",
        "mAP@R": f"{100 * scores.map_at_r:.2f} %",
        "R-precision": f"{100 * scores.r_precision:.2f} %",
        **{f"R@{rank} (any hit)": f"{100 * share:.2f} %" for rank, share in scores.recall.items()},
    }
    width = max(map(len, facts))
    print_lines(f"{name:<{width}}  {value}" for name, value in facts.items())
    return 0


def _leaves(asked: str, folder: FeatureFolder) -> list[int]:
    """Return the leaves of a half of the classes, in their order in the tree, or of a list."""
    count = folder.taxonomy.num_classes
    if asked in HALVES:
        return [*range(count // 2)] if asked == HALVES[0] else [*range(count // 2, count)]
    from fgvc.few_shot.images import listed

    if not Path(asked).is_file():
        raise UsageError(f"--classes {asked}: {' or '.join(HALVES)}, or a CSV with a column class; no such file")
    parts = listed(Path(asked), folder.taxonomy)
    if "test" not in parts:
        raise UsageError(f"--classes {asked}: no class of part novel; it has {', '.join(parts)}")
    place = {name: leaf for leaf, name in enumerate(folder.taxonomy.unique_names(folder.taxonomy.leaf_level))}
    return [place[name] for name in parts["test"]]


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc search",
        description="Find the photographs of a gallery that are nearest to a picture. GALLERY is a folder that `fgvc "
        "embed` wrote, or with --data a model or a network of timm that embeds those photographs first. A picture that "
        "cannot be read keeps its row, with the reason in `error`; the exit code is then 1. A picture never finds "
        "itself. `fgvc search --evaluate FEATURES` scores how well photographs find others of their class.",
    )
    parser.add_argument("gallery", metavar="GALLERY", help="features, or a model together with --data")
    add_inputs(parser)
    parser.add_argument("--data", metavar="DATA", help="a folder of photographs, a table or a run: GALLERY is a model")
    parser.add_argument("--model", help="where the network of the features is now, if it was moved")
    parser.add_argument("--split", help="of the gallery, e.g. train or train,val (default: all)")
    _add_shared(parser)
    parser.add_argument("--top_k", type=int, default=5, help="neighbours of each picture (default: 5)")
    near = "a graph of neighbours (pip install 'fgvc[search]'): misses a few, pays for many queries"
    parser.add_argument("--approximate", action="store_true", help=near)
    parser.add_argument("--output", type=Path, help=".csv, .json or .jsonl; without it, CSV goes to stdout")
    parser.add_argument("--format", choices=FORMATS, help="what to write, whatever the suffix")
    parser.add_argument("--sheet", type=Path, help="also draw pictures with their neighbours beside them, .jpg or .png")
    parser.add_argument("--overwrite", action="store_true", help="replace --output and --sheet where they exist")
    parser.add_argument("--batch_size", type=int, default=32, help="pictures at once (default: 32)")
    add_limits(parser)
    return parser


def _evaluation_parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc search --evaluate FEATURES",
        description="Score how well photographs find others of their class: each asks for the others of its split.",
    )
    parser.add_argument("--evaluate", type=Path, required=True, metavar="FEATURES", help="what fgvc embed wrote")
    parser.add_argument("--split", default="test", help=f"a split, or {ALL} (default: test)")
    halves = "first_half or second_half of the classes in their order, or a CSV with a column class; for CUB: 1-100, "
    parser.add_argument("--classes", metavar="WHICH", help=f"{halves}101-200, with --split {ALL}")
    _add_shared(parser)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--view", default="whole", help="of the gallery: whole, flip or box (default: whole)")
    parser.add_argument("--metric", default="cosine", help="cosine (default) or euclidean")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def _check(options: argparse.Namespace) -> None:
    """Refuse what is wrong at first sight."""
    for key in ("top_k", "batch_size"):
        if getattr(options, key) < 1:
            raise UsageError(f"--{key}: {getattr(options, key)}; give 1 or more")
    if options.sheet:
        check_picture(options.sheet)
    for path in (options.output, options.sheet):
        if path:
            check_free(path, options.overwrite)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]
