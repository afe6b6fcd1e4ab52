"""Phase retrieval: the modulus of an oversampled Fourier transform."""

import torch
import torch.nn.functional as F
from deepinv.physics import Physics


class PhaseRetrieval(Physics):
    """``A(x) = |F P (x + 1) / 2|``: (n, C, H, W) in [-1, 1] -> (n, C, H + 2 (H // 4), W + 2 (W // 4)).

    The image, mapped to [0, 1], is padded by zeros (P: a quarter of its size on each side, 64 at 256 px) and
    transformed by the centred orthonormal 2-D Fourier transform F, as in DPS (Chung et al. 2023,
    https://arxiv.org/abs/2209.14687). The gradient of the modulus is taken as 0 where the modulus is 0.
    """

    def A(self, x, **_):
        height, width = x.shape[-2:]
        padded = F.pad((x + 1) / 2, (width // 4, width // 4, height // 4, height // 4))
        spectrum = torch.fft.fft2(torch.fft.ifftshift(padded, dim=(-2, -1)), norm="ortho")
        return torch.fft.fftshift(spectrum, dim=(-2, -1)).abs()

    def picture(self, y, noise):
        """Moduli (n, C, H, W) on a logarithmic scale in units of the noise, each image scaled to [-1, 1]."""
        logarithm = (y.clamp(min=0) / noise.std).log1p()
        return 2 * logarithm / logarithm.amax((1, 2, 3), keepdim=True) - 1
