"""Few-shot classifiers on vectors: seconds for many episodes, against easyfsl's loop over the same ones.

    python -m benchmarks.speed.few_shot --threads 2

Random features of classes about random centres, so the accuracies mean nothing but that both give the same. Both sides
start from the same matrix of features and the same rows, and end with the answers; our side takes a chunk of episodes
at once, from their vectors and from products of all vectors that are taken once (counted), the peer one after the
other, the first `--peer_episodes` of them, scaled to all. They take turns, and the best of `--rounds` counts. A method
that the peer lacks has no ratio.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from easyfsl.methods import FewShotClassifier as Peer
from easyfsl.methods import MatchingNetworks, PrototypicalNetworks, SimpleShot
from torch import Tensor, nn
from torch.nn.functional import one_hot

from benchmarks.machine import hardware
from fgvc.data.episodes import batches, draw
from fgvc.methods.few_shot.base import Episode, FewShotClassifier
from fgvc.methods.few_shot.matching import MatchingClassifier
from fgvc.methods.few_shot.prototypes import PrototypeClassifier
from fgvc.methods.few_shot.ridge import RidgeClassifier
from fgvc.methods.few_shot.simple_shot import SimpleShotClassifier
from fgvc.methods.few_shot.tip_adapter import CacheClassifier
from fgvc.methods.products import ByProducts, products_of_rows


class NoContext(nn.Module):
    """In the place of the peer's LSTM over the support set: adds nothing."""

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        """(1, S, D) -> (1, S, 2D) zeros, which the peer adds."""
        return torch.zeros(1, features.shape[1], 2 * features.shape[2]), None


class Times(nn.Module):
    """In the place of the peer's LSTM cell of the queries, to whose answer it adds the query: scale * query in all."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, both: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(Q, 2D) and the state -> (Q, D) and the same state."""
        return (self.scale - 1) * both[:, : both.shape[1] // 2], state[1]


def methods(d: int, base: Tensor) -> list[tuple[str, FewShotClassifier, Peer | None]]:
    """Return name, ours and the peer's for every method in closed form."""
    centred = SimpleShotClassifier(d)
    centred.prepare(base, torch.zeros(len(base), dtype=torch.int64))
    parts = {"feature_centering": base.mean(dim=0), "feature_normalization": 2.0}
    attention = MatchingNetworks(
        feature_dimension=d, support_encoder=NoContext(), query_encoder=Times(100.0), feature_normalization=2.0
    )
    return [
        ("prototypes", PrototypeClassifier(d), PrototypicalNetworks()),
        ("cosine_prototypes", PrototypeClassifier(d, "cosine"), SimpleShot()),
        ("simple_shot", centred, PrototypicalNetworks(**parts)),
        ("matching", MatchingClassifier(d, 100.0), attention),
        ("ridge", RidgeClassifier(d), None),
        ("tip_adapter", CacheClassifier(d), None),
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Time every method and print the table."""
    args = arguments(words)
    torch.set_num_threads(args.threads)
    features, labels = made_up(args)
    names = [str(one) for one in range(args.classes)]
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    started = now()
    episodes = draw(labels.numpy(), args.ways, args.shots, args.queries, args.episodes, args.seed, names, "features")
    print(f"{hardware()}\n{episodes} of {len(features)} vectors of {args.d} numbers")
    print(f"chunks of {args.chunk}, {args.clock} time")
    print(f"drawing them: {now() - started:.1f} s\n", flush=True)
    support, query = (torch.from_numpy(part).flatten(1) for part in (episodes.support, episodes.query))
    ways = torch.arange(args.ways)
    own, right = ways.repeat_interleave(args.shots), ways.repeat_interleave(args.queries)

    def ours(classifier: FewShotClassifier) -> Tensor:
        answers = []
        for part in batches(episodes, args.chunk):
            rows = support[part]
            episode = Episode(features[rows], own.expand(len(rows), -1), features[query[part]], args.ways)
            answers.append(classifier(episode).argmax(dim=2))
        return torch.cat(answers)

    def by_products(classifier: ByProducts) -> Tensor:
        vectors = classifier.embed(features)
        matrix = vectors @ vectors.T
        ones = one_hot(own, args.ways)
        answers = []
        for part in batches(episodes, 4 * args.chunk):
            some = products_of_rows(matrix, support[part], query[part], ones.expand(len(support[part]), -1, -1))
            answers.append(classifier.score_products(some).argmax(dim=2))
        return torch.cat(answers)

    def theirs(peer: Peer) -> Tensor:
        answers = []
        for rows, asked in zip(support[: args.peer_episodes], query[: args.peer_episodes], strict=True):
            peer.process_support_set(features[rows], own)
            answers.append(peer(features[asked]).argmax(dim=1))
        return torch.stack(answers)

    print("| method | vectors, s | products, s | easyfsl, s | ratios | accuracy | episodes of another accuracy |")
    print("|---|---|---|---|---|---|---|")
    for name, classifier, peer in methods(args.d, made_up(args, seed=1)[0]):
        actions = [partial(ours, classifier), partial(by_products, classifier)]
        with torch.inference_mode():
            seconds, answers = best(actions + ([partial(theirs, peer)] if peer else []), args.rounds, now)
        found = [(one == right).double().mean(dim=1) for one in answers]
        cells = [name, *(f"{one:.2f}" for one in seconds[:2]), "-", "-", f"{found[0].mean():.4f}"]
        if peer:
            scaled = seconds[2] * len(support) / len(found[2])
            cells[3:5] = f"{scaled:.1f}", ", ".join(f"{scaled / one:.1f}" for one in seconds[:2])
        others = [f"{different(found[0], one)} of {len(one)}" for one in found[1:]]
        print("|", " | ".join([*cells, ", ".join(others)]), "|", flush=True)
    return 0


def different(ours: Tensor, theirs: Tensor) -> int:
    """Count the episodes whose accuracy differs, among the first that both answered."""
    return int(((ours[: len(theirs)] - theirs).abs() > 1e-4).sum())


def best(
    actions: Sequence[Callable[[], Tensor]], rounds: int, now: Callable[[], float]
) -> tuple[list[float], list[Tensor]]:
    """Run the actions in turn, and return the least seconds and the last answer of each."""
    least, answers = [float("inf")] * len(actions), [torch.empty(0)] * len(actions)
    for _ in range(rounds):
        for place, action in enumerate(actions):
            begin = now()
            answers[place] = action()
            least[place] = min(least[place], now() - begin)
    return least, answers


def made_up(args: argparse.Namespace, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features (N, D) about centres of their classes, none negative, as of many networks, and labels (N,)."""
    numbers = torch.Generator().manual_seed(args.seed + seed)
    labels = torch.arange(args.classes).repeat_interleave(args.images)
    centres = torch.randn(args.classes, args.d, generator=numbers)
    return (centres[labels] + 8 * torch.randn(len(labels), args.d, generator=numbers)).relu(), labels


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"d": 1280, "classes": 50, "images": 30, "ways": 5, "shots": 5, "queries": 15, "episodes": 10_000}
    numbers |= {"peer_episodes": 1000, "chunk": 64, "rounds": 3, "threads": 2}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: all threads; steadier when busy")
    args = parser.parse_args(words)
    if min(getattr(args, name) for name in numbers) < 1:
        parser.error(f"{', '.join(numbers)} must be at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
