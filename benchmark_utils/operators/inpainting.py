"""Masks: some pixels are seen, the others are zero in the measurement and carry no noise."""

import torch
from deepinv.physics import Inpainting

from benchmark_utils.operators.per_image import PerImage
from benchmark_utils.rng import RNG

MASKS = ("box", "half", "random")
HIDDEN = 0.7


class RandomInpainting(PerImage, Inpainting):
    """deepinv ``Inpainting`` with one mask (n, 1, H, W) per image."""

    per_image = ("mask",)


def inpainting(mask, shape, images=None, hidden=None):
    """deepinv ``Inpainting`` for images (3, H, W) in [-1, 1]; the measurement keeps their shape.

    ``box`` hides rows and columns 50..199 of a 256-px image, ``half`` its right half (MGDM, Janati et al. 2025,
    https://arxiv.org/abs/2502.03332, section 5); both scale with the resolution. ``random`` hides the fraction
    ``hidden`` of the pixels, all channels at once (DPS, Chung et al. 2023, https://arxiv.org/abs/2209.14687: 0.7),
    the same number in every image; the mask belongs to the image number in ``images``, whatever the run's seed.
    Raises ValueError for another name, for a fraction that hides no pixel or all, for one that is given with another
    mask, and for ``random`` without ``images``.
    """
    if mask not in MASKS:
        raise ValueError(f"unknown mask {mask!r}; known masks: {', '.join(MASKS)}")
    if mask == "random":
        masks = random_masks(shape, images, HIDDEN if hidden is None else hidden)
        return RandomInpainting(img_size=tuple(shape), mask=masks)
    if hidden is not None:
        raise ValueError(f"hidden={hidden} is for mask=random: mask={mask} hides a fixed part of the image")
    _, height, width = shape
    seen = torch.ones(shape)
    if mask == "box":
        seen[:, 50 * height // 256 : 200 * height // 256, 50 * width // 256 : 200 * width // 256] = 0
    else:
        seen[:, :, width // 2 :] = 0
    return Inpainting(img_size=tuple(shape), mask=seen)


def random_masks(shape, images, hidden):
    """One mask per image, (n, 1, H, W): 0 at ``round(hidden H W)`` pixels drawn without replacement, else 1."""
    if images is None:
        raise ValueError("a random mask belongs to an image: pass the image numbers as images")
    _, height, width = shape
    n_hidden = round(hidden * height * width)
    if not 0 < n_hidden < height * width:
        raise ValueError(f"hidden must lie in (0, 1) and leave some of {height}x{width} pixels, got {hidden}")
    order = RNG(0, "operator", "random", images, dtype=torch.float64).rand(height * width).argsort(1)
    seen = torch.ones(len(images), height * width)
    seen.scatter_(1, order[:, :n_hidden], 0)
    return seen.view(-1, 1, height, width)
