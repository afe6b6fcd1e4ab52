"""The single-pixel camera: sums over patterns of an image."""

from deepinv.physics import DecomposablePhysics
from deepinv.physics.singlepixel import hadamard_2d, zig_zag_mask

from benchmark_utils.operators.channelwise import ShownByAdjoint

FRACTION = 0.25


def single_pixel(fraction, shape):
    """:class:`SinglePixel` of images (C, H, W) with ``round(fraction H W)`` patterns.

    Raises ValueError unless H and W are powers of 2 and the patterns are at least 1 and at most H W.
    """
    _, height, width = shape
    if height & (height - 1) or width & (width - 1):
        raise ValueError(f"the single-pixel camera needs sizes that are powers of 2, got {height}x{width}")
    return SinglePixel(count(fraction, shape), shape)


def count(fraction, shape):
    """Number of measurements of one channel; raises ValueError if there are none, or more than pixels."""
    n_pixels = shape[1] * shape[2]
    n_measurements = round(fraction * n_pixels)
    if not 1 <= n_measurements <= n_pixels:
        raise ValueError(f"fraction must lie in (0, 1] and leave a measurement of {n_pixels} pixels, got {fraction}")
    return n_measurements


class SinglePixel(ShownByAdjoint, DecomposablePhysics):
    """The first coefficients of the orthonormal 2-D Hadamard transform: (n, C, H, W) -> (n, C, n_patterns).

    In zig-zag order of their sequency, the lowest first. The operator of deepinv's ``SinglePixelCamera`` with
    ``ordering="zig_zag"``, whose measurement has zeros for the other coefficients. V is the Hadamard transform, and
    the spectrum has the shape of the image.
    """

    def __init__(self, n_patterns, img_size):
        mask = zig_zag_mask((1, *img_size[1:]), n_patterns).double()
        super().__init__(img_size=tuple(img_size), mask=mask)
        self.register_buffer("seen", mask.flatten().nonzero()[:, 0])

    def V(self, spectrum, **_):
        return hadamard_2d(spectrum)

    def V_adjoint(self, x):
        return hadamard_2d(x)

    def U(self, spectrum):
        return spectrum.flatten(2)[..., self.seen]

    def U_adjoint(self, y, **_):
        spectrum = y.new_zeros(*y.shape[:2], self.mask.numel())
        spectrum[..., self.seen] = y
        return spectrum.unflatten(2, self.img_size[1:])
