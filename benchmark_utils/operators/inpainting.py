"""Masks: some pixels are seen, the others are zero in the measurement and carry no noise."""

import torch
from deepinv.physics import Inpainting

MASKS = ("box", "half")


def inpainting(mask, shape):
    """deepinv ``Inpainting`` for images (3, H, W) in [-1, 1]; the measurement keeps their shape.

    ``box`` hides rows and columns 50..199 of a 256-px image, ``half`` its right half (MGDM, Janati et al. 2025,
    https://arxiv.org/abs/2502.03332, section 5); both scale with the resolution. Raises ValueError for another
    name.
    """
    if mask not in MASKS:
        raise ValueError(f"unknown mask {mask!r}; known masks: {', '.join(MASKS)}")
    _, height, width = shape
    seen = torch.ones(shape)
    if mask == "box":
        seen[:, 50 * height // 256 : 200 * height // 256, 50 * width // 256 : 200 * width // 256] = 0
    else:
        seen[:, :, width // 2 :] = 0
    return Inpainting(img_size=tuple(shape), mask=seen)
