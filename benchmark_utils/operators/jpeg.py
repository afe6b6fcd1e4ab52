"""JPEG compression: a real codec for the data and a differentiable one for the likelihood, or the papers' soft one."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from deepinv.physics import Physics
from kornia.enhance import jpeg_codec_differentiable
from PIL import Image

from benchmark_utils.operators.separable import orthonormal_dct

CODECS = ("real", "soft")
QUALITY = 2

# ITU-T T.81, annex K, tables K.1 (luminance) and K.2 (chrominance): rows are vertical frequencies
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# ITU-R BT.601 as in JFIF: rows give Y, Cb - 128, Cr - 128 of an RGB pixel
RGB_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


def jpeg(quality=QUALITY, codec="real"):
    """JPEG of images (n, 3, H, W) in [-1, 1]: :class:`JPEG` for ``codec="real"``, :class:`SoftJPEG` for ``"soft"``.

    Raises ValueError for another codec or a quality that is no whole number of 1..100.
    """
    if codec not in CODECS:
        raise ValueError(f"unknown codec {codec!r}; known: {', '.join(CODECS)}")
    if quality not in range(1, 101):
        raise ValueError(f"the JPEG quality must lie in 1..100, got {quality}")
    return {"real": JPEG, "soft": SoftJPEG}[codec](int(quality))


class JPEG(Physics):
    """What a JPEG file of the given quality decodes to: (n, 3, H, W) -> (n, 3, H, W) in [-1, 1], any size.

    The measurement is real: :meth:`measure` writes the 8-bit image with Pillow (chroma 4:2:0) and reads it back.
    That has no derivative, so :meth:`A`, the likelihood's forward map, is kornia's differentiable codec (Reich et
    al. 2024, "Differentiable JPEG: the devil is in the details", https://arxiv.org/abs/2309.06978), whose rounding
    is ``round(u) + (u - round(u))^3``. The two differ, so the data misfit ``||y - A(x)||^2 / (m sigma^2)`` of the
    true image is not 1 but, at quality 2 and sigma 0.05, 1.6 on average over eight FFHQ images of 256 px and 2.1
    over sixteen of 64 px.
    """

    idempotent = True

    def __init__(self, quality):
        super().__init__()
        self.quality = quality

    def measure(self, x):
        """Decoded JPEG files of ``x``, rounded to 8 bits before and after."""
        pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy()
        decoded = np.stack([self._code_and_decode(image) for image in pixels])
        return (torch.from_numpy(decoded).movedim(-1, 1).to(x) / 127.5) - 1

    def _code_and_decode(self, pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality, subsampling="4:2:0")
        return np.array(Image.open(file))

    def A(self, x, **_):
        quality = torch.full((1,), float(self.quality), dtype=x.dtype)  # on the CPU, since kornia checks its value
        return 2 * jpeg_codec_differentiable((x + 1) / 2, quality) - 1

    def first_guess(self, y):
        return y


class SoftJPEG(Physics):
    """JPEG whose rounding is ``round(u) + (u - round(u))^3``, for the data and the likelihood alike.

    The form used by MGDM (Janati et al. 2025, https://arxiv.org/abs/2502.03332) after DiffJPEG (Shin & Song 2017,
    "JPEG-resistant adversarial images"): pixels in [0, 255], YCbCr, chroma averaged over 2x2 pixels, DCT of 8x8
    blocks, division by the standard tables times ``50 / quality`` (below quality 50; ``2 - quality / 50`` above),
    soft rounding, and back, clamped to [-1, 1]. The scaled tables are neither rounded nor capped at 255 as those of
    a file are: at quality 2 the steps are 250 to 3025 here and 250 to 255 in a file, which keeps more.
    (n, 3, H, W) -> (n, 3, H, W), H and W multiples of 16.
    """

    idempotent = True

    def __init__(self, quality):
        super().__init__()
        scale = 50 / quality if quality < 50 else 2 - quality / 50
        tables = torch.tensor([LUMINANCE, CHROMINANCE], dtype=torch.float64) * scale
        to_ycbcr = torch.tensor(RGB_TO_YCBCR, dtype=torch.float64)
        self.register_buffer("tables", tables.clamp(min=1))
        self.register_buffer("to_ycbcr", to_ycbcr)
        self.register_buffer("to_rgb", to_ycbcr.inverse())
        self.register_buffer("dct", orthonormal_dct(8))

    def A(self, x, **_):
        if x.shape[2] % 16 or x.shape[3] % 16:
            raise ValueError(f"soft JPEG needs sizes that are multiples of 16, got {x.shape[2]}x{x.shape[3]}")
        ycbcr = torch.einsum("dc,nchw->ndhw", self.to_ycbcr, (x + 1) * 127.5)
        luminance = self._quantise(ycbcr[:, :1] - 128, self.tables[0]) + 128
        chrominance = self._quantise(F.avg_pool2d(ycbcr[:, 1:], 2), self.tables[1])
        ycbcr = torch.cat([luminance, F.interpolate(chrominance, scale_factor=2)], 1)
        rgb = torch.einsum("dc,nchw->ndhw", self.to_rgb, ycbcr)
        return rgb.clamp(0, 255) / 127.5 - 1

    def first_guess(self, y):
        return y

    def _quantise(self, planes, table):
        blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))
        u = torch.einsum("ui,ncaibj,vj->ncabuv", self.dct, blocks, self.dct) / table
        nearest = u.round()
        coefficients = (nearest + (u - nearest) ** 3) * table
        return torch.einsum("ui,ncabuv,vj->ncaibj", self.dct, coefficients, self.dct).reshape(planes.shape)
