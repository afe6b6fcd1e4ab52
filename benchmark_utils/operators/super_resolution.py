"""Super-resolution by block averaging, with its SVD in closed form."""

import torch
import torch.nn.functional as F
from deepinv.physics import DecomposablePhysics


class BlockAverage(DecomposablePhysics):
    """Mean over ``factor`` x ``factor`` blocks of each channel: (n, C, H, W) -> (n, C, H/factor, W/factor).

    The orthonormal DCT of every block gives the SVD: the block's mean is its first coefficient divided by
    ``factor``, so that singular value is ``1 / factor`` and all others are 0. The spectrum has the shape of
    the image; coefficient (u, v) of block (i, j) lies at ``[i factor + u, j factor + v]``. This is the
    super-resolution of DDRM (Kawar et al. 2022, https://arxiv.org/abs/2201.11793) and MGDM.

    Raises ValueError if the factor does not divide H and W.
    """

    def __init__(self, factor, img_size):
        _, height, width = img_size
        if height % factor or width % factor:
            raise ValueError(f"the factor must divide the image size, got factor={factor}, size {height}x{width}")
        singular_values = torch.zeros(1, 1, height, width)
        singular_values[..., ::factor, ::factor] = 1 / factor
        super().__init__(img_size=tuple(img_size), mask=singular_values)
        self.factor = factor
        k = torch.arange(factor, dtype=torch.float64)
        dct = torch.cos(torch.pi / factor * (k + 0.5) * k[:, None]) * (2 / factor) ** 0.5
        dct[0] /= 2**0.5
        self.register_buffer("dct", dct)

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
