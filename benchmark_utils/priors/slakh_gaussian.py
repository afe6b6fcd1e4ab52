"""Gaussian priors of four music stems, whose denoiser and whose posterior given the mixture are closed forms.

``slakh_gaussian`` has one power spectral density per stem, of real music: its posterior mean is the Wiener filter.
``slakh_mdct`` lets the level of each stem change with time, after a made-up rhythm with notes and rests: it is
for draws from itself (``tracks=prior``), not for real music. In both, an orthonormal transform T of time makes all
coefficients independent, ``(T x_k)_f ~ N(0, V_k[f])``, and with ``Y = T y``, ``v = sigma_y^2``, ``V_y = sum_k V_k + v``
  E[x_k | x_k + sigma eps] = T^-1 (V_k / (V_k + sigma^2)) T (x_k + sigma eps)
  E[x_k | y] = T^-1 (V_k / V_y) Y,   tr Cov[x | y] = sum_k sum_f V_k (1 - V_k / V_y)
"""

import math

import numpy as np
import torch

from benchmark_utils.files.weights import Asset, read_safetensors
from benchmark_utils.metrics import SAMPLE_RATE, STEMS
from benchmark_utils.operators.stem_sum import StemSum
from benchmark_utils.priors.base import LoadedPrior, PriorSpec, rows_of_level
from benchmark_utils.rng import stream_seed
from benchmark_utils.schedule import NoiseSchedule

WEIGHTS = Asset("slakh/slakh_gaussian.safetensors")
SIGMA_MIN = 5e-4  # of the first level
MDCT_HOP = 512
NOTE = 0.25  # seconds: eighth notes at 120 beats per minute
BAR = 8  # notes
DECAY = (0.25, 0.05, 0.3, 0.4)  # seconds, of bass, drums, guitar, piano
REST_LEVEL = 1e-6  # power of a resting stem


def audio_schedule(sigma_max):
    """1000 levels from 5e-4 to ``sigma_max``, rho 3; with 20, MGDM's levels for audio, https://arxiv.org/abs/2502.03332."""
    return NoiseSchedule.karras(SIGMA_MIN, sigma_max, 3)


class StemGaussian(LoadedPrior):
    """Independent Gaussian coefficients; a subclass defines ``transform`` and ``inverse`` along the last axis of time.

    Parameters
    ----------
    variance : (4, *coefficients)
    multiplicity : (*coefficients), how many real numbers each coefficient stands for, in sums over coefficients.
    """

    dtype = torch.float64

    def __init__(self, variance, multiplicity, length, sigma_max, device):
        self.device = torch.device(device)
        self.event_shape = self.signal_shape = (len(STEMS), length)
        self.schedule = audio_schedule(sigma_max)
        self.variance = variance.to(self.device, self.dtype)
        self.multiplicity = multiplicity.to(self.device, self.dtype)

    def filter(self, x, gain):
        """``T^-1 gain T x`` for (n, stems, length)."""
        return self.inverse(gain * self.transform(x))

    def denoise_sigma(self, x, sigma):
        sigma2 = rows_of_level(sigma, x).square().view(-1, *[1] * self.variance.ndim)
        return self.filter(x, self.variance / (self.variance + sigma2))

    def sample(self, n, generator):
        """``n`` exact draws of x_0, (n, 4, length)."""
        options = {"dtype": self.dtype, "device": self.device, "generator": generator}
        return self.filter(torch.randn(n, *self.event_shape, **options), self.variance.sqrt())

    def posterior(self, problem):
        """The exact posterior given the sum of the stems; see :class:`StemPosterior`."""
        return StemPosterior(self, problem)


class Stationary(StemGaussian):
    """Circulant covariance: T is the discrete Fourier transform, V_k the power spectral density.

    ``density`` (4, bins) is linear between its bins, equally spaced from 0 to half the sample rate.
    """

    def __init__(self, density, length, sigma_max, device="cpu"):
        position = torch.fft.rfftfreq(length, dtype=torch.float64) * 2 * (density.shape[1] - 1)
        multiplicity = torch.full_like(position, 2.0)
        multiplicity[0] = 1
        if length % 2 == 0:
            multiplicity[-1] = 1
        super().__init__(interpolate(density, position), multiplicity, length, sigma_max, device)

    def transform(self, x):
        return torch.fft.rfft(x, norm="ortho")

    def inverse(self, coefficients):
        return torch.fft.irfft(coefficients, self.event_shape[1], norm="ortho")


class TimeVarying(StemGaussian):
    """T is the circular modified discrete cosine transform with a sine window; V_k changes with time.

    Princen and Bradley 1986, "Analysis/synthesis filter bank design based on time domain aliasing cancellation".
    Frame m starts at sample m ``hop`` and has 2 ``hop`` samples; coefficients have shape (frames, hop).
    ``density`` (4, bins) is as for :class:`Stationary`, ``level`` (4, frames) multiplies it.
    """

    def __init__(self, density, level, hop, sigma_max, device="cpu"):
        frequency = torch.arange(hop, dtype=torch.float64) + 0.5
        template = interpolate(density, frequency / hop * (density.shape[1] - 1))
        variance = level[..., None] * template[:, None]
        super().__init__(variance, torch.ones(variance.shape[1:]), level.shape[1] * hop, sigma_max, device)
        self.hop = hop
        time = torch.arange(2 * hop, dtype=torch.float64)[:, None] + 0.5
        window = (2 / hop) ** 0.5 * torch.sin(math.pi / (2 * hop) * time)
        self.basis = (window * torch.cos(math.pi / hop * (time + hop / 2) * frequency)).to(self.device)

    def transform(self, x):
        blocks = x.unflatten(-1, (-1, self.hop))
        return torch.cat([blocks, blocks.roll(-1, -2)], -1) @ self.basis

    def inverse(self, coefficients):
        first, second = (coefficients @ self.basis.mT).split(self.hop, -1)
        return (first + second.roll(1, -2)).flatten(-2)


class StemPosterior:
    """``p(x | y)`` for ``y = x_1 + ... + x_4 + sigma eps`` under independent Gaussian stems.

    Attributes (rows of the problem first)
    ----------
    mean : (n, 4, length), the Wiener filter of y
    trace_cov : (n,) trace of the posterior covariance
    log_evidence : (n,) ``log p(y)``
    """

    def __init__(self, prior, problem):
        if not isinstance(problem.operator, StemSum):
            raise ValueError(f"the closed-form posterior is for the sum of the stems, not for {problem.task}")
        self.prior, self.y, self.noise_std = prior, problem.y, problem.noise.std
        total = prior.variance.sum(0) + self.noise_std**2
        self.gain = prior.variance / total
        self.mean = prior.filter(self.y, self.gain)
        trace = (prior.multiplicity * prior.variance * (1 - self.gain)).sum()
        self.trace_cov = trace.expand(len(self.y))
        energy = prior.transform(self.y)[:, 0].abs().square()
        log_density = -((2 * math.pi * total).log() + energy / total) / 2
        self.log_evidence = (prior.multiplicity * log_density).flatten(1).sum(1)

    def sample(self, rng):
        """Exact draws (n', 4, length), one per row of ``rng``, which has n' / n rows per row of the problem.

        A draw (x', y') of the prior and of its measurement is moved by the Wiener filter of y - y' (Matheron's rule).
        """
        x = self.prior.filter(rng.randn(*self.prior.event_shape), self.prior.variance.sqrt())
        y = x.sum(1, keepdim=True) + self.noise_std * rng.randn(*self.y.shape[1:])
        return x + self.prior.filter(self.y.repeat_interleave(len(y) // len(self.y), 0) - y, self.gain)


def interpolate(density, position):
    """Columns of ``density`` (4, bins) at fractional positions, linear between bins: (4, len(position))."""
    below = position.long().clamp(max=density.shape[1] - 2)
    density = density.double()
    return torch.lerp(density[:, below], density[:, below + 1], position - below)


def made_up_levels(n_frames, hop):
    """Power (4, n_frames) of each stem: notes that decay, and bars of rest drawn once for all (never the first)."""
    note = np.arange(n_frames) * hop / SAMPLE_RATE / NOTE
    bar = (note / BAR).astype(int)
    levels = np.empty((len(STEMS), n_frames))
    for k, decay in enumerate(DECAY):
        generator = np.random.default_rng(stream_seed(0, "truth", "slakh_mdct", k))
        plays = generator.random(bar[-1] + 1) < 0.7
        plays[0] = True
        levels[k] = np.where(plays[bar], np.exp(-2 * (note % 1) * NOTE / decay), REST_LEVEL)
    return torch.from_numpy(levels)


def slakh_density():
    """Power spectral densities (4, bins) of bass, drums, guitar and piano of Track02098 outside the shipped excerpt."""
    return read_safetensors(WEIGHTS.find())["density"]


def slakh_gaussian(length=2**18, sigma_max=20.0):
    """Stationary stems with the densities that ``scripts/train/slakh_gaussian.py`` fitted."""

    def load(device):
        return Stationary(slakh_density(), length, sigma_max, device)

    return PriorSpec(family="audio", signal_shape=(len(STEMS), length), load=load, closed_form=True, weights=WEIGHTS)


def slakh_mdct(length=2**18, sigma_max=20.0):
    """The same densities with levels that change every 23 ms; ``length`` must be a multiple of 512, 1024 or more."""
    if length % MDCT_HOP or length < 2 * MDCT_HOP:
        raise ValueError(f"slakh_mdct needs a length that is a multiple of {MDCT_HOP}, twice or more; got {length}")

    def load(device):
        return TimeVarying(slakh_density(), made_up_levels(length // MDCT_HOP, MDCT_HOP), MDCT_HOP, sigma_max, device)

    return PriorSpec(family="audio", signal_shape=(len(STEMS), length), load=load, closed_form=True, weights=WEIGHTS)


PRIORS = {"slakh_gaussian": slakh_gaussian, "slakh_mdct": slakh_mdct}
