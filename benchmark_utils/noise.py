"""Noise models: how a measurement is drawn from its noise-free value, and its likelihood."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from benchmark_utils.rng import RNG


class NoiseModel(Protocol):
    """What a problem asks of its noise."""

    def sample(self, clean: Tensor, rng: RNG) -> Tensor:
        """A noisy measurement for each row of ``clean`` (n, *measurement)."""

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """``log p(y | clean)`` up to a constant, summed over each row: (n,)."""

    def misfit(self, y: Tensor, clean: Tensor, n_observed: int | Tensor) -> Tensor:
        """Squared distance of ``y`` from ``clean`` in units of the noise, per row: about 1 at the truth."""


@dataclass(frozen=True)
class GaussianNoise:
    """Additive Gaussian noise of standard deviation ``std``, in the units of the measurement."""

    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"noise_std must be positive, got {self.std}")

    def sample(self, clean: Tensor, rng: RNG) -> Tensor:
        """A noisy measurement for each row of ``clean`` (n, *measurement)."""
        return clean + self.std * rng.randn(*clean.shape[1:])

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """``log p(y | clean)`` up to a constant, summed over each row: (n,)."""
        return -(y - clean).square().flatten(1).sum(1) / (2 * self.std**2)

    def misfit(self, y: Tensor, clean: Tensor, n_observed: int | Tensor) -> Tensor:
        """``||y - clean||^2 / (n_observed std^2)`` per row: about 1 at the truth."""
        return (y - clean).square().flatten(1).sum(1) / (n_observed * self.std**2)


@dataclass(frozen=True)
class NoNoise(GaussianNoise):
    """A measurement without noise, to which the likelihood grants the standard deviation ``std`` all the same.

    For music source separation, as MGDM (Janati et al. 2025, https://arxiv.org/abs/2502.03332, section 5), std 1e-4.
    """

    def sample(self, clean: Tensor, rng: RNG) -> Tensor:
        return clean


@dataclass(frozen=True)
class PoissonNoise:
    """Photon counts: ``k ~ Poisson(mu)`` with ``mu = 255 rate clamp((A(x) + 1) / 2, 1e-3, 1)``.

    The measurement is scaled back to the range of the image, ``y = 2 k / (255 rate) - 1``: the scaling of DPS
    (Chung et al. 2023, https://arxiv.org/abs/2209.14687), where ``rate = 1`` counts grey levels. A hidden entry of
    a mask is 0 in y and in A(x): it adds a constant to the log-likelihood and 0 to the misfit.
    """

    rate: float = 0.05

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"the Poisson rate must be positive, got {self.rate}")

    def intensity(self, clean: Tensor) -> Tensor:
        """Expected counts mu of ``clean``; constant, without gradient, where ``clean`` leaves [-1, 1]."""
        return 255 * self.rate * ((clean + 1) / 2).clamp(1e-3, 1)

    @property
    def gain(self) -> float:
        """Counts per unit of y."""
        return 255 * self.rate / 2

    def counts(self, y: Tensor) -> Tensor:
        return (y + 1) * self.gain

    def sample(self, clean: Tensor, rng: RNG) -> Tensor:
        """A noisy measurement for each row of ``clean`` (n, *measurement), by inverting the distribution function."""
        from scipy.stats import poisson  # a second to import, so only when drawn

        uniform = rng.rand(*clean.shape[1:])
        k = torch.from_numpy(poisson.ppf(uniform.cpu().numpy(), self.intensity(clean).cpu().numpy()))
        return 2 * k.clamp(min=0).to(clean) / (255 * self.rate) - 1  # ppf(0) is -1

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """``log p(y | clean) = sum k ln mu - mu - ln Gamma(k + 1)``, summed over each row: (n,)."""
        k, mu = self.counts(y), self.intensity(clean)
        return (torch.xlogy(k, mu) - mu - torch.lgamma(k + 1)).flatten(1).sum(1)

    def misfit(self, y: Tensor, clean: Tensor, n_observed: int | Tensor) -> Tensor:
        """``sum (k - mu)^2 / mu / n_observed`` per row: about 1 at the truth."""
        mu = self.intensity(clean)
        return ((self.counts(y) - mu).square() / mu).flatten(1).sum(1) / n_observed


@dataclass(frozen=True)
class LabelTilt:
    """A label instead of a noisy measurement: y is one-hot, (n, C), and ``A(x) = log p(k | x)`` for the C classes.

    The likelihood is ``p(label | x)^weight``, so that the posterior is ``p(x) p(label | x)^w``, the law that
    classifier-free guidance means by ``p(x | label)^w p(x)^(1 - w)`` (Ho & Salimans 2022,
    https://arxiv.org/abs/2207.12598); ``weight = 1`` is the conditional law, 0 the prior.
    """

    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"the weight of a label must be a number of 0 or more, got {self.weight}")

    def label_of(self, y: Tensor) -> Tensor:
        """The class of each row, (n,)."""
        return y.argmax(1)

    def sample(self, clean: Tensor, rng: RNG) -> Tensor:
        return clean

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """``weight log p(label | x)``: (n,)."""
        return self.weight * (y * clean).sum(1)

    def misfit(self, y: Tensor, clean: Tensor, n_observed: int | Tensor) -> Tensor:
        """``-log p(label | x)`` per row."""
        return -(y * clean).sum(1)


@dataclass(frozen=True)
class TextTilt(LabelTilt):
    """The same for a text: y holds its embedding, (n, size). No p(text | x) is known, only denoisers given the text."""

    def label_of(self, y: Tensor) -> Tensor:
        """The embedding of each row, (n, size)."""
        return y


def estimate_noise_std(y: Tensor, seen: Tensor | None = None) -> float:
    """Robust estimate of the standard deviation of white noise in images (n, C, H, W), one for all.

    The median absolute value of the diagonal details of the finest Haar wavelet, ``(a - b - c + d) / 2`` of blocks of
    2 x 2 pixels, divided by 0.6745 (Donoho and Johnstone 1994, https://doi.org/10.1093/biomet/81.3.425). Of blocks
    that ``seen`` (broadcast to y) does not show whole, nothing is taken.

    Raises ValueError where there are no such blocks, or if their details are mostly 0.
    """
    if y.ndim != 4 or min(y.shape[2:]) < 2:
        raise ValueError(
            f"noise_std=estimate is for measurements that are images, these have shape {tuple(y.shape[1:])}: "
            "give a number"
        )
    height, width = (size // 2 * 2 for size in y.shape[2:])
    blocks = y.double()[..., :height, :width].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    details = (blocks[..., 0, :, 0] - blocks[..., 0, :, 1] - blocks[..., 1, :, 0] + blocks[..., 1, :, 1]) / 2
    if seen is not None:
        shown = seen.expand(y.shape)[..., :height, :width].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        details = details[shown.all(dim=5).all(dim=3)]
    std = float(details.abs().median() / 0.6745) if details.numel() else 0.0
    if std == 0:
        raise ValueError("noise_std=estimate finds no noise in the finest details of the measurements: give a number")
    return std
