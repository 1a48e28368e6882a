"""An answer together with how it came about: what each part of the method saw, what it guessed, where evidence lies.

Shape letters: N images, H, W the photograph, K boxes per image, h, w grid of a heat map.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.boxes import Box
from fgvc.images.pictures import Picture, pixels_with_warning
from fgvc.images.regions import within
from fgvc.images.resizing import resize_for_eval
from fgvc.methods.recognizers.ensemble import Ensemble
from fgvc.prediction.explain.heat_map import Heat, heat_maps
from fgvc.prediction.predictor import Predictor
from fgvc.prediction.results import Guess, Result

HeatMap = npt.NDArray[np.float32]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass
class View:
    """A part of the method.

    name: scale1, part1, fused ...; box1, box2 ... for a box that no part of the method names alone.
    top: its best leaves, best first, calibrated with the temperatures of the final answer; empty for such a box.
    box: what it saw, xyxy as fractions of the upright photograph; None where it joins what others saw.
    heat: (h, w) 0..1 over its box, for the class of the final answer; None where it has no box or nobody asked.
    """

    name: str
    top: list[Guess]
    box: Box | None = None
    heat: HeatMap | None = None


@dataclass
class Explanation(Result):
    """A Result that says more.

    width, height: of the upright photograph, in pixels.
    seen: the part of it that was handed to the model, xyxy as fractions.
    heat: (h, w) 0..1 over the part that was seen, for the class of the final answer; None where nobody asked.
    views: the parts of the method, in their order; empty where it has none.
    parts: the names of the boxes where the method names them.
    points: name of a body part -> (x, y) as fractions of the upright photograph, of those that it takes for visible.
    picture: name of the drawing's file.
    """

    width: int | None = None
    height: int | None = None
    seen: Box = WHOLE
    heat: HeatMap | None = None
    views: list[View] = field(default_factory=list)
    picture: str | None = None
    parts: tuple[str, ...] = ()
    points: dict[str, tuple[float, float]] = field(default_factory=dict)

    def named_boxes(self) -> list[tuple[str | None, Box]]:
        """Return the boxes, each with the name of the view that saw it, or of its part, where there is one."""
        free = [view for view in self.views if view.box is not None]
        named: list[tuple[str | None, Box]] = []
        names = self.parts if len(self.parts) == len(self.boxes or []) else ()
        for i, box in enumerate(self.boxes or []):
            view = next((view for view in free if np.allclose(view.box or WHOLE, box, atol=1e-5)), None)
            free = [other for other in free if other is not view]
            named.append((view.name if view else names[i] if names else None, box))
        return named

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON knows it; boxes are in pixels of the upright photograph."""
        plain = {
            key: value for key, value in super().to_dict().items() if key not in ("seen", "heat", "parts", "points")
        }
        if self.points:
            sides = (self.width or 0, self.height or 0)
            plain["points"] = {
                name: [round(x * side, 1) for x, side in zip(point, sides, strict=True)]
                for name, point in self.points.items()
            }
        boxes = None if self.boxes is None else [{"name": n, "box": self._pixels(b)} for n, b in self.named_boxes()]
        views = [
            {
                "name": view.name,
                "box": None if view.box is None else self._pixels(view.box),
                "top": [guess._asdict() for guess in view.top],
            }
            for view in self.views
        ]
        return {**plain, "boxes": boxes, "views": views}

    def _pixels(self, box: Box) -> list[float]:
        """Return x1, y1, x2, y2 in pixels from the upper left corner, to a tenth."""
        sides = (self.width or 0, self.height or 0) * 2
        return [round(x * side, 1) for x, side in zip(box, sides, strict=True)]


def explain(predictor: Predictor, photograph: Picture, top_k: int = 3, heat: bool = True) -> Explanation:
    """Name what is in a photograph and tell how.

    Args:
        predictor: the model.
        photograph: (H, W, 3) uint8 RGB, upright, or what else is one picture for `Predictor.predict`.
        top_k: guesses per view.
        heat: whether to make the heat maps too.

    Raises:
        ImageError: the picture cannot be read.
        UsageError: no single picture, or an ensemble.
        FgvcError: the network's scores are not numbers.
    """
    if isinstance(predictor.model.recognizer, Ensemble):
        raise UsageError("an ensemble looks with several networks at once; explain one of its members")
    pixels, warning = pixels_with_warning(photograph)
    square, seen = resize_for_eval(pixels, predictor.model.resize)
    images = torch.from_numpy(square).permute(2, 0, 1)[None].to(predictor.device)
    recognizer = predictor.model.recognizer
    if heat:
        found = heat_maps(recognizer, images, in_place=True)
    else:
        with torch.inference_mode():
            found = Heat(recognizer(images), None, {}, None)
    prediction, frame = found.prediction, torch.from_numpy(seen)[None]
    with torch.inference_mode():
        scores = predictor.probabilities(prediction.logits)
    boxes = None if prediction.boxes is None else within(_on_cpu(prediction.boxes), frame)
    explanation = Explanation(
        **vars(predictor.answers(scores, boxes, top_k)[0]),
        width=pixels.shape[1],
        height=pixels.shape[0],
        seen=_box(frame),
        heat=_first(found.whole),
        views=[_view(n, v, predictor, frame, top_k, found.views.get(n)) for n, v in prediction.views.items()],
    )
    explanation.warning = warning
    explanation.parts = recognizer.parts
    if prediction.points is not None:
        explanation.points = _points(prediction.points[0], recognizer.points, seen)
    known = {view.name for view in explanation.views if view.box is not None}
    for i, (name, box) in enumerate(explanation.named_boxes()):
        if name not in known:
            heat_map = None if found.boxes is None else _first(found.boxes[:, i])
            explanation.views.append(View(name or f"box{i + 1}", [], box, heat_map))
    return explanation


def _points(points: Tensor, names: tuple[str, ...], seen: npt.NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """Return the points (P, 2) of what was seen that are known, by their names, as fractions of the photograph."""
    origin, extent = torch.from_numpy(seen[:2]), torch.from_numpy(seen[2:] - seen[:2])
    places = (origin + _on_cpu(points) * extent).tolist()
    return {name: (x, y) for name, (x, y) in zip(names, places, strict=True) if x == x}


def _view(name: str, view: Prediction, predictor: Predictor, frame: Tensor, top_k: int, heat: Tensor | None) -> View:
    with torch.inference_mode():
        scores = predictor.probabilities(view.logits)
    box = None if view.boxes is None or view.boxes.shape[1] != 1 else _box(within(_on_cpu(view.boxes), frame))
    return View(name, predictor.answers(scores, None, top_k)[0].top, box, None if box is None else _first(heat))


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu()


def _first(maps: Tensor | None) -> HeatMap | None:
    return None if maps is None else np.asarray(_on_cpu(maps[0]).numpy(), dtype=np.float32)


def _box(boxes: Tensor) -> Box:
    """Return the only box of (1, 4) or (1, 1, 4)."""
    x1, y1, x2, y2 = boxes.flatten().tolist()
    return x1, y1, x2, y2
