"""`fgvc embed MODEL DATA --output features/NAME`: what a network says of photographs, computed once and kept."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jsonargparse

from fgvc.config.data_cli import parse
from fgvc.config.network_flags import add_network_flags, wishes_of
from fgvc.config.words import free_word, given
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.unlabelled import Unlabelled
from fgvc.errors import UsageError
from fgvc.features.embedding import embed
from fgvc.features.filling import Counts
from fgvc.features.folder import FeatureFolder
from fgvc.features.network import Network, read_network
from fgvc.files.lines import counted, quoted, tell
from fgvc.images.decoding import Limits
from fgvc.images.folders import is_folder, visible

COMMAND = "fgvc embed MODEL"
ABOUT = """Compute what a network says of every photograph once and keep it in a folder. MODEL is a run folder, a model
folder, or the name of a network of timm. The same command again computes only what is new or changed, and after a stop
it goes on where it was. How a photograph is shown follows the weights, as in a training."""
_SWITCHES = ("--overwrite", "--unlabelled")


def main(words: list[str]) -> int:
    """Run the command and return its exit code; raises as `embedded`."""
    embedded(words)
    return 0


def embedded(words: list[str]) -> FeatureFolder:
    """Run the command and return the folder that it filled.

    Raises:
        FgvcError: wrong words, a model or data that cannot be opened, features of another network in the folder, or a
            photograph that cannot be read.
    """
    if not words or (words[0].startswith("-") and not {"-h", "--help"} & set(words)):
        raise UsageError("fgvc embed: give a model first, a run folder or a name of timm: fgvc embed resnet50 PHOTOS/")
    name, rest = (words[0], words[1:]) if not words[0].startswith("-") else ("", words)
    has_data = any(word.startswith(("--config", "--data.source", "-h", "--help")) for word in rest)
    if not has_data and free_word(COMMAND, rest, _SWITCHES) is None:
        raise UsageError(f"fgvc embed {name}: give the photographs: a folder, a table, a run folder, or --config DATA")
    options, open_data = parse(COMMAND, ABOUT, rest, _options)
    data = _data(options, open_data)
    network = read_network(name, wishes_of(name, options))
    output = options.output or Path("features", f"{network.name}-{_name_of_data(rest)}")
    counts = Counts()
    tell(f"{network.name}: {_shown(network)}")
    try:
        features = embed(
            network,
            data,
            output,
            take=options.take,
            views=_listed(options.views) or (),
            splits=_listed(options.splits),
            batch_size=options.batch_size,
            device=options.device,
            overwrite=options.overwrite,
            dtype=options.dtype,
            counts=counts,
        )
    except KeyboardInterrupt:
        tell(f"what is computed is kept in {output}: give the same command again to go on")
        raise
    tell(_summary(features, counts))
    return features


def _options(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", type=Path | None, default=None, help="the folder (default: features/MODEL-DATA)")
    takes = "prelogits (default), pooled, map, scda, scda+, scda_flip, scda_flip+, or cls+mean of transformers"
    add("--take", type=str, default="prelogits", help=takes)
    add(
        "--views",
        type=str,
        default="whole",
        help="of whole,flip,box,uncut: each has features of its own (default: whole)",
    )
    add("--splits", type=str | None, default=None, help="what to embed, e.g. train,test (default: all)")
    add("--batch_size", type=int, default=64, help="photographs at once (default: 64)")
    add("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--dtype", type=str, default="float32", help="of maps: float32 (default) or float16, which takes half the room")
    add("--overwrite", action="store_true", help="replace features of another network or of other photographs")
    add("--unlabelled", action="store_true", help="all photographs below FOLDER, whatever its folders are called")
    add_network_flags(parser)


def _data(options: jsonargparse.Namespace, open_data: Callable[[], FineGrainedData]) -> FineGrainedData:
    """Open the data; a folder of photographs alone, without a folder in it, has no labels."""
    source = options.data.source
    is_image_folder = str(source.class_path).rpartition(".")[2] == "ImageFolder"
    if not is_image_folder:
        if options.unlabelled:
            raise UsageError("--unlabelled: for a folder of photographs; leave it out")
        return open_data()
    root = str(source.init_args.root)
    if options.unlabelled or (Path(root).is_dir() and not any(is_folder(entry) for entry in visible(Path(root)))):
        limits = Limits(options.data.limits.max_pixels, options.data.limits.any_format)
        return FineGrainedData(Unlabelled(root), on_bad_image=options.data.on_bad_image, limits=limits)
    try:
        return open_data()
    except UsageError as error:
        raise UsageError(f"{error}; if they have no labels, give --unlabelled") from None


def _name_of_data(words: Sequence[str]) -> str:
    """Return a name for the data: of the folder, table or run that is given, else of the configs."""
    place = free_word(COMMAND, words, _SWITCHES)
    paths = [words[place]] if place is not None else [flag.value or "" for flag in given(words, "--config")]
    names = [path.resolve().name if path.is_dir() else path.stem for path in map(Path, paths)]
    return "-".join(name for name in names if name) or "data"


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _shown(network: Network) -> str:
    how = network.resize
    cut = "whole picture squashed" if how.fit == "squash" else "centred square"
    part = "" if how.crop_fraction == 1 else f", {how.crop_fraction:g} of the side"
    seen = f"; {network.seen if len(network.seen) < 100 else network.seen[:97] + '...'}" if network.seen else ""
    return f"{how.size} px, {cut}{part}, {how.interpolation}{seen}"


def _summary(features: FeatureFolder, counts: Counts) -> str:
    """Say what was done, how fast, where it is and how to go on."""
    total = sum(told["photographs"] for told in features.description["records"].values())
    shape = " x ".join(map(str, features.description["shape"]))
    what = f"{', '.join(features.splits)}; {', '.join(features.views)}; {shape} numbers each"
    left = f"{counted(counts.left_out, 'photograph')} left out, which cannot be read; " if counts.left_out else ""
    if not counts.written:
        return f"nothing to do: {left}{features.path} has the features already ({counted(total, 'photograph')}; {what})"
    kept = [f"{counted(counts.reused, 'feature')} reused"] if counts.reused else []
    kept += [f"{counted(counts.taken_over, 'feature')} of a stopped run taken over"] if counts.taken_over else []
    speed = counts.shown / max(counts.seconds, 1e-9)
    done = f"{counted(counts.shown, 'photograph')} in {counts.seconds:.1f} s, {speed:.1f} photographs/s"
    lines = [f"{left}{'; '.join([done, *kept])} -> {features.path} ({what})", *_next(features)]
    return "\n".join(lines)


def _next(features: FeatureFolder) -> list[str]:
    """Return what may be done with features, a command a line; maps serve few-shot methods alone."""
    folder = quoted(features.path)
    is_labelled = any((features.part(split).labels >= 0).any() for split in features.splits[:1])
    is_vector = len(features.description["shape"]) == 1
    commands = [f"fgvc search {folder} PHOTO..."] if is_vector else []
    commands += [f"fgvc probe {folder} --output MODEL"] if is_vector and is_labelled else []
    commands += [f"fgvc few-shot {folder}"] if is_labelled else []
    return [f"{'next: ' if i == 0 else '      '} {command}" for i, command in enumerate(commands)]
