"""Images with independent heavy-tailed Haar coefficients: exact denoisers, and exact posteriors that are not Gaussian.

``x = W^T (m + s * c)`` with W the orthonormal Haar transform (Mallat 1989, https://doi.org/10.1109/34.192463; by
``ptwt``) of an orthonormal colour basis, c independent Laplace or Student coefficients of scale 1 and s a scale for
each band, fitted by ``scripts/train/faces64_haar.py``. The coarsest blocks are half an image wide, so that its right
half cuts no wavelet. Both laws are Gaussian scale mixtures (Andrews & Mallows 1974), ``c = sqrt(w) g`` with ``g`` a
standard normal and ``u = log w`` of a smooth density: the trapezoidal rule in u converges exponentially, and turns the
law of a coefficient given its measurement into a finite mixture of Gaussians.
"""

import importlib
import math

import torch

from benchmark_utils.files.weights import Asset, read_safetensors
from benchmark_utils.operators.separable import orthonormal_dct
from benchmark_utils.priors.base import LoadedPrior, PriorSpec, rows_of_level
from benchmark_utils.schedule import NoiseSchedule

# nodes of u, from, to and step: means to 1e-6 scales (Student 1e-7) for coefficients of up to 80 scales
NODES = {"laplace": (-16.0, 5.5, 0.125), "student": (-3.5, 20.1, 0.4)}
DEGREES = 3  # of Student's law: a finite variance, and no fourth moment
FLAT = 1e3  # sigma / scale above which Laplace's law is flat under the noise: derivatives of erfcx cancel there


def import_ptwt():
    """The wavelet transform's package; raises FileNotFoundError, saying how to install it."""
    try:
        return importlib.import_module("ptwt")
    except ImportError as error:
        remedy = 'the Haar priors need the package ptwt: pip install ".[wavelets]" -c constraints.txt'
        raise FileNotFoundError(remedy) from error


class Scales(Asset):
    """The shipped scales, of no use without ``ptwt``."""

    def require(self):
        super().require()
        import_ptwt()


class Haar:
    """The transform of images (C, H, W): ``coefficients`` (n, C, H, W) -> (n, C, H W) and ``image``, its inverse.

    The coarsest averages come first, then for each scale, coarse to fine, its three details. ``bands`` (H W,) numbers
    them. Raises ValueError unless H = W is a power of 2 above 1.
    """

    def __init__(self, shape):
        channels, size, width = shape
        self.levels = size.bit_length() - 2 if size > 2 else 1
        if size != width or size < 2 or size & (size - 1):
            raise ValueError(f"the Haar basis is for square images whose side is a power of 2, got {shape}")
        self.wavelets = import_ptwt()
        self.shape, coarsest = shape, size >> self.levels
        self.sides = [coarsest, *(coarsest << k for k in range(self.levels) for _ in range(3))]
        self.bands = torch.cat([torch.full((side**2,), number) for number, side in enumerate(self.sides)])
        self.colours = orthonormal_dct(channels)

    def coefficients(self, x):
        x = torch.einsum("ij,njhw->nihw", self.colours.to(x), x)
        averages, *details = self.wavelets.wavedec2(x, "haar", level=self.levels, mode="zero")
        return torch.cat([part.flatten(2) for part in (averages, *(d for level in details for d in level))], 2)

    def image(self, coefficients):
        parts = coefficients.split([side**2 for side in self.sides], 2)
        averages, *details = (p.unflatten(2, (side, side)) for p, side in zip(parts, self.sides, strict=True))
        levels = [tuple(details[3 * k : 3 * k + 3]) for k in range(self.levels)]
        return torch.einsum(
            "ij,nihw->njhw", self.colours.to(averages), self.wavelets.waverec2((averages, *levels), "haar")
        )

    def gains(self, operator, device="cpu"):
        """``d`` (1, C, H W) if ``W A^T A W^T = diag(d)``, see :meth:`separates`."""
        ones = torch.ones(1, self.shape[0], len(self.bands), dtype=torch.float64, device=device)
        return self.coefficients(operator.A_adjoint(operator.A(self.image(ones)))).clamp(min=0)

    def separates(self, operator):
        """Whether ``W A^T A W^T`` is diagonal, so that measured coefficients stay independent; by random vectors.

        False for an operator with ``pieces``, which is not linear, and for a mask of more than one row. Any other is a
        ``DecomposablePhysics`` of images of this shape; its errors are raised.
        """
        if hasattr(operator, "pieces") or (operator.mask.ndim > len(self.shape) and len(operator.mask) > 1):
            return False
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(1, self.shape[0], len(self.bands), generator=generator, dtype=torch.float64)
        found = self.coefficients(operator.A_adjoint(operator.A(self.image(probe))))
        return torch.allclose(found, self.gains(operator) * probe, atol=1e-8)


class HaarPrior(LoadedPrior):
    """Independent coefficients in float64.

    Parameters
    ----------
    law : ``laplace`` or ``student``, of DEGREES degrees of freedom
    scales : (C, bands); location : (C, coefficients of the coarsest averages), the means of these.
    """

    dtype = torch.float64

    def __init__(self, law, scales, location, shape, device="cpu"):
        self.device = torch.device(device)
        self.event_shape = self.signal_shape = tuple(shape)
        self.schedule = NoiseSchedule.linear()
        self.law, self.transform = law, Haar(shape)
        to = {"dtype": self.dtype, "device": self.device}
        self.transform.colours = self.transform.colours.to(self.device)
        self.scales = scales.to(**to)[:, self.transform.bands.to(self.device)]  # (C, H W)
        rest = self.scales.shape[1] - location.shape[1]
        self.location = torch.nn.functional.pad(location.to(**to), (0, rest))
        # numbers, not tensors: a loop over them moves nothing to the device
        self.mixture = [(math.exp(u), weight) for u, weight in mixing_law(law)]

    def denoise_sigma(self, x, sigma):
        """``E[x_0 | x_0 + sigma eps = x]``, coefficient by coefficient."""
        sigma = rows_of_level(sigma, x).view(-1, 1, 1)
        z = self.transform.coefficients(x) - self.location
        shrink = laplace_mean if self.law == "laplace" else self.mixture_mean
        return self.transform.image(self.location + shrink(z, self.scales, sigma))

    def mixture_mean(self, z, scale, sigma):
        """``E[c | c + sigma g = z]`` of coefficients of this scale by quadrature, error below 1e-6 scales."""
        precision, numerator, denominator = 1 / sigma.square(), 0.0, 0.0
        for weight, variance in self.nodes(scale, precision, precision * z):
            numerator, denominator = numerator + weight * variance, denominator + weight
        return numerator / denominator * precision * z

    def nodes(self, scale, precision, pull):
        """Unnormalised weight and posterior variance of each node of w, for coefficients of this scale.

        ``precision`` is 1 / variance of the noise with which they are seen, 0 where they are not; ``pull`` is what was
        measured times that.
        """

        def posterior_variance(w):
            return 1 / (1 / (scale.square() * w) + precision)

        widest = posterior_variance(self.mixture[-1][0])  # its exponent is the largest
        for w, weight in self.mixture:
            variance = posterior_variance(w)
            shrink = variance / (scale.square() * w)
            yield weight * shrink.sqrt() * (pull.square() * (variance - widest) / 2).exp(), variance

    def sample(self, n, generator):
        """``n`` draws of x_0, (n, C, H, W)."""
        shape, options = (n, *self.scales.shape), {"dtype": self.dtype, "device": self.device, "generator": generator}
        c = torch.randn(shape, **options)
        if self.law == "laplace":
            c = c * (-2 * torch.rand(shape, **options).clamp(min=1e-300).log()).sqrt()
        else:
            c = c * (DEGREES / sum(torch.randn(shape, **options).square() for _ in range(DEGREES))).sqrt()
        return self.transform.image(self.location + self.scales * c)

    def posterior(self, problem):
        """The exact posterior where the operator keeps the coefficients apart; see :class:`HaarPosterior`."""
        return HaarPosterior(self, problem)


class HaarPosterior:
    """``p(x | y)`` for ``W A^T A W^T = diag(d)`` and Gaussian noise: independent one-dimensional laws.

    ``W A^T y / std^2 = d / std^2 c + noise`` is sufficient: with w, the coefficient is Gaussian, and the weights of the
    nodes of w given y are sums of one dimension. Attributes: ``mean`` (n, C, H, W), ``trace_cov`` (n,).
    """

    def __init__(self, prior, problem):
        if "closed_form" not in problem.capabilities:
            raise ValueError(f"{problem.task} mixes Haar coefficients: the posterior is not known")
        gains = prior.transform.gains(problem.operator, problem.y.device)
        self.prior, self.precision = prior, gains / problem.noise.std**2
        projected = prior.transform.coefficients(problem.operator.A_adjoint(problem.y.to(prior.dtype)))
        self.pull = projected / problem.noise.std**2 - self.precision * prior.location
        self.total, first, second = 0.0, 0.0, 0.0
        for weight, variance in self.nodes(self.pull):
            mean = variance * self.pull
            self.total, first = self.total + weight, first + weight * mean
            second = second + weight * (variance + mean.square())
        mean, self.second = first / self.total, second / self.total
        self.mean = prior.transform.image(mean + prior.location)
        self.trace_cov = (self.second - mean.square()).flatten(1).sum(1)

    def nodes(self, pull):
        return self.prior.nodes(self.prior.scales, self.precision, pull)

    def sample(self, rng):
        """Exact draws (n', C, H, W), one per row of ``rng``, which has n' / n rows per row of the problem."""
        repeats = len(rng.images) // len(self.pull)
        pull = self.pull.repeat_interleave(repeats, 0)
        threshold = self.total.repeat_interleave(repeats, 0) * rng.rand(*pull.shape[1:])
        chosen, reached = torch.zeros_like(pull), torch.zeros_like(pull)
        for weight, variance in self.nodes(pull):
            reached = reached + weight
            chosen = torch.where((chosen == 0) & (reached > threshold), variance, chosen)
        # where rounding lets no node reach the threshold, the last one
        variance = torch.where(chosen == 0, variance, chosen)
        c = variance * pull + variance.sqrt() * rng.randn(*pull.shape[1:])
        return self.prior.transform.image(self.prior.location + c)


def laplace_mean(z, scale, sigma):
    """``E[c | c + sigma g = z]`` for c of density ``exp(-|c| / scale) / (2 scale)``.

    ``z - sigma^2 / scale (e_+ - e_-) / (e_+ + e_-)`` with ``e_+- = erfcx((sigma / scale -+ z / sigma) / sqrt(2))``;
    under far wider noise the mean of the law tilted by ``exp(z c / sigma^2)``.
    """
    slope, position = sigma / scale, z / sigma
    flat = (slope > FLAT) & (position.abs() < slope / 10)
    tilt = torch.where(flat, position / slope, 0.0)
    slope = torch.where(flat, FLAT, slope)  # finite derivatives of what is not taken
    # beyond -25 the ratio is 1 to rounding, and erfcx would overflow
    plus, minus = (torch.special.erfcx(((slope - sign * position) / 2**0.5).clamp(min=-25)) for sign in (1, -1))
    return torch.where(
        flat, 2 * scale * tilt / (1 - tilt.square()), z - sigma * slope * ((plus - minus) / (plus + minus))
    )


def mixing_law(law):
    """Nodes u = log w and their weights, which sum to 1: w exponential of mean 2 (Laplace), or inverse gamma."""
    low, high, step = NODES[law]
    nodes = [low + step * k for k in range(round((high - low) / step) + 1)]
    if law == "laplace":
        weights = [math.exp(u - math.exp(u) / 2) for u in nodes]
    else:
        weights = [math.exp(-DEGREES / 2 * (u + math.exp(-u))) for u in nodes]
    return [(u, weight / sum(weights)) for u, weight in zip(nodes, weights, strict=True)]


def haar(law):
    weights, shape = Scales("faces64/faces64_haar.safetensors"), (3, 64, 64)

    def load(device):
        tensors = read_safetensors(weights.find())
        return HaarPrior(law, tensors[law].double(), tensors["location"].double(), shape, device)

    return PriorSpec(
        family="ffhq",
        signal_shape=shape,
        load=load,
        closed_form=True,
        weights=weights,
        signal_range=1.0 if law == "laplace" else 10.0,  # of Student's law values far beyond 1 are right
        has_posterior=lambda operator: Haar(shape).separates(operator),  # ptwt only when asked
    )


def haar_laplace():
    """64-px images with Laplace coefficients."""
    return haar("laplace")


def haar_student():
    """64-px images with Student coefficients."""
    return haar("student")


PRIORS = {"haar_laplace": haar_laplace, "haar_student": haar_student}
