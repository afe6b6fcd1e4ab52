"""Super-resolution: averages over blocks or bicubic downsampling, both with their SVD."""

import torch
import torch.nn.functional as F
from deepinv.physics import DecomposablePhysics

from benchmark_utils.operators.separable import Separable, orthonormal_dct

KINDS = ("average", "bicubic")


def super_resolution(kind, factor, shape):
    """Downsampling of images (3, H, W) by ``factor``, ``kind`` being ``average`` or ``bicubic``.

    Raises ValueError for another kind, or if the factor is not an integer above 1 that divides H and W.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown downsampling {kind!r}; known: {', '.join(KINDS)}")
    return {"average": BlockAverage, "bicubic": Bicubic}[kind](factor, shape)


def check_factor(factor, img_size):
    _, height, width = img_size
    if factor != int(factor) or factor < 2 or height % factor or width % factor:
        raise ValueError(
            f"the factor must be an integer above 1 that divides the image size, got factor={factor}, "
            f"size {height}x{width}"
        )


class BlockAverage(DecomposablePhysics):
    """Mean over ``factor`` x ``factor`` blocks of each channel: (n, C, H, W) -> (n, C, H/factor, W/factor).

    The orthonormal DCT of every block gives the SVD: the block's mean is its first coefficient divided by
    ``factor``, so that singular value is ``1 / factor`` and all others are 0. The spectrum has the shape of
    the image; coefficient (u, v) of block (i, j) lies at ``[i factor + u, j factor + v]``. This is the
    super-resolution of DDRM (Kawar et al. 2022, https://arxiv.org/abs/2201.11793) and MGDM.

    Raises ValueError if the factor does not divide H and W.
    """

    def __init__(self, factor, img_size):
        check_factor(factor, img_size)
        _, height, width = img_size
        singular_values = torch.zeros(1, 1, height, width, dtype=torch.float64)
        singular_values[..., ::factor, ::factor] = 1 / factor
        super().__init__(img_size=tuple(img_size), mask=singular_values)
        self.factor = factor
        self.register_buffer("dct", orthonormal_dct(factor))

    def A(self, x, **_):
        return F.avg_pool2d(x, self.factor)

    def A_adjoint(self, y, **_):
        return y.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3) / self.factor**2

    def V_adjoint(self, x):
        return self._transform_blocks(x, self.dct)

    def V(self, spectrum, **_):
        return self._transform_blocks(spectrum, self.dct.mT)

    def U(self, spectrum):
        return spectrum[..., :: self.factor, :: self.factor]

    def U_adjoint(self, y, **_):
        spectrum = y.new_zeros(*y.shape[:2], y.shape[2] * self.factor, y.shape[3] * self.factor)
        spectrum[..., :: self.factor, :: self.factor] = y
        return spectrum

    def _transform_blocks(self, x, matrix):
        blocks = x.unflatten(3, (-1, self.factor)).unflatten(2, (-1, self.factor))
        return torch.einsum("ui,ncaibj,vj->ncaubv", matrix, blocks, matrix).reshape(x.shape)


class Bicubic(Separable):
    """Antialiased bicubic downsampling: (n, C, H, W) -> (n, C, H/factor, W/factor).

    The cubic of Keys (1981, "Cubic convolution interpolation for digital image processing", a = -1/2) stretched
    by ``factor`` and centred on each block, its weights renormalised at the border: what Pillow and torchvision
    compute when they resize. deepinv's ``Downsampling("bicubic")`` has the same weights centred
    ``factor / 2 - 1`` pixels before the middle of the block.

    Raises ValueError if the factor does not divide H and W.
    """

    def __init__(self, factor, img_size):
        check_factor(factor, img_size)
        _, height, width = img_size
        super().__init__(bicubic_matrix(height, factor), bicubic_matrix(width, factor), img_size)


def bicubic_matrix(size, factor):
    """Matrix (size/factor, size) of the 1-D downsampling; column j is the downsampled j-th unit vector."""
    identity = torch.eye(size, dtype=torch.float64)[None, None]
    return F.interpolate(identity, (size // factor, size), mode="bicubic", antialias=True)[0, 0]
