"""Names of classes that are probably no names, or two spellings of one."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from fgvc.errors import UsageError

Path = tuple[str, ...]

NOT_KNOWN = frozenset({"nan", "none", "null", "nil", "na", "n/a", "#n/a", "<na>", "-", "--", "?", "n.a."})
_PARTS = r"train(ing)?|val(id(ation)?)?|dev(elopment)?|test(ing)?|eval(uation)?"
_SPLIT = re.compile(rf"({_PARTS})([\W_]*({_PARTS}))?[\W_]*(set|data|split|images|mini)?[\W_]*\d*", re.IGNORECASE)


def means_not_known(name: str) -> bool:
    """Whether a name is what programs write where nothing is known, such as `NaN`, `None` or `-`."""
    return name.strip().lower() in NOT_KNOWN


def looks_like_split(name: str) -> bool:
    """Whether a name is that of a part of a data set, such as `Training`, `dev` or `train2017`."""
    return _SPLIT.fullmatch(name.strip()) is not None


def spelling(name: str) -> str:
    """Return what is left of a name without case, blanks, underscores, hyphens and the Unicode form."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold()) or name


def similar(paths: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield pairs of nodes whose paths have one spelling, those that lie above first; a pair's children are left out.

    Args:
        paths: of any nodes; what lies above them is looked at too.
    """
    nodes = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
    first: dict[tuple[Path, str], Path] = {}
    for node in sorted(nodes, key=lambda node: (len(node), node)):
        other = first.setdefault((node[:-1], spelling(node[-1])), node)
        if other != node:
            yield other, node


def check_similar(where: str, counts: Mapping[Path, int]) -> None:
    """Raise UsageError where two classes of these photographs differ only in spelling.

    Args:
        where: the file or folder, for the message.
        counts: path of a node -> its photographs.
    """
    for pair in similar(counts):
        one, other = (
            f"{' > '.join(node)!r} ({sum(n for path, n in counts.items() if path[: len(node)] == node)})"
            for node in pair
        )
        raise UsageError(
            f"{where}: classes {one} and {other} differ only in case, blanks, hyphens or Unicode form; give them one "
            "name, or similar_labels: true if they are two classes"
        )
