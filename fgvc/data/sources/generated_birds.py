"""Generated birds: pictures with a known tree, known boxes and a mark too small for a small picture; no download."""

from fgvc.data.birds.folder import SPLITS, Plan, read_annotations, write_once
from fgvc.data.birds.painting import PARTS
from fgvc.data.birds.species import LEVELS, design
from fgvc.data.records import Records
from fgvc.data.sources.base import Annotations, DataSource
from fgvc.errors import UsageError
from fgvc.files.cache_folder import cache_folder
from fgvc.taxonomy.tree import Taxonomy

BOXES = ("object", "mark")


class GeneratedBirds(DataSource):
    """Invented birds in a tree: order by silhouette, family by beak and tail, genus by plumage, species by one mark.

    The mark is a small bright patch with a dark rim, equally large and wanted in the same colour in all species of a
    genus: its place tells them apart. Its mean colour is that of the plumage, so it fades when the picture shrinks.
    Picture `index` of a split is a function of (seed, split, index); its species is `index` modulo the number of
    species, so more pictures per class leave the first ones as they are. Pictures are painted once, as JPEG, into a
    folder of the cache whose name follows from the arguments.

    Args:
        num_orders: 1 to 4.
        families_per_order: 1 to 4.
        genera_per_family: 1 to 12.
        species_per_genus: 1 to 8.
        train_per_class: training pictures per species.
        val_per_class: validation pictures per species; 0 for no val split.
        test_per_class: test pictures per species; 0 for no test split.
        image_size: side of the pictures in pixels, 64 to 512.
        mark_size: width of the mark over the side of the picture, for a bird of middle size; 0.01 to 0.1, and at
            least 2 pixels.
        seed: changes every picture.
        root: the folder of the cache. Default: the environment variable FGVC_CACHE, else ~/.cache/fgvc.
        num_processes: how many processes paint; by default one per core.

    Raises:
        UsageError: a number outside its range, or a cache folder that cannot be written.
        FgvcError: writing failed, or the written folder was damaged.
    """

    point_names = PARTS
    head_parts = ("crown", "eye", "cheek", "nape", "throat")

    def __init__(
        self,
        num_orders: int = 3,
        families_per_order: int = 2,
        genera_per_family: int = 2,
        species_per_genus: int = 4,
        train_per_class: int = 30,
        val_per_class: int = 5,
        test_per_class: int = 10,
        image_size: int = 384,
        mark_size: float = 0.03,
        seed: int = 0,
        root: str | None = None,
        num_processes: int | None = None,
    ) -> None:
        per_class = dict(zip(SPLITS, (train_per_class, val_per_class, test_per_class), strict=True))
        for split, count in per_class.items():
            _check(f"{split}_per_class", count, int(split == "train"), 100_000)
        _check("image_size", image_size, 64, 512)
        _check("mark_size", mark_size, 0.01, 0.1)
        _check("mark_size * image_size (pixels of the mark)", mark_size * image_size, 2, 52)
        _check("num_processes", 1 if num_processes is None else num_processes, 1, 1024)
        _check("seed", seed, 0, 2**63 - 1)
        species = design(num_orders, families_per_order, genera_per_family, species_per_genus)
        self.splits = tuple(split for split in SPLITS if per_class[split])
        counts = {split: per_class[split] * len(species) for split in self.splits}
        plan = Plan(species, counts, image_size, float(mark_size), seed)
        self.folder = cache_folder(root) / plan.folder_name
        if not self.folder.exists():
            write_once(plan, self.folder, num_processes)
        self._taxonomy = Taxonomy(LEVELS, [one.path for one in species])
        self._annotations = read_annotations(self.folder)
        self._records = {split: _records(plan, split, str(self.folder)) for split in self.splits}

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree of order, family, genus and species."""
        return self._taxonomy

    def records(self, split: str) -> Records:
        """Return the pictures of a split; the species take turns."""
        if split not in self._records:
            raise UsageError(f"generated birds: no {split!r} split; there are {list(self.splits)}")
        return self._records[split]

    def annotations(self, split: str, index: int) -> Annotations:
        """Return the boxes of the object and of the mark, and the visible body parts."""
        rows = zip(BOXES, self._annotations[f"{split}_boxes"][index].tolist(), strict=True)
        points = zip(PARTS, self._annotations[f"{split}_points"][index].tolist(), strict=True)
        # A hidden part is NaN, which is not equal to itself.
        return Annotations(
            {name: tuple(row) for name, row in rows}, {part: (x, y) for part, (x, y) in points if x == x}
        )


def _records(plan: Plan, split: str, folder: str) -> Records:
    indices = range(plan.counts[split])
    return Records((plan.path(split, i) for i in indices), [i % len(plan.species) for i in indices], folder)


def _check(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"generated birds: {key} is {value}; choose {least} to {most}")
