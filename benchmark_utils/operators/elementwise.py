"""Modulus and clipping of each coordinate: operators that are not linear, with posteriors that are known."""

import math

import torch
from deepinv.physics import Physics

OPERATORS = ("modulus", "clip")
CLIP = 4.0  # half the distance between neighbouring modes of the Gaussian mixture


def elementwise(name):
    """``modulus``, ``A(x) = |x|``, or ``clip``, ``A(x) = clip(x, -4, 4)``; raises ValueError for another name."""
    if name not in OPERATORS:
        raise ValueError(f"unknown operator {name!r}; known: {', '.join(OPERATORS)}")
    return {"modulus": Modulus, "clip": Clip}[name]()


class Elementwise(Physics):
    """A piecewise linear function of each coordinate of signals of any shape.

    ``pieces`` are ``(from, to, slope, intercept)``: on them, a Gaussian prior has a truncated Gaussian as posterior.
    """

    idempotent = True
    pieces: tuple[tuple[float, float, float, float], ...]


class Modulus(Elementwise):
    """``A(x) = |x|``: the signs are lost."""

    pieces = ((-math.inf, 0.0, -1.0, 0.0), (0.0, math.inf, 1.0, 0.0))

    def A(self, x, **_):
        return x.abs()


class Clip(Elementwise):
    """``A(x) = clip(x, -4, 4)``: what lies beyond is lost, with the gradient."""

    pieces = ((-math.inf, -CLIP, 0.0, -CLIP), (-CLIP, CLIP, 1.0, 0.0), (CLIP, math.inf, 0.0, CLIP))

    def A(self, x, **_):
        return torch.clamp(x, -CLIP, CLIP)
