"""`fgvc few-shot FEATURES`: few-shot methods on the same episodes, with intervals and paired differences."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fgvc.confidence.means import mean
from fgvc.config.one_line_parser import OneLineParser
from fgvc.data import episodes as episode_files
from fgvc.data.episodes import Episodes
from fgvc.errors import FgvcError, UsageError
from fgvc.features.folder import FeatureFolder, open_features
from fgvc.few_shot import results as outcome
from fgvc.few_shot.images import ALL, Photographs, listed, photographs
from fgvc.few_shot.methods import Method, method, shipped
from fgvc.few_shot.results import Kind, Looked, Results, Row
from fgvc.few_shot.scoring import accuracies, made
from fgvc.files.lines import print_lines, tell
from fgvc.methods.devices import device_of
from fgvc.report.few_shot import Line, Section, write_page

CONTROL = "cosine_prototypes"
PAGE = "results.html"
EPILOG = f"""FEATURES is what `fgvc embed` wrote; several folders of the same photographs, e.g. of networks trained with
other seeds, meet the same episodes. METHOD is a stem of `fgvc configs` (kind few-shot), a YAML file, or a run that was
trained on episodes; without --method, every method that needs no training. The control that others are compared with
is {CONTROL} where it is among them, else the first. `fgvc few-shot enroll --help` tells how to teach a model new
classes."""


def main(argv: list[str]) -> int:
    """Evaluate, print, write the files and return the exit code.

    Raises:
        UsageError: words, features, episodes or methods that do not fit.
        FgvcError: an output that cannot be written.
    """
    options = _parse(argv)
    options.device = str(device_of(options.device))
    folders = [open_features(path) for path in options.features]
    output = options.output or Path("few_shot", folders[0].path.resolve().name)
    if (output / outcome.EVERYTHING).exists() and not options.overwrite:
        raise UsageError(f"{output}: holds results already; give --overwrite or another --output")
    classes = None if options.classes is None else listed(options.classes, folders[0].taxonomy)
    looked = [photographs(folder, options.split, options.view, classes) for folder in folders]
    methods = _methods(options.method, *looked[0])
    found = Results([_looked(folder, options.view, one[0]) for folder, one in zip(folders, looked, strict=True)])
    names = [one.name for one in methods]
    found.against = CONTROL if CONTROL in names else names[0]
    for kind in _kinds(options, folders[0], looked[0][0], output):
        for folder, (novel, base) in zip(folders, looked, strict=True):
            episodes, _ = episode_files.read(Path(kind.file), novel.paths, novel.labels)
            found.rows += [_row(folder, one, novel, base, kind, episodes, options.device) for one in methods]
    outcome.write(found, output)
    print_lines(outcome.lines(found))
    page = write_page(
        output / PAGE, output.name, [f"{one.features}: {one}" for one in found.looked], found.against, _sections(found)
    )
    tell(f"every number: {output / outcome.TABLE}, {outcome.EVERYTHING}, {outcome.SCORES} (a row per episode)")
    tell(f"to look at:   {page}")
    return 0


def _row(
    folder: FeatureFolder,
    one: Method,
    novel: Photographs,
    base: Photographs | None,
    kind: Kind,
    episodes: Episodes,
    device: str,
) -> Row:
    right = accuracies(one, novel, base, episodes, device)
    transductive = made(one, novel, base).transductive
    return Row(str(folder.path), one.name, transductive, kind, right)


def _kinds(options: argparse.Namespace, folder: FeatureFolder, novel: Photographs, output: Path) -> list[Kind]:
    """Return the kinds of episodes; those that no file gives are drawn and written."""
    if options.episodes:
        files = [(file, *episode_files.read(file, novel.paths, novel.labels)) for file in options.episodes]
    else:
        names = folder.taxonomy.unique_names(folder.taxonomy.leaf_level)
        where = f"{folder.path}, {options.classes or options.split}"
        files = []
        for n_shot in options.n_shot:
            drawn = episode_files.draw(
                novel.labels, options.n_way, n_shot, options.n_query, options.n_episodes, options.seed, names, where
            )
            file, digest = episode_files.write(drawn, novel.paths, output)
            files.append((file, drawn, digest))
    return [
        Kind(drawn.n_way, drawn.n_shot, drawn.n_query, len(drawn), str(file), digest) for file, drawn, digest in files
    ]


def _methods(words: Sequence[str], novel: Photographs, base: Photographs | None) -> list[Method]:
    """Return the methods that are asked for, each able to work here; by default all shipped ones that can.

    Raises:
        UsageError: a method that is asked for by name cannot.
    """
    asked = [method(word) for word in dict.fromkeys(words)]
    for one in asked:
        if one.make(novel.features.shape[1]).needs_training and not one.is_trained:
            raise UsageError(
                f"--method {one.name}: its weights say nothing before a training on episodes; train it with "
                f"`fgvc fit --config meta_{one.name}`, embed the photographs with it, and give the run as --method"
            )
        made(one, novel, base)
    if asked:
        return asked
    able: list[Method] = []
    left: list[Method] = []
    for stem in shipped():
        one = method(stem)
        try:
            (left if made(one, novel, base).needs_training else able).append(one)
        except UsageError:
            left.append(one)
    if left:
        tell(f"left out, as they need a training, maps or base classes: {', '.join(one.name for one in left)}")
    return sorted(able, key=lambda one: one.name != CONTROL)


def _looked(folder: FeatureFolder, view: str, novel: Photographs) -> Looked:
    described = folder.description
    return Looked(
        features=str(folder.path),
        network=str(described["network"]),
        seen=str(described.get("seen") or f"weights {Path(described['weights']['given']).name}"),
        take=str(described["take"]),
        view=view,
        size=int(described["image_size"]),
        classes=len({*novel.labels[novel.labels >= 0].tolist()}),
        photographs=int((novel.labels >= 0).sum()),
    )


def _sections(found: Results) -> list[Section]:
    sections = []
    for looked in found.looked:
        for kind in found.kinds:
            for transductive in (False, True):
                rows = found.table(kind, transductive, looked.features)
                lines = [Line(row.method, mean(row.right), found.difference(row)) for row in rows]
                name = f"{Path(looked.features).name}, " if len(found.looked) > 1 else ""
                title = f"{name}{kind.name}{', transductive' if transductive else ''}"
                note = f"{kind.n_query} queries per class, {kind.n_episodes:,} episodes, hash {kind.digest[:8]}. "
                note += (
                    "An answer hangs on the other queries, and every class has equally many." if transductive else ""
                )
                sections += [Section(title, note, lines)] if lines else []
    return sections


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(
        prog="fgvc few-shot",
        description="Score few-shot methods on the same episodes of features that were computed once.",
        epilog=EPILOG,
    )
    parser.add_argument("features", nargs="+", type=Path, metavar="FEATURES", help="folders that fgvc embed wrote")
    parser.add_argument("--method", nargs="+", default=[], metavar="METHOD", help="which methods")
    parser.add_argument("--n_way", type=int, default=5, help="classes of an episode (default: 5)")
    parser.add_argument("--n_shot", type=int, nargs="+", default=[1, 5], help="images per class (default: 1 and 5)")
    parser.add_argument("--n_query", type=int, default=15, help="queries per class (default: 15)")
    parser.add_argument("--n_episodes", type=int, default=2000, help="how many episodes (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    replay = "replay these files in place of drawing; the numbers above come from them"
    parser.add_argument("--episodes", type=Path, nargs="+", default=[], metavar="FILE", help=replay)
    split = f"whose classes are met: train, val, test, or {ALL} photographs, without base classes (default: test)"
    parser.add_argument("--split", default="test", help=split)
    which = "CSV with columns class and part (base, val, novel), in place of the splits of the data"
    parser.add_argument("--classes", type=Path, metavar="FILE", help=which)
    parser.add_argument("--view", default="whole", help="whole, box (crop=box) or flip, as embedded (default: whole)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="by default few_shot/NAME_OF_FEATURES")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FgvcError as error:
        tell(f"few_shot: {error}")
        sys.exit(error.exit_code)
