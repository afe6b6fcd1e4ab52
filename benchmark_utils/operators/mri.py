"""Magnetic resonance imaging: some columns of the Fourier transform."""

import torch
from deepinv.physics import DecomposablePhysics

from benchmark_utils.operators.channelwise import ShownByAdjoint
from benchmark_utils.rng import RNG

ACCELERATION = 4
CENTRE = 0.08  # fraction of the columns that is always seen, as in deepinv's generators of masks


def mri(acceleration, shape):
    """:class:`MRI` of images (C, H, W) with one column in ``acceleration``; see :func:`random_columns`."""
    return MRI(random_columns(shape[-1], acceleration), shape)


def random_columns(width, acceleration):
    """Column numbers of the Fourier transform, frequency 0 first: with k also -k, at most one in ``acceleration``.

    The lowest frequencies, ``CENTRE`` of all columns, are always there, the others are drawn without replacement,
    once for all images. Raises ValueError unless 1 < acceleration <= width.
    """
    if not 1 < acceleration <= width:
        raise ValueError(f"acceleration must lie above 1 and be at most {width}, the image's width, got {acceleration}")
    n_pairs = int((width / acceleration - 1) / 2)
    n_centre = min(n_pairs, int(CENTRE * width) // 2)
    high = torch.arange(n_centre + 1, (width + 1) // 2)
    order = RNG(0, "operator", "mri", (0,), dtype=torch.float64).rand(len(high))[0].argsort()
    positive = torch.cat([torch.arange(1, n_centre + 1), high[order[: n_pairs - n_centre]].sort().values])
    return torch.cat([torch.zeros(1, dtype=torch.long), positive, width - positive.flip(0)])


class MRI(ShownByAdjoint, DecomposablePhysics):
    """Columns of the orthonormal 2-D Fourier transform F of each channel: (n, C, H, W) -> (n, 2 C, H, columns).

    The first C channels of y are real parts, the others imaginary parts. ``columns`` must have -k with k. Since F of
    a real image is conjugate symmetric, each value is then seen twice, with its own noise: ``A^T A`` is a projection,
    all singular values are 1 or 0, and an x that fits y exactly has a data misfit of about 1/2.

    ``V`` is the Hartley transform ``Re F - Im F``, which is real, orthonormal and its own inverse; the spectrum has
    the shape of the image. deepinv's ``MRI`` is this operator, zeros for the unseen columns, on complex images.

    Raises ValueError if a column lacks its mirror image.
    """

    def __init__(self, columns, img_size):
        width = img_size[-1]
        seen = torch.zeros(width, dtype=torch.float64)
        seen[columns] = 1
        if not torch.equal(seen, seen[-torch.arange(width)]):
            raise ValueError(f"the columns of an MRI mask must have -k with k, got {columns.tolist()} of {width}")
        super().__init__(img_size=tuple(img_size), mask=seen.view(1, 1, 1, -1))
        self.register_buffer("columns", columns)

    def A(self, x, **_):
        seen = torch.fft.fft2(x, norm="ortho")[..., self.columns]
        return torch.cat([seen.real, seen.imag], 1)

    def A_adjoint(self, y, **_):
        real, imaginary = y.chunk(2, 1)
        spectrum = torch.complex(real, imaginary).new_zeros(*real.shape[:-1], self.img_size[-1])
        spectrum[..., self.columns] = torch.complex(real, imaginary)
        return torch.fft.ifft2(spectrum, norm="ortho").real

    def V(self, spectrum, **_):
        transformed = torch.fft.fft2(spectrum, norm="ortho")
        return transformed.real - transformed.imag

    def V_adjoint(self, x):
        return self.V(x)

    def U(self, spectrum):
        return self.A(self.V(spectrum))

    def U_adjoint(self, y, **_):
        return self.V(self.A_adjoint(y))
