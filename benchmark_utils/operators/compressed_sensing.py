"""Compressed sensing: random projections of an image."""

import hashlib

import torch

from benchmark_utils.operators.channelwise import MAX_PIXELS, ChannelwiseSVD, ShownByAdjoint, stored_svd
from benchmark_utils.operators.iterative import Iterative
from benchmark_utils.operators.single_pixel import count
from benchmark_utils.rng import stream_seed

FRACTION = 0.1
MAX_BYTES = 4e9


def compressed_sensing(fraction, shape):
    """``round(fraction H W)`` random projections of each channel of images (C, H, W), with the SVD up to 64 px.

    Raises ValueError if there are none or more than pixels, and if their matrix would not fit in 4 GB.
    """
    n_pixels, n_measurements = shape[1] * shape[2], count(fraction, shape)
    size = 8 * n_measurements * n_pixels
    if size > MAX_BYTES:
        raise ValueError(
            f"compressed sensing with fraction={fraction} of {shape[1]}x{shape[2]} images needs a matrix of "
            f"{size / 1e9:.1f} GB: take a fraction of at most {MAX_BYTES / 8 / n_pixels**2:.2g}, or single_pixel"
        )
    matrix = gaussian_matrix(n_measurements, n_pixels)
    if n_pixels > MAX_PIXELS:
        return Projections(matrix, shape)
    svd = stored_svd(lambda drawn: matrix, "compressed_sensing", drawn=hashlib.sha256(matrix.numpy()).hexdigest())
    return DecomposedProjections(**svd, img_size=shape, measured=(n_measurements,))


def gaussian_matrix(n_measurements, n_pixels):
    """Draws of ``N(0, 1 / m)``, (m, d), those of deepinv's ``CompressedSensing``; always the same ones."""
    generator = torch.Generator().manual_seed(stream_seed(0, "operator", "compressed_sensing", n_measurements))
    return torch.randn(n_measurements, n_pixels, generator=generator, dtype=torch.float64) / n_measurements**0.5


class DecomposedProjections(ShownByAdjoint, ChannelwiseSVD):
    """Random projections (n, C, H, W) -> (n, C, m) by their SVD."""


class Projections(ShownByAdjoint, Iterative):
    """``A(x) = M x`` on each channel by the matrix ``M`` (m, H W): (n, C, H, W) -> (n, C, m)."""

    def __init__(self, matrix, img_size):
        super().__init__(img_size)
        self.register_buffer("matrix", matrix)

    def A(self, x, **_):
        return x.flatten(2) @ self.matrix.mT

    def A_adjoint(self, y, **_):
        return (y @ self.matrix).unflatten(2, self.img_size[1:])
