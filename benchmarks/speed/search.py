"""The nearest vectors of a gallery: seconds and peak memory of exact search, and a graph's recall and speed-up.

    python -m benchmarks.speed.search --gallery 100000 --queries 100000 --threads 2
    python -m benchmarks.speed.search --gallery 100000 --queries 100000 --threads 2 --approximate

Random vectors about random centres, none negative, as features of many networks are; those of images lie more densely
or less, which changes a graph's recall and not the time of exact search. The graph needs `pip install 'fgvc[search]'`;
`--graph_queries` of the queries are asked of both, for recall@k and for the seconds per query. Memory is the peak of
the process after the vectors were made, less what it held before the search.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.machine import hardware
from fgvc.prediction.retrieval.approximate import ApproximateSearch
from fgvc.prediction.retrieval.nearest import ExactSearch


def made_up(n: int, d: int, seed: int, clusters: int = 200) -> np.ndarray:
    """Return (n, d) float32, a block at a time."""
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(clusters, d)).astype(np.float32)
    vectors = np.empty((n, d), np.float32)
    for start in range(0, n, 4096):
        rows = vectors[start : start + 4096]
        dice.standard_normal(out=rows, dtype=np.float32)
        rows += centres[dice.integers(0, clusters, len(rows))]
        np.maximum(rows, 0, out=rows)
    return vectors


def peak() -> float:
    """Return the most memory that the process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(words: Sequence[str] | None = None) -> int:
    """Search and print the figures."""
    args = arguments(words)
    torch.set_num_threads(args.threads)
    gallery, queries = made_up(args.gallery, args.d, 1), made_up(args.queries, args.d, 2)
    print(
        f"{hardware()}\n{args.queries} queries, {args.gallery} vectors of {args.d} numbers, {args.metric}, k {args.k}"
    )
    ExactSearch(gallery[:64], args.metric).nearest(queries[:64], min(args.k, 8))  # libraries are loaded at first use
    before, start, busy = peak(), time.perf_counter(), time.process_time()
    exact = ExactSearch(gallery, args.metric)
    truth = exact.nearest(queries, args.k)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"exact: {seconds:.1f} s ({busy:.1f} s of all threads), {peak() - before:.0f} MB above the vectors")
    products = args.queries * args.gallery * args.d * 2 / seconds / 1e9
    print(f"{1000 * seconds / args.queries:.3f} ms a query, {products:.0f} thousand million operations a second")
    if args.approximate:
        asked = queries[: args.graph_queries]
        before, start = peak(), time.perf_counter()
        graph = ApproximateSearch(gallery, args.metric)
        built = time.perf_counter() - start
        start = time.perf_counter()
        found = graph.nearest(asked, args.k)
        answered = time.perf_counter() - start
        start = time.perf_counter()
        exact.nearest(asked, args.k)
        ratio = (time.perf_counter() - start) / answered
        pairs = zip(found.places.tolist(), truth.places.tolist(), strict=False)
        recall = np.mean([len(set(one) & set(other)) / args.k for one, other in pairs])
        print(f"graph: built in {built:.1f} s, {peak() - before:.0f} MB; {len(asked)} queries in {answered:.2f} s,")
        print(f"{ratio:.1f} times as fast as exact search of the same, recall@{args.k} {recall:.4f}")
        saved = seconds / args.queries - answered / len(asked)
        print(f"pays from {built / saved:,.0f} queries on" if saved > 0 else "never pays here")
    return 0


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"gallery": 100_000, "queries": 100_000, "d": 1280, "k": 10, "threads": 2, "graph_queries": 1000}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--metric", choices=("cosine", "euclidean"), default="cosine")
    parser.add_argument("--approximate", action="store_true", help="the graph too")
    args = parser.parse_args(words)
    if min(getattr(args, name) for name in numbers) < 1:
        parser.error(f"{', '.join(numbers)} must be at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
