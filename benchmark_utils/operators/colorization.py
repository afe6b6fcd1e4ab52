"""Colorization: only the mean over the channels is seen."""

import torch
from deepinv.physics import DecomposablePhysics

from benchmark_utils.operators.separable import orthonormal_dct


class Colorization(DecomposablePhysics):
    """Mean over the C channels: (n, C, H, W) -> (n, 1, H, W).

    The orthonormal DCT over the channels gives the SVD: its first coefficient is the mean times ``sqrt(C)``, so
    that singular value is ``1 / sqrt(C)`` and the others are 0. The spectrum has the shape of the image. DDRM and
    DDNM (Wang et al. 2023, https://arxiv.org/abs/2212.00490) use the same mean.
    """

    def __init__(self, img_size):
        n_channels = img_size[0]
        singular_values = torch.zeros(1, n_channels, 1, 1, dtype=torch.float64)
        singular_values[:, 0] = n_channels**-0.5
        super().__init__(img_size=tuple(img_size), mask=singular_values)
        self.register_buffer("dct", orthonormal_dct(n_channels))

    def V_adjoint(self, x):
        return torch.einsum("dc,nchw->ndhw", self.dct, x)

    def V(self, spectrum, **_):
        return torch.einsum("dc,ndhw->nchw", self.dct, spectrum)

    def U(self, spectrum):
        return spectrum[:, :1]

    def U_adjoint(self, y, **_):
        return torch.cat([y, y.new_zeros(len(y), len(self.dct) - 1, *y.shape[2:])], 1)
