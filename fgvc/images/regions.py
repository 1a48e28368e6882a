"""Boxes and resampling on tensors. Boxes are xyxy fractions of the image they lie in.

Runs in float32 with autocast off: a bf16 sampling grid is off by half a pixel at 400.
Shape letters: N images, K boxes per image, P points, C channels, H, W sides of the source image, S its side where it is
square, s side wanted, T taps of the filter, h, w a grid.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, interpolate


def downscale(images: Tensor, size: int) -> Tensor:
    """Bring square images to the side a network wants, antialiased.

    Args:
        images: (N, 3, S, S) uint8 or float in 0..255.
        size: side wanted, in pixels.

    Returns:
        The images themselves where S is already the side wanted, else (N, 3, s, s) float32 in 0..255.
    """
    if images.shape[-1] == size and images.shape[-2] == size:
        return images
    with torch.autocast(images.device.type, enabled=False):
        return interpolate(images.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)


def crop_and_resize(images: Tensor, boxes: Tensor, size: int, sharpness: float | None = None) -> Tensor:
    """Cut boxes out of images and bring each to s x s pixels, antialiased; differentiable in images and boxes.

    A box lies along the axes, so it is resampled along rows, then along columns, with the weights of an antialiased
    triangle filter: the same picture as Pillow's `resize(box=..., resample=BILINEAR)`.

    Args:
        images: (N, C, H, W) uint8 or float.
        boxes: (N, K, 4) xyxy fractions of the images, inside them.
        size: side wanted, in pixels.
        sharpness: None lets the gradient reach the boxes through the sampling positions (M. Jaderberg and others,
            "Spatial Transformer Networks", 2015). A number k multiplies the image by the boxcar mask of `boxcar` and
            lets the gradient through the mask alone (J. Fu, H. Zheng, T. Mei, "Look Closer to See Better", 2017).

    Returns:
        (N, K, C, s, s) float32.
    """
    number, channels, height, width = images.shape
    crops = number * boxes.shape[1]
    with torch.autocast(images.device.type, enabled=False):
        boxes = boxes.float()
        rows = _taps(boxes[..., 1], boxes[..., 3], size, height, sharpness)
        columns = _taps(boxes[..., 0], boxes[..., 2], size, width, sharpness)
        lines = images.permute(0, 2, 3, 1).contiguous().float().view(number, height, width * channels)
        cut = _weighted_sums(lines, *(part.flatten(1, 2) for part in rows)).view(crops, size, width, channels)
        cut = cut.transpose(1, 2).reshape(crops, width, size * channels)
        cut = _weighted_sums(cut, *(part.flatten(0, 1) for part in columns))
        cut = cut.view(number, boxes.shape[1], size, size, channels)
        return cut.transpose(2, 3).contiguous().permute(0, 1, 4, 2, 3)  # channels last in memory


def _taps(low: Tensor, high: Tensor, size: int, pixels: int, sharpness: float | None) -> tuple[Tensor, Tensor]:
    """Return (N, K, s, T) twice: which pixels of a line of the source add to each pixel of the crop, and how much."""
    steps = (torch.arange(size, device=low.device, dtype=low.dtype) + 0.5) / size
    start, extent = (low * pixels)[..., None], ((high - low) * pixels)[..., None]
    if sharpness is not None:
        start, extent = start.detach(), extent.detach()
    support = (extent / size).clamp_min(1)[..., None]
    middle = (start + extent * steps)[..., None]
    # As many taps as the widest box needs: the number must not hang on values that lie on an accelerator. Those on the
    # very edge are among them: they weigh nothing, but the gradient of a crop at the scale of its source is theirs.
    reach = torch.arange(int(2 * max(1, pixels / size) + 0.5) + 1, device=low.device, dtype=low.dtype)
    places = (middle - support - 0.5).detach().round() + reach
    weights = (1 - (middle - places - 0.5).abs() / support).clamp_min(0) * ((places >= 0) & (places < pixels))
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    if sharpness is not None:
        weights = weights * boxcar(low[..., None], high[..., None], (places + 0.5) / pixels, sharpness)
    return places.long().clamp(0, pixels - 1), weights  # long first: where a box is NaN the place is still a place


def _weighted_sums(lines: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Return (B, Q, F): sums of a few lines each. lines (B, P, F), places (B, Q, T) int64 in 0..P-1, weights (B, Q, T).

    A product with a (Q, P) matrix that is mostly zeros says the same at many times the arithmetic.
    """
    first = torch.arange(len(lines), device=lines.device)[:, None, None] * lines.shape[1]
    found = embedding_bag(
        (places + first).flatten(0, 1), lines.flatten(0, 1), mode="sum", per_sample_weights=weights.flatten(0, 1)
    )
    return found.view(len(lines), places.shape[1], lines.shape[2])


def boxcar(low: Tensor, high: Tensor, places: Tensor, sharpness: float) -> Tensor:
    """Return the soft indicator of an interval: logistic(k (x - low)) - logistic(k (x - high)).

    Args:
        low, high: (...) ends of the intervals.
        places: (P,) where it is wanted, in the same unit.
        sharpness: k, per unit; 10 to 90 % of a rise take 4.39 / k.

    Returns:
        (..., P).
    """
    rise = (sharpness * (places - low[..., None])).sigmoid()
    return rise - (sharpness * (places - high[..., None])).sigmoid()


def erase(images: Tensor, boxes: Tensor, fill: Tensor, sharpness: float) -> Tensor:
    """Paint over a box with soft edges; differentiable in the boxes.

    Args:
        images: (N, C, H, W) uint8 or float.
        boxes: (N, 4) xyxy fractions of the images.
        fill: (1, C, 1, 1) what is painted.
        sharpness: slope of the edges, see `boxcar`.

    Returns:
        (N, C, H, W) float32.
    """
    with torch.autocast(images.device.type, enabled=False):
        boxes, masks = boxes.float(), []
        for axis, pixels in ((0, images.shape[3]), (1, images.shape[2])):
            places = (torch.arange(pixels, device=boxes.device, dtype=boxes.dtype) + 0.5) / pixels
            masks.append(boxcar(boxes[:, axis], boxes[:, axis + 2], places, sharpness))
        mask = masks[1][:, None, :, None] * masks[0][:, None, None, :]
        return images.float().lerp(fill.float(), mask)


def bounded_boxes(raw: Tensor, side_min: float, side_max: float) -> Tensor:
    """Turn any numbers into boxes that lie inside the image, with sides between two bounds; smooth everywhere.

    Args:
        raw: (..., 3) for squares: centre x, centre y, side; (..., 4) for rectangles: centre x, y, width, height.
        side_min, side_max: bounds of the sides, as fractions of the image.

    Returns:
        (..., 4) xyxy.
    """
    sides = side_min + (side_max - side_min) * raw[..., 2:].float().sigmoid()
    half = sides.expand(*raw.shape[:-1], 2) / 2
    centre = half + (1 - 2 * half) * raw[..., :2].float().sigmoid()
    return torch.cat((centre - half, centre + half), dim=-1)


def fitted(boxes: Tensor, side_min: float = 0.0, square: bool = False, margin: float = 0.0) -> Tensor:
    """Enlarge boxes about their centres, then move them into the image.

    Args:
        boxes: (..., 4) xyxy.
        side_min: smallest side wanted.
        square: make both sides as long as the longer one.
        margin: share of each side that is added on either side of it.

    Returns:
        (..., 4) xyxy inside 0..1.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]) * (1 + 2 * margin)
    if square:
        sides = sides.amax(dim=-1, keepdim=True).expand_as(sides)
    half = sides.clamp(side_min, 1) / 2
    centre = (boxes[..., 2:] + boxes[..., :2]) / 2
    centre = torch.minimum(torch.maximum(centre, half), 1 - half)
    return torch.cat((centre - half, centre + half), dim=-1)


def centred_boxes(points: Tensor, side: float) -> Tensor:
    """Return (..., 4): squares of a side around points (..., 2), moved into the image."""
    return fitted(torch.cat((points - side / 2, points + side / 2), dim=-1))


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Return the smallest box around each mask; the whole image where a mask is empty.

    Args:
        masks: (..., h, w) bool on the grid of the image.

    Returns:
        (..., 4) float32 xyxy: edges of the outermost cells.
    """
    ends = []
    for axis in (-2, -1):  # columns that hold something, then rows
        line = masks.any(dim=axis)
        cells = line.shape[-1]
        first = line.long().argmax(dim=-1)
        last = cells - line.flip(-1).long().argmax(dim=-1)
        ends.append((first / cells, last / cells))
    (left, right), (top, bottom) = ends
    return torch.stack((left, top, right, bottom), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Return (...): the areas of boxes (..., 4), 0 where a side is negative."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(dim=-1)


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return (...): the area that boxes (..., 4) share, pair by pair."""
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    return box_area(torch.cat((low, high), dim=-1))


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return (...): intersection over union of boxes (..., 4), pair by pair; 0 for two empty boxes."""
    shared = overlap(first, second)
    union = box_area(first) + box_area(second) - shared
    return shared / union.clamp_min(torch.finfo(union.dtype).tiny)


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Return (..., P) bool: whether points (..., P, 2) lie in boxes (..., 4), edges included."""
    low, high = boxes[..., None, :2], boxes[..., None, 2:]
    return ((points >= low) & (points <= high)).all(dim=-1)


def within(boxes: Tensor, outer: Tensor) -> Tensor:
    """Map boxes given as fractions of a part of an image to fractions of the image.

    Args:
        boxes: (N, K, 4) xyxy fractions of the part.
        outer: (N, 4) xyxy, the part; x1 > x2 where it is mirrored.

    Returns:
        (N, K, 4) xyxy fractions of the image.
    """
    origin, extent = outer[:, None, :2], outer[:, None, 2:] - outer[:, None, :2]
    corners = torch.stack((origin + boxes[..., :2] * extent, origin + boxes[..., 2:] * extent))
    return torch.cat((corners.amin(dim=0), corners.amax(dim=0)), dim=-1)


def whole(images: Tensor) -> Tensor:
    """Return (N, 1, 4) float32: the box that holds all of each image (N, ...)."""
    return torch.tensor([0.0, 0.0, 1.0, 1.0], device=images.device).expand(len(images), 1, 4)
