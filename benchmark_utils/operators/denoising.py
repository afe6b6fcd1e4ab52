"""Denoising: the identity, so that only the noise is left."""

from deepinv.physics import Denoising, ZeroNoise


def denoising(shape):
    """deepinv ``Denoising`` of (n, *shape) signals: ``A = U = V = I``, all singular values 1."""
    return Denoising(noise_model=ZeroNoise(), img_size=tuple(shape))
