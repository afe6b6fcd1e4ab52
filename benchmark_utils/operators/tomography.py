"""Parallel-beam tomography."""

import torch
from deepinv.physics.functional import Radon

from benchmark_utils.operators.channelwise import MAX_PIXELS, ChannelwiseSVD, stored_svd
from benchmark_utils.operators.iterative import Iterative

ANGLES = 30


def tomography(angles, shape):
    """Sinograms of images (C, W, W) at ``angles`` angles: with its SVD up to 64 px, else :class:`ParallelBeam`.

    The SVD takes about half a minute of one core at 64 px and 30 angles; it is kept in the cache folder.
    Raises ValueError for images that are not square and for a number of angles that is no whole number of 1 or more.
    """
    _, height, width = shape
    if angles != int(angles) or angles < 1:
        raise ValueError(f"angles must be a whole number of 1 or more, got {angles}")
    if height != width:
        raise ValueError(f"tomography needs square images, got {height}x{width}")
    beam = ParallelBeam(angles, shape)
    if height * width > MAX_PIXELS:
        return beam
    svd = stored_svd(projection_matrix, "tomography", angles=int(angles), width=width)
    return ChannelwiseSVD(**svd, img_size=shape, measured=(svd["left"].shape[0] // int(angles), int(angles)))


class ParallelBeam(Iterative):
    """deepinv's Radon transform over the image's width: (n, C, W, W) -> (n, C, ceil(sqrt(2) W), angles).

    A value is the sum along a ray, of bilinear interpolations one pixel apart, divided by W: the mean, for a ray
    that crosses W pixels. The angles are equidistant in [0, 180) degrees. Rays that miss the image measure noise.
    The adjoint is the transposed interpolation, by a backward pass, so that it is exact; deepinv's ``Tomography`` has
    the same, but keeps the type it was made with.
    """

    def __init__(self, angles, img_size):
        super().__init__(img_size)
        degrees = torch.linspace(0, 180, int(angles) + 1, dtype=torch.float64)[:-1]
        self.radon = Radon(img_size[-1], degrees, dtype=torch.float64)

    def A(self, x, **_):
        return self.radon(x) / x.shape[-1]

    def A_adjoint(self, y, **_):
        _, backward = torch.func.vjp(self.A, y.new_zeros(*y.shape[:2], *self.img_size[1:]))
        return backward(y)[0]


def projection_matrix(angles, width):
    """Matrix (measurements, pixels) of :class:`ParallelBeam` on one channel: what it makes of single pixels."""
    beam = ParallelBeam(angles, (1, width, width))
    pixels = torch.eye(width**2, dtype=torch.float64).view(1, -1, width, width)
    return torch.cat([beam.A(some)[0].flatten(1) for some in pixels.split(128, 1)]).mT
