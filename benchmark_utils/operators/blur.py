"""Gaussian, motion and nonlinear blur; the sizes are those of a 256-px image and scale with the resolution."""

import torch
import torch.nn.functional as F
from deepinv.physics.generator import MotionBlurGenerator
from scipy.fft import next_fast_len

from benchmark_utils.operators.iterative import Iterative
from benchmark_utils.operators.nonlinear_blur import nonlinear_blur
from benchmark_utils.operators.per_image import PerImage
from benchmark_utils.operators.separable import Separable
from benchmark_utils.rng import stream_seed

KINDS = ("gaussian", "gaussian_reflect", "motion", "nonlinear")
PADDINGS = {"zero": "constant", "reflect": "reflect"}
BLUR_STD = 3


def blur(kind, shape, images, std=None):
    """Blur of images (3, H, W) with these image numbers: ``gaussian`` pads by zeros, ``gaussian_reflect`` and
    ``motion`` by reflection, ``nonlinear`` is a network's. ``std`` (3 unless given) is that of a Gaussian kernel.

    Raises ValueError for another kind, and for a ``std`` that is not positive or is given with another kernel.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown blur {kind!r}; known: {', '.join(KINDS)}")
    if kind in ("motion", "nonlinear") and std is not None:
        raise ValueError(f"blur_std={std} is for the Gaussian blurs: the kernels of blur={kind} are random")
    if kind == "motion":
        return motion_blur(shape, images)
    if kind == "nonlinear":
        return nonlinear_blur(shape, images)
    return gaussian_blur(shape, "zero" if kind == "gaussian" else "reflect", BLUR_STD if std is None else std)


def n_taps(height):
    """Width of a blur kernel: the odd number nearest ``61 H / 256``."""
    return 2 * round((61 * height / 256 - 1) / 2) + 1


def gaussian_blur(shape, padding="zero", std=BLUR_STD):
    """:class:`GaussianBlur` of images (3, H, W) with sigma ``std H / 256`` and :func:`n_taps` taps."""
    if not std > 0:
        raise ValueError(f"blur_std must be positive, got {std}")
    return GaussianBlur(std * shape[1] / 256, n_taps(shape[1]), shape, padding)


class GaussianBlur(Separable):
    """Blur by a normalised Gaussian of ``taps`` x ``taps`` weights: (n, C, H, W) -> (n, C, H, W).

    Sigma 3 and 61 taps at 256 px are those of DPS (Chung et al. 2023, https://arxiv.org/abs/2209.14687), which pads by
    reflection; zero padding, which darkens the border, is that of DDRM's and MGDM's decomposable blur. Those two set
    1-D singular values below 0.03 to 0, a blur of reduced rank; here the SVD is that of the blur itself, for either
    padding, since both are separable. Most singular values at 256 px are far below the noise or 0.

    Raises ValueError for another padding, for an even number of taps, and for a kernel that reflection cannot pad.
    """

    def __init__(self, sigma, taps, img_size, padding="zero"):
        if padding not in PADDINGS:
            raise ValueError(f"unknown padding {padding!r}; known: {', '.join(PADDINGS)}")
        check_taps(taps, img_size)
        offsets = torch.arange(taps, dtype=torch.float64) - taps // 2
        kernel = (-(offsets**2) / (2 * sigma**2)).exp()
        kernel /= kernel.sum()
        _, height, width = img_size
        rows, columns = (convolution_matrix(kernel, size, padding) for size in (height, width))
        super().__init__(rows, columns, img_size)


def check_taps(taps, img_size):
    _, height, width = img_size
    if taps % 2 == 0 or taps // 2 >= min(height, width):
        raise ValueError(
            f"a blur of {height}x{width} images needs an odd number of taps below {2 * min(height, width)}, got {taps}"
        )


def convolution_matrix(kernel, size, padding):
    """Matrix (size, size) of the 1-D convolution by an odd symmetric kernel with padded ends."""
    unit_signals = torch.eye(size, dtype=torch.float64)[:, None]
    padded = F.pad(unit_signals, (len(kernel) // 2,) * 2, mode=PADDINGS[padding])
    return F.conv1d(padded, kernel[None, None])[:, 0].mT


def motion_blur(shape, images):
    """:class:`MotionBlur` of images (3, H, W), one kernel of :func:`n_taps` taps per image number.

    The kernels are trajectories of deepinv's ``MotionBlurGenerator``, Gaussian processes with length scale 0.3
    and standard deviation 0.25 of the kernel's half width (its defaults). The papers draw random walks of
    "intensity" 0.5 by LeviBorodenko's motionblur, which is no package and has another law: kernels of the same
    size and extent, not the same kernels. A kernel belongs to its image number, whatever the run's seed.
    """
    kernels = []
    for image in images:
        generator = torch.Generator().manual_seed(stream_seed(0, "operator", "motion_blur", image))
        trajectory = MotionBlurGenerator(n_taps(shape[1]), rng=generator, dtype=torch.float64)
        kernels.append(trajectory.step()["filter"][0])
    return MotionBlur(torch.stack(kernels), shape)


class MotionBlur(PerImage, Iterative):
    """Convolution of each image with its own kernel, reflect padding: (n, C, H, W) -> (n, C, H, W).

    ``kernels`` (n, 1, taps, taps) are scaled to sum 1. The convolution and its exact adjoint go through FFTs that
    are long enough not to wrap around. There is no SVD.

    Raises ValueError for an even number of taps and for a kernel that reflection cannot pad.
    """

    per_image = ("kernels",)

    def __init__(self, kernels, img_size):
        check_taps(kernels.shape[-1], img_size)
        super().__init__(img_size)
        self.register_buffer("kernels", kernels / kernels.sum((2, 3), keepdim=True))
        self.radius = kernels.shape[-1] // 2
        self.fft_size = tuple(next_fast_len(size + 2 * self.radius, real=True) for size in img_size[1:])

    def A(self, x, **_):
        height, width = x.shape[-2:]
        padded = F.pad(x, (self.radius,) * 4, mode="reflect")
        spectrum = torch.fft.rfft2(self.kernels, self.fft_size) * torch.fft.rfft2(padded, self.fft_size)
        blurred = torch.fft.irfft2(spectrum, self.fft_size)
        first = 2 * self.radius
        return blurred[..., first : first + height, first : first + width]

    def A_adjoint(self, y, **_):
        first = 2 * self.radius
        placed = F.pad(y, (first, 0, first, 0))
        spectrum = torch.fft.rfft2(self.kernels, self.fft_size).conj() * torch.fft.rfft2(placed, self.fft_size)
        padded = torch.fft.irfft2(spectrum, self.fft_size)
        height, width = y.shape[-2:]
        padded = padded[..., : height + first, : width + first]
        return fold_reflection(fold_reflection(padded, self.radius, -2), self.radius, -1)

    def first_guess(self, y):
        return y


def fold_reflection(x, radius, dim):
    """Adjoint of reflect padding by ``radius`` along ``dim``: the padded ends are added where they came from."""
    size = x.shape[dim] - 2 * radius
    folded = x.narrow(dim, radius, size).clone()
    folded.narrow(dim, 1, radius).add_(x.narrow(dim, 0, radius).flip(dim))
    folded.narrow(dim, size - 1 - radius, radius).add_(x.narrow(dim, size + radius, radius).flip(dim))
    return folded
