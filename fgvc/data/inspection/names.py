"""Names of classes that are probably mistakes."""

from collections.abc import Iterator

from fgvc.data.inspection.problems import Problem
from fgvc.taxonomy.suspicious import looks_like_split, means_not_known, similar
from fgvc.taxonomy.tree import Taxonomy


def suspicious_names(taxonomy: Taxonomy) -> Iterator[Problem]:
    """Yield `similar_names` (differ only in spelling), `no_name` (such as NaN) and `split_name` (such as Training)."""
    paths = [taxonomy.path(node) for node in range(taxonomy.num_nodes)]
    for one, other in similar(paths):
        detail = f"differs from {' > '.join(one)!r} only in case, blanks, hyphens or Unicode form"
        yield Problem("similar_names", "", "", " > ".join(other), detail)
    for name in sorted({path[-1] for path in paths}):
        if means_not_known(name):
            yield Problem("no_name", "", "", name, "stands for 'not known' in many tables")
        if looks_like_split(name):
            yield Problem("split_name", "", "", name, "is called like a split; are its pictures those of a class?")


def name_of_parent(taxonomy: Taxonomy) -> list[str]:
    """Return the names of nodes that repeat the name right above them, as a tree of uneven depth has them."""
    paths = (taxonomy.path(node) for node in range(taxonomy.num_nodes))
    return sorted({path[-1] for path in paths if len(path) > 1 and path[-1] == path[-2]})
