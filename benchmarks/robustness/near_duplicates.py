"""Plant altered copies of photographs and count how many `fgvc data verify --near_duplicates` would find.

    python -m benchmarks.robustness.near_duplicates FOLDER --model mobilenetv2_100 --photographs 300 --planted 60

Of some photographs below FOLDER four copies each are made: half as large, re-encoded as JPEG of quality 40, cropped by
a tenth of each side off the centre, mirrored. A copy is found where the cosine of its pair is at least the threshold; a
pair of other originals is a false alarm (look at those that `--sheet` draws: data sets hold near duplicates of their
own, and their number grows with the square of that of the photographs).
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.machine import hardware
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.unlabelled import Unlabelled
from fgvc.features.embedding import embed
from fgvc.features.network import Wishes, read_network
from fgvc.images.pictures import expand
from fgvc.prediction.retrieval.duplicates import near_duplicates
from fgvc.prediction.retrieval.sheet import row_sheet

KINDS = ("resized", "re-encoded", "cropped", "mirrored")
THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98)


def altered(photograph: Image.Image, kind: str) -> Image.Image:
    """Return a copy that byte comparison cannot know again."""
    width, height = photograph.size
    if kind == "resized":
        return photograph.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.LANCZOS)
    if kind == "cropped":
        return photograph.crop((width // 50, height * 2 // 50, width // 50 + width * 9 // 10, height * 47 // 50))
    return ImageOps.mirror(photograph) if kind == "mirrored" else photograph


def plant(paths: Sequence[Path], planted: int, folder: Path) -> None:
    """Write originals and copies: `N.jpg`, `N resized.jpg` ..."""
    for number, path in enumerate(paths):
        photograph = Image.open(path).convert("RGB")
        (folder / f"{number}.jpg").write_bytes(path.read_bytes())
        for kind in KINDS if number < planted else ():
            quality = 40 if kind == "re-encoded" else 90
            altered(photograph, kind).save(folder / f"{number} {kind}.jpg", quality=quality)


def main(words: Sequence[str] | None = None) -> int:
    """Plant, embed, search and print the tables."""
    args = arguments(words)
    network = read_network(args.model, Wishes(args.weights, args.image_size))
    paths = sorted(path for path in map(Path, map(str, expand(args.folder))) if path.suffix.lower() == ".jpg")
    random.Random(args.seed).shuffle(paths)
    print(f"{hardware()}\n{network.name} at {network.image_size} px, {args.photographs} photographs, seed {args.seed}")
    with tempfile.TemporaryDirectory() as made:
        photos = Path(made, "photos")
        photos.mkdir()
        plant(paths[: args.photographs], args.planted, photos)
        start = time.perf_counter()
        features = embed(network, FineGrainedData(Unlabelled(str(photos))), Path(made, "f"), views=("whole", "flip"))
        print(f"embedding in two views: {time.perf_counter() - start:.1f} s")
        whole, flip = features.part("test"), features.part("test", "flip")
        names = [Path(path).stem.partition(" ")[::2] for path in whole.paths]
        mean = whole.features.mean(axis=0)
        for title, centre in (("cosines of the features", 0 * mean), ("their mean taken off first", mean)):
            start = time.perf_counter()
            pairs = list(near_duplicates(whole.features - centre, min(THRESHOLDS), flip.features - centre))
            print(f"\n{title}, compared in {time.perf_counter() - start:.2f} s")
            found = [(names[one.first], names[one.second], one.cosine) for one in pairs]
            report(found, args.planted, args.photographs)
            if args.sheet and not centre.any():
                strange = [one for one in pairs if names[one.first][0] != names[one.second][0]]
                strange.sort(key=lambda one: -one.cosine)
                files = [str(photos / path) for path in whole.paths]
                rows = [[(files[i], f"{one.cosine:.3f}") for i in (one.first, one.second)] for one in strange]
                row_sheet(rows, 2, args.sheet)
    return 0


def report(found: Sequence[tuple[tuple[str, str], tuple[str, str], float]], planted: int, photographs: int) -> None:
    """Print share found of each kind and false alarms of originals, for every threshold."""
    print(f"\n| cosine from | {' | '.join(KINDS)} | false alarms per 1,000 photographs |\n|{'---|' * (len(KINDS) + 2)}")
    for least in THRESHOLDS:
        cells = []
        for kind in KINDS:
            of_kind = [value for one, other, value in found if one[0] == other[0] and {one[1], other[1]} == {"", kind}]
            cells.append(f"{100 * np.mean([*(v >= least for v in of_kind), *[0] * (planted - len(of_kind))]):.0f} %")
        false = sum(v >= least and one[0] != other[0] and not one[1] and not other[1] for one, other, v in found)
        print(f"| {least} | {' | '.join(cells)} | {1000 * false / photographs:.1f} |")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--model", default="mobilenetv2_100", help="a run or a network of timm")
    parser.add_argument("--weights", help="of a network of timm")
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--planted", type=int, default=100, help="photographs that are copied")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="draw the false alarms, the nearest first")
    args = parser.parse_args(words)
    if not 1 <= args.planted <= args.photographs:
        parser.error("--planted: from 1 to --photographs")
    return args


if __name__ == "__main__":
    sys.exit(main())
