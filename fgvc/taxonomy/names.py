"""The nodes of a taxonomy that people name."""

from collections import Counter
from collections.abc import Mapping

from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.tree import Taxonomy


def nodes_named(taxonomy: Taxonomy, written: Mapping[str, str]) -> list[int]:
    """Return the node of each name (at any level) or path ("Owls > Strix").

    A name that is repeated below itself, as in ragged trees, means the highest node.

    Args:
        taxonomy: the classes.
        written: name -> where it is written, for messages.

    Raises:
        UsageError: a name that no class has, or that several classes have which do not lie below each other.
    """
    bearers: dict[str, list[int]] = {}
    for node in range(taxonomy.num_nodes):  # fine to coarse: the node above replaces the one below
        path = taxonomy.path(node)
        for name in {path[-1], " > ".join(path)}:
            apart = [other for other in bearers.get(name, []) if taxonomy.path(other)[: len(path)] != path]
            bearers[name] = [*apart, node]
    for name, where in written.items():
        if name not in bearers:
            rest = len(written.keys() - bearers.keys()) - 1
            more = f" ({rest} more of the {len(written)} names are unknown)" if rest else ""
            raise UsageError(f"{where}: unknown class {name!r}{did_you_mean(name, bearers)}{more}")
        if len(bearers[name]) > 1:
            paths = " or ".join(repr(" > ".join(taxonomy.path(node))) for node in bearers[name])
            raise UsageError(f"{where}: {len(bearers[name])} classes are called {name!r}; give a path: {paths}")
    return [bearers[name][0] for name in written]


def written_names(taxonomy: Taxonomy) -> list[str]:
    """Return the name of each node by which `nodes_named` finds it: its last word, or its path where others bear it."""
    paths = [taxonomy.path(node) for node in range(taxonomy.num_nodes)]
    times = Counter(path[-1] for path in paths)
    return [path[-1] if times[path[-1]] == 1 else " > ".join(path) for path in paths]
