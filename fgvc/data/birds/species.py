"""The invented birds: which silhouette, beak, tail, plumage and mark make each species, and what it is called."""

from dataclasses import dataclass

from fgvc.errors import UsageError

Colour = tuple[int, int, int]

LEVELS = ("order", "family", "genus", "species")


@dataclass(frozen=True)
class Palette:
    """The plumage of a genus. Colours are RGB; `mark` is shared by all its species, so it tells none of them apart."""

    word: str
    stem: str
    back: Colour
    belly: Colour
    head: Colour
    wing: Colour
    bill: Colour
    leg: Colour
    mark_word: str
    mark: Colour


@dataclass(frozen=True)
class Species:
    """A species to draw.

    path: names from order to species.
    silhouette: key of `bird_shapes.ANATOMIES`.
    beak, tail: keys of `bird_shapes.BEAKS` and `bird_shapes.TAILS`.
    palette: the colours of the genus.
    mark: key of `MARKS`, the body part that carries the mark.
    """

    path: tuple[str, str, str, str]
    silhouette: str
    beak: str
    tail: str
    palette: Palette
    mark: str


@dataclass(frozen=True)
class _Order:
    name: str
    silhouette: str
    # One row per family: name, beak, tail, English noun, ending of the genus names.
    families: tuple[tuple[str, str, str, str, str], ...]


MARKS = {
    "crown": "capped",
    "breast": "breasted",
    "rump": "rumped",
    "cheek": "cheeked",
    "shoulder": "shouldered",
    "throat": "throated",
    "tail": "tailed",
    "eye": "eyed",
}
"""Body part -> the word it gives to a species' name."""

_WHITE, _GOLD, _IVORY = (250, 248, 244), (252, 214, 70), (250, 234, 196)
_HORN, _SLATE, _CORAL, _AMBER, _FLESH = (74, 66, 58), (70, 76, 84), (206, 92, 62), (222, 158, 54), (192, 142, 124)

PALETTES = (
    Palette(
        "azure", "Azur", (62, 104, 168), (198, 134, 92), (74, 120, 184), (48, 84, 146), _SLATE, _HORN, "white", _WHITE
    ),
    Palette(
        "rust", "Rufo", (150, 84, 48), (188, 166, 132), (166, 92, 56), (124, 76, 50), _HORN, _FLESH, "ivory", _IVORY
    ),
    Palette("moss", "Viri", (98, 122, 58), (149, 142, 77), (112, 132, 66), (84, 102, 58), _HORN, _SLATE, "gold", _GOLD),
    Palette(
        "plum", "Purpu", (112, 70, 116), (176, 140, 164), (128, 78, 120), (92, 62, 100), _AMBER, _HORN, "white", _WHITE
    ),
    Palette(
        "slate",
        "Plumbe",
        (104, 114, 126),
        (166, 172, 176),
        (92, 102, 116),
        (84, 92, 106),
        _CORAL,
        _CORAL,
        "white",
        _WHITE,
    ),
    Palette(
        "ochre",
        "Ochra",
        (176, 130, 56),
        (196, 170, 112),
        (184, 132, 52),
        (140, 102, 54),
        _SLATE,
        _SLATE,
        "ivory",
        _IVORY,
    ),
    Palette(
        "teal", "Glauc", (48, 124, 124), (146, 172, 152), (56, 130, 120), (42, 100, 108), _AMBER, _AMBER, "gold", _GOLD
    ),
    Palette(
        "rose", "Rosa", (168, 98, 106), (198, 152, 146), (182, 94, 104), (134, 84, 92), _HORN, _FLESH, "white", _WHITE
    ),
    Palette(
        "umber", "Umbra", (108, 88, 70), (170, 126, 82), (118, 94, 76), (94, 76, 62), _AMBER, _AMBER, "ivory", _IVORY
    ),
    Palette(
        "indigo", "Indi", (76, 78, 142), (142, 142, 176), (86, 84, 150), (64, 66, 120), _CORAL, _SLATE, "gold", _GOLD
    ),
    Palette(
        "copper",
        "Cupri",
        (182, 106, 58),
        (120, 132, 142),
        (188, 108, 62),
        (142, 88, 58),
        _SLATE,
        _HORN,
        "white",
        _WHITE,
    ),
    Palette(
        "fern", "Filic", (70, 132, 86), (188, 160, 106), (82, 144, 92), (58, 106, 76), _CORAL, _FLESH, "ivory", _IVORY
    ),
)

ORDERS = (
    _Order(
        "Ramiformes",
        "percher",
        (
            ("Conifurcidae", "cone", "forked", "twigfinch", "fringa"),
            ("Aculatidae", "needle", "fan", "leafflit", "sylva"),
            ("Uncicaudidae", "hook", "pointed", "thornbill", "lanis"),
            ("Falcirostridae", "sickle", "square", "vinecreeper", "certha"),
        ),
    ),
    _Order(
        "Limiformes",
        "wader",
        (
            ("Longirostridae", "needle", "square", "mudstilt", "crura"),
            ("Arcurostridae", "sickle", "pointed", "shorewhistler", "numena"),
            ("Spatulidae", "flat", "fan", "reedspoon", "talea"),
            ("Brevirostridae", "cone", "forked", "pebblerunner", "vanella"),
        ),
    ),
    _Order(
        "Undiformes",
        "swimmer",
        (
            ("Planirostridae", "flat", "pointed", "pondduck", "netta"),
            ("Mergulidae", "needle", "fan", "divebill", "mergia"),
            ("Hamulidae", "hook", "square", "hooknose", "larida"),
            ("Anserellidae", "cone", "forked", "marshgoose", "branita"),
        ),
    ),
    _Order(
        "Vigiliformes",
        "watcher",
        (
            ("Uncirostridae", "hook", "square", "duskowl", "strixa"),
            ("Accipellidae", "cone", "forked", "cliffhawk", "buteola"),
            ("Noctuellidae", "needle", "fan", "mothhunter", "nyctis"),
            ("Gypsidae", "sickle", "pointed", "cragvulture", "gypa"),
        ),
    ),
)


def design(
    num_orders: int = 3, families_per_order: int = 2, genera_per_family: int = 2, species_per_genus: int = 4
) -> list[Species]:
    """Return the species of a tree of this size, relatives next to each other.

    Raises:
        UsageError: a number is below 1 or above what there are shapes, palettes and marks for.
    """
    _check("num_orders", num_orders, len(ORDERS))
    _check("families_per_order", families_per_order, len(ORDERS[0].families))
    _check("genera_per_family", genera_per_family, len(PALETTES))
    _check("species_per_genus", species_per_genus, len(MARKS))
    return [
        _species(
            order, family, (order * families_per_order + family) * genera_per_family + genus, number, species_per_genus
        )
        for order in range(num_orders)
        for family in range(families_per_order)
        for genus in range(genera_per_family)
        for number in range(species_per_genus)
    ]


def _species(order: int, family: int, genus: int, number: int, species_per_genus: int) -> Species:
    kind = ORDERS[order]
    family_name, beak, tail, noun, ending = kind.families[family]
    palette = PALETTES[genus % len(PALETTES)]
    # Sister species carry marks far apart; the next genus starts at another body part, so no mark belongs to a genus.
    stride = 2 if 2 * species_per_genus <= len(MARKS) else 1
    mark = list(MARKS)[(genus + stride * number) % len(MARKS)]
    name = f"{palette.mark_word}-{MARKS[mark]} {palette.word} {noun}"
    return Species((kind.name, family_name, palette.stem + ending, name), kind.silhouette, beak, tail, palette, mark)


def _check(key: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"generated birds: {key} is {value}; choose 1 to {most}")
