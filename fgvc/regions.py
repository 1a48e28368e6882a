"""Boxes and resampling on tensors. Boxes are xyxy fractions of the image they lie in.

Runs in float32 with autocast off: a bf16 sampling grid is off by half a pixel at 400.
Shape letters: N images, K boxes per image, S side of the source image, s side wanted.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate


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


def to_photograph(boxes: Tensor, view: Tensor) -> Tensor:
    """Map boxes from the shown part back to the upright photograph.

    Args:
        boxes: (N, K, 4) xyxy fractions of the image that the model saw.
        view: (N, 4) xyxy fractions of the photograph that the image shows; x1 > x2 where it is mirrored.

    Returns:
        (N, K, 4) xyxy fractions of the photograph.
    """
    origin, extent = view[:, None, :2], view[:, None, 2:] - view[:, None, :2]
    corners = torch.stack((origin + boxes[..., :2] * extent, origin + boxes[..., 2:] * extent))
    return torch.cat((corners.amin(dim=0), corners.amax(dim=0)), dim=-1)
