"""A trained model that names what is in photographs: `fgvc.load(path).predict(photographs)`.

Shape letters: N images, S side of the square that is read, C classes of a level, L levels, K boxes per image.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fgvc.confidence.vouching import refusal, threshold
from fgvc.errors import FgvcError, UsageError
from fgvc.images.decoding import USUAL, ImageError, Limits
from fgvc.images.pictures import Picture, Square, expand, is_single, path_of, square_of
from fgvc.images.reading import Reading
from fgvc.images.regions import within
from fgvc.methods.devices import device_of
from fgvc.model_file import model
from fgvc.model_file.ensembles import load_many
from fgvc.model_file.model import Model
from fgvc.prediction.inputs import named_in
from fgvc.prediction.results import Guess, Result, Results, vouched
from fgvc.prediction.retrieval.beside import Beside
from fgvc.taxonomy.names import nodes_named
from fgvc.taxonomy.readouts import lineage_log_probs
from fgvc.taxonomy.relatives import ancestors_of, leaves_below
from fgvc.taxonomy.tree import Taxonomy


def load(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], device: str = "auto", limits: Limits = USUAL
) -> "Predictor":
    """Read a trained model from a run folder or a model folder; or several, which answer together.

    Args:
        path: the folder, or a list of folders: the answer is then the mean of their calibrated probabilities.
        device: `auto` (cuda where there is one), `cpu`, `cuda`, `cuda:1` ...
        limits: how large a photograph may be, and of which format.

    Raises:
        ModelFileError: no model there, or a damaged one.
        UsageError: no such device, a limit outside its range, or several models with unlike classes.
    """
    chosen = device_of(device)
    folders = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(one) for one in path]
    found = model.load(folders[0]) if len(folders) == 1 else load_many(folders)
    return Predictor(found, chosen, limits)


class Predictor:
    """A model in evaluation mode on a device.

    Args:
        model: see `fgvc.model_file.model.load`.
        device: where it computes.
        limits: which photographs are read.

    Attributes:
        beside: what `compare_with` was called with.
    """

    def __init__(self, model: Model, device: torch.device | None = None, limits: Limits = USUAL) -> None:
        self.model = model
        self.limits = limits.check()
        self.device = device or torch.device("cpu")
        self.beside: Beside | None = None
        self._shut: dict[str, Tensor] = {}  # level -> (C,) bool, the classes that are not allowed
        # Shrunk pictures lie in memory as (N, S, S, 3); weights of the same format spare a copy per layer.
        self._recognizer = model.recognizer.to(self.device).to(memory_format=torch.channels_last).eval()

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes."""
        return self.model.taxonomy

    def predict(
        self,
        images: Any,
        top_k: int = 5,
        batch_size: int = 32,
        precision: float | None = None,
        path_column: str | None = None,
    ) -> Result | Results:
        """Name what is in one picture or in many.

        Args:
            images: a path, the bytes of a file, a file opened as "rb", a (H, W, 3) RGB or (H, W) grey uint8 array, a
                Pillow picture; or a folder (its pictures at any depth, sorted), a (N, H, W, 3) uint8 array, a table
                with a column `path`; or any iterable of these. Alone, also the path of a table (.csv, .tsv, .parquet)
                or of a list of paths (.txt, "@list"), or a pattern such as "photos/*.jpg".
            top_k: how many guesses to give.
            batch_size: how many pictures the network sees at once.
            precision: the share of answers that must be right, e.g. 0.95: each Result then has the deepest name that
                can be vouched for as its `answer`, see `threshold`.
            path_column: the column of paths in a table that is a file; by default `path`, `file`, `image` and the like.

        Returns:
            A Result for a single picture, Results for a folder or an iterable. There, a picture that cannot be read
            has its place too, with `error` set.

        Raises:
            ImageError: a single picture cannot be read.
            UsageError: something that is no picture, a number below 1, or a precision that cannot be vouched for.
        """
        images = named_in(images, path_column)
        if not is_single(images):
            return Results(self.predict_iter(images, top_k, batch_size, precision))
        result = next(self.predict_iter(images, top_k, batch_size, precision))
        if result.error:
            raise ImageError(result.error)
        return result

    def predict_iter(
        self, images: Any, top_k: int = 5, batch_size: int = 32, precision: float | None = None
    ) -> Iterator[Result]:
        """Yield the results of `predict` as they come; only a few batches are in memory, however many pictures."""
        return self.predict_batches((expand(named_in(images)),), top_k, batch_size, precision)

    def predict_batches(
        self,
        batches: Iterable[Iterable[Picture]],
        top_k: int = 5,
        batch_size: int = 32,
        precision: float | None = None,
    ) -> Iterator[Result]:
        """Yield the results of single pictures that come in batches; each is cut into pieces of `batch_size`.

        The last digits of an answer depend on what else the network sees at once. This tells it.
        """
        for name, number in (("top_k", top_k), ("batch_size", batch_size)):
            if number < 1:
                raise UsageError(f"{name}: {number}; give 1 or more")
            if number > sys.maxsize:
                raise UsageError(f"{name}: {number}; no machine counts so far")
        least = None if precision is None else self.threshold(precision)
        results = self._stream(batches, top_k, batch_size)
        return results if least is None else (vouched(result, least) for result in results)

    def threshold(self, precision: float, delta: float = 0.1) -> float:
        """Return the calibrated probability that a name needs, so that the asked share of the answers is right.

        It was counted on held-out images: with probability 1 - delta over their drawing the promise holds for images
        drawn like them; see `fgvc.confidence.vouching`.

        Raises:
            UsageError: nothing was held out, or too little for this precision.
        """
        if self.model.vouching is None:
            raise UsageError(
                f"precision: {precision:g} cannot be vouched for: no images were held out when this model was made; "
                "run `fgvc calibrate RUN --split SPLIT` on images that it was not trained on"
            )
        found = threshold(self.model.vouching, precision, delta)
        if found is None:
            raise UsageError(refusal(self.model.vouching, precision, delta))
        return found

    def allow(self, names: Iterable[str] | Mapping[str, str]) -> int:
        """Answer these classes only, e.g. what lives here; the others' probability is dealt out among them.

        The precision that can be vouched for was counted without this: together they promise nothing.

        Args:
            names: of leaves, or of what lies above them: a genus allows all of its species. Where several classes
                share a name, a path: "Owls > Strix". A mapping says for each name where it is written, for messages.

        Returns:
            How many leaves are allowed now; earlier calls no longer count.

        Raises:
            UsageError: no name, or one that the model does not know or that several of its classes share.
        """
        names = [names] if isinstance(names, str) else names
        written = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "allow")
        if not written:
            raise UsageError("allow: no class is named; give at least one")
        leaves = leaves_below(self.taxonomy, nodes_named(self.taxonomy, written))
        self._shut = {level: ~kept for level, kept in ancestors_of(self.taxonomy, leaves).items()}
        return int(leaves.sum())

    def compare_with(self, features: str | Path, count: int = 5, splits: Sequence[str] | None = None) -> None:
        """Let every Result tell the photographs that are nearest to it, as its `neighbours`, the nearest first.

        They come from the same pass through the network as the answer.

        Args:
            features: the folder that `fgvc embed` wrote with this model.
            count: how many photographs.
            splits: of the folder; all by default.

        Raises:
            UsageError: no features there, those of another model, or a number below 1.
        """
        self.beside = Beside(self.model, features, count, splits, self.device)

    def scores(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the network.

        Args:
            images: (N, 3, S, S) uint8 RGB.

        Returns:
            level -> (N, C) float32 probabilities, coarse to fine, on the CPU; and boxes (N, K, 4) xyxy as fractions
            of the images, or None.

        Raises:
            UsageError: something else, e.g. floats in 0..1.
            FgvcError: the network answers something that is no number.
        """
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            what = f"{tuple(images.shape)}, {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
            raise UsageError(f"scores: {what}; give a tensor (N, 3, S, S), torch.uint8, RGB in 0..255")
        return self._seen(images)[0]

    def _seen(self, images: Tensor) -> tuple[tuple[dict[str, Tensor], Tensor | None], Tensor]:
        """Return what `scores` does, and the embedding (N, D) of the same pass."""
        with torch.inference_mode():
            prediction = self._recognizer(images.to(self.device))
            scores = self.probabilities(prediction.logits)
        boxes = None if prediction.boxes is None else prediction.boxes.float().cpu()
        return (scores, boxes), prediction.embedding

    def has_boxes(self) -> bool:
        """Whether the answers have boxes; runs the network once."""
        side = self.model.resize.size
        return self.scores(torch.zeros(1, 3, side, side, dtype=torch.uint8))[1] is not None

    def probabilities(self, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn logits, level -> (N, C), into what `scores` answers: calibrated, at every level, on the CPU.

        Raises:
            FgvcError: something that is no number.
        """
        allowed = {
            level: x.masked_fill(self._shut[level].to(x.device), -torch.inf) if self._shut else x
            for level, x in logits.items()
        }
        completed = lineage_log_probs(allowed, self.taxonomy, self.model.temperatures, self.model.readout)
        scores = {level: logs.exp().clamp_max(1).cpu() for level, logs in completed.items()}
        if not all(bool(values.isfinite().all()) for values in scores.values()):
            raise FgvcError("the network's scores are not numbers (NaN): its weights are damaged; copy it again")
        return scores

    def answers(self, scores: Mapping[str, Tensor], boxes: Tensor | None, top_k: int) -> list[Result]:
        """Put names to numbers.

        Args:
            scores: level -> (N, C) probabilities.
            boxes: (N, K, 4) xyxy as fractions of the photographs, or None.
            top_k: how many guesses to give.

        Returns:
            One Result per image, without its path.
        """
        tree, level = self.taxonomy, self.taxonomy.leaf_level
        # Below every probability, as that of a class that is allowed may be 0 too.
        own = scores[level].masked_fill(self._shut.get(level, torch.tensor(False)), -1.0)
        # A stable sort, so that equal scores are told in the order of the classes on every machine.
        ranked, leaves = own.sort(dim=1, descending=True, stable=True)
        results = []
        for i in range(len(ranked)):
            best = zip(leaves[i, :top_k].tolist(), ranked[i, :top_k].tolist(), strict=True)
            top = [Guess(tree.path(leaf)[-1], score, tree.lineage(leaf)) for leaf, score in best if score >= 0]
            found = None if boxes is None else [(b[0], b[1], b[2], b[3]) for b in boxes[i].tolist()]
            nodes = tree.ancestors[leaves[i, 0]].tolist()  # walked up, so that an answer never contradicts itself
            above = {level: float(scores[level][i, node]) for level, node in zip(tree.levels, nodes, strict=True)}
            results.append(Result(None, *top[0], above, top, found))
        return results

    def _stream(self, batches: Iterable[Iterable[Picture]], top_k: int, batch_size: int) -> Iterator[Result]:
        with Reading(self._read, batches, batch_size) as reading:
            for _ in range(1 if self.device.type == "cpu" else 2):
                reading.begin()
            while batch := reading.take():
                # On an accelerator the next pictures are read while the network computes. On the CPU its threads meet
                # at every layer, and one that shares its core with a decoder makes the others wait: they take turns.
                if self.device.type != "cpu":
                    reading.begin()
                answers = self._results([item for item in batch if isinstance(item, Square)], top_k)
                if self.device.type == "cpu":
                    reading.begin()
                for item in batch:
                    yield next(answers) if isinstance(item, Square) else item

    def _read(self, picture: Picture) -> Square | Result:
        try:
            return square_of(picture, self.model.resize, self.limits)
        except ImageError as error:
            return Result(path_of(picture), error=str(error))

    def _results(self, batch: list[Square], top_k: int) -> Iterator[Result]:
        if not batch:
            return iter(())
        pixels = torch.from_numpy(np.stack([square.pixels for square in batch]))
        images = pixels.permute(0, 3, 1, 2)
        (scores, boxes), embedding = (self.scores(images), None) if self.beside is None else self._seen(images)
        if boxes is not None:
            boxes = within(boxes, torch.from_numpy(np.stack([square.view for square in batch])))
        results = self.answers(scores, boxes, top_k)
        for square, result in zip(batch, results, strict=True):
            result.path, result.warning = square.path, square.warning
        if self.beside is not None and embedding is not None:
            near = self.beside.neighbours(embedding, [square.path for square in batch])
            for result, found in zip(results, near, strict=True):
                result.neighbours = found
        return iter(results)
