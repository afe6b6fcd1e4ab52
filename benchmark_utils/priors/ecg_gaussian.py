"""Gaussian priors of electrocardiograms, fitted by ``scripts/train/ecg_gaussian.py``: denoiser and posterior are exact.

``ecg_stationary`` knows how every lead goes with every other one and with itself some time before, not where the beats
are: its posterior mean is the multichannel Wiener filter (Wiener 1949, "Extrapolation, Interpolation, and Smoothing of
Stationary Time Series"), its draws are noise with the right cross-spectra. ``ecg_beats`` is of windows around one beat.
"""

import torch

from benchmark_utils.files.ptbxl import BEAT_LENGTH, LEADS, WINDOW_LENGTH
from benchmark_utils.files.weights import Asset, read_safetensors
from benchmark_utils.priors.base import LoadedPrior, PriorSpec, rows_of_level
from benchmark_utils.priors.ecg import SIGNAL_RANGE, check_length
from benchmark_utils.priors.mixture import FactorAnalyserMixture
from benchmark_utils.schedule import NoiseSchedule

STATIONARY = Asset("ecg/ecg_stationary.safetensors")


class StationaryGaussian(LoadedPrior):
    """Zero-mean stationary leads on a circle of ``length`` samples, an even number, in float64.

    ``covariance`` (leads, leads, lags) is ``E[x_a(t + k) x_b(t)]``, k = 0, 1, ...; a linear taper ends it at half the
    circle; eigenvalues v of the spectra S(f) = Q diag(v) Q^H, (frequencies, leads, leads), that the estimate leaves
    below ``FLOOR`` are raised to it. Each frequency is a Gaussian of its own:
      E[x_0 | x_0 + sigma eps] = F^-1 Q diag(v / (v + sigma^2)) Q^H F (x_0 + sigma eps)
    Raises ValueError if there are fewer lags than half the circle.
    """

    dtype = torch.float64
    FLOOR = 1e-6

    def __init__(self, covariance, length, device="cpu"):
        self.device = torch.device(device)
        self.event_shape = self.signal_shape = (len(covariance), length)
        self.schedule = NoiseSchedule.linear()
        lags = torch.arange(length)
        wrapped = torch.minimum(lags, length - lags)
        if 2 * covariance.shape[2] < length:
            raise ValueError(f"{covariance.shape[2]} lags make a circle of {2 * covariance.shape[2]} samples at most")
        padded = torch.nn.functional.pad(covariance.double(), (0, 1))
        around = torch.where(2 * lags < length, padded[..., wrapped], padded.transpose(0, 1)[..., wrapped])
        spectra = torch.fft.fft(around * (1 - 2 * wrapped / length)).movedim(2, 0)[: length // 2 + 1]
        eigenvalues, vectors = torch.linalg.eigh((spectra + spectra.mH) / 2)
        self.eigenvalues = eigenvalues.clamp(min=self.FLOOR).to(self.device)
        self.vectors = vectors.to(self.device)
        self.multiplicity = torch.full((length // 2 + 1,), 2.0, dtype=self.dtype, device=self.device)
        self.multiplicity[[0, -1]] = 1

    def transform(self, x):
        """Orthonormal Fourier coefficients (n, frequencies, leads) of signals (n, leads, time)."""
        return torch.fft.rfft(x, norm="ortho").mT

    def inverse(self, coefficients):
        return torch.fft.irfft(coefficients.mT, self.event_shape[1], norm="ortho")

    def spectral_function(self, gain):
        """``Q diag(gain) Q^H`` for gains (..., frequencies, leads)."""
        return self.vectors * gain[..., None, :] @ self.vectors.mH

    def filter(self, x, gain):
        """``F^-1 Q diag(gain) Q^H F x`` for (n, leads, time)."""
        rotated = gain * (self.vectors.mH @ self.transform(x)[..., None])[..., 0]
        return self.inverse((self.vectors @ rotated[..., None])[..., 0])

    def denoise_sigma(self, x, sigma):
        sigma2 = rows_of_level(sigma, x).square().view(-1, 1, 1)
        return self.filter(x, self.eigenvalues / (self.eigenvalues + sigma2))

    def sample(self, n, generator):
        """``n`` exact draws of x_0, (n, leads, time)."""
        options = {"dtype": self.dtype, "device": self.device, "generator": generator}
        return self.colour(torch.randn(n, *self.event_shape, **options))

    def colour(self, white):
        """Draws of the prior from standard normal values of the same shape."""
        return self.filter(white, self.eigenvalues.sqrt())

    def posterior(self, problem):
        """The exact posterior of a masked measurement; see :class:`StationaryPosterior`."""
        return StationaryPosterior(self, problem)


class StationaryPosterior:
    """``p(x | y)`` for ``y = M x + sigma eps`` with a mask M, under a stationary Gaussian of covariance C.

    With G = C M (M C M + sigma^2)^-1 the mean is G y, the covariance C - G M C, and a draw is
    ``x + G (y - M x - sigma eps)`` for a draw x of the prior ("Matheron's rule"). Whole leads that are seen or hidden
    split by frequency, into 9 x 9 systems; for each other mask the seen block of M C M is factored once.

    Attributes: ``mean`` (n, *event), ``trace_cov`` (n,), the trace of the posterior covariance.
    """

    def __init__(self, prior, problem):
        if not {"mask", "gaussian"} <= problem.capabilities:
            raise ValueError("the posterior of a stationary prior needs a mask of zeros and ones and Gaussian noise")
        self.prior, self.noise_std, self.y = prior, problem.noise.std, problem.y
        self.mask = problem.operator.mask.expand_as(problem.y).to(problem.y)
        by_lead = (self.mask == self.mask[..., :1]).flatten(1).all(1)
        self.solvers = []
        if by_lead.any():
            rows = by_lead.nonzero()[:, 0]
            self.solvers.append((rows, self.by_frequency(self.mask[rows][..., 0])))
        for mask in self.mask[~by_lead].unique(dim=0):
            rows = (self.mask == mask).flatten(1).all(1).nonzero()[:, 0]
            self.solvers.append((rows, self.by_factor(mask)))
        self.mean = self.gain(self.y, torch.arange(len(self.y), device=self.y.device))
        self.trace_cov = torch.empty(len(self.y), dtype=prior.dtype, device=self.y.device)
        for rows, (_, explained) in self.solvers:
            self.trace_cov[rows] = (prior.multiplicity[:, None] * prior.eigenvalues).sum() - explained

    def by_frequency(self, leads):
        """(``v -> (M C M + sigma^2)^-1 v`` for coefficients of some rows, tr G M C) of masks (n, leads)."""
        spectra = self.prior.spectral_function(self.prior.eigenvalues)
        seen = leads[:, None, :, None] * spectra
        noise = self.noise_std**2 * torch.eye(leads.shape[1], dtype=seen.dtype, device=seen.device)
        inverse = torch.linalg.inv(seen * leads[:, None, None] + noise)
        explained = ((seen.mH @ inverse @ seen).diagonal(dim1=2, dim2=3).sum(2).real * self.prior.multiplicity).sum(1)

        def solve(residual, chosen):
            return self.prior.inverse((inverse[chosen] @ self.prior.transform(residual)[..., None])[..., 0])

        return solve, explained

    def by_factor(self, mask):
        """The same of one mask (leads, time), whose systems are solved in time."""
        seen = mask.flatten().nonzero()[:, 0]
        lead, time = seen // mask.shape[1], seen % mask.shape[1]

        def block(eigenvalues):
            lagged = torch.fft.irfft(self.prior.spectral_function(eigenvalues).movedim(0, 2), mask.shape[1])
            return lagged[lead[:, None], lead, (time[:, None] - time) % mask.shape[1]]

        noise = self.noise_std**2 * torch.eye(len(seen), dtype=mask.dtype, device=mask.device)
        factor = torch.linalg.cholesky(block(self.prior.eigenvalues) + noise)
        explained = (torch.cholesky_inverse(factor) * block(self.prior.eigenvalues.square())).sum()

        def solve(residual, _):
            solved = torch.zeros_like(residual.flatten(1))
            solved[:, seen] = torch.cholesky_solve(residual.flatten(1)[:, seen].mT, factor).mT
            return solved.view_as(residual)

        return solve, explained

    def gain(self, residual, row):
        """``G r`` for residuals r (n', *event), 0 where nothing is seen, of the problem's rows ``row`` (n',)."""
        weights = torch.zeros_like(residual)
        position = torch.empty(len(self.y), dtype=torch.long, device=row.device)
        for rows, (solve, _) in self.solvers:
            chosen = torch.isin(row, rows)
            position[rows] = torch.arange(len(rows), device=row.device)
            weights[chosen] = solve(residual[chosen], position[row[chosen]])
        return self.prior.filter(self.mask[row] * weights, self.prior.eigenvalues)

    def sample(self, rng):
        """Exact draws (n', *event), one per row of ``rng``, which has n' / n rows per row of the problem."""
        row = torch.arange(len(self.y), device=self.y.device).repeat_interleave(len(rng.images) // len(self.y))
        x = self.prior.colour(rng.randn(*self.prior.event_shape))
        noise = self.noise_std * rng.randn(*self.prior.event_shape)
        return x + self.gain(self.mask[row] * (self.y[row] - x - noise), row)


def ecg_stationary(length=WINDOW_LENGTH):
    """Nine z-normalised leads of PTB-XL as a stationary Gaussian; see :class:`StationaryGaussian`."""

    def load(device):
        return StationaryGaussian(read_safetensors(STATIONARY.find())["covariance"], length, device)

    check_length(length, 2)
    shape = (len(LEADS), length)
    return PriorSpec("ecg", shape, load, closed_form=True, weights=STATIONARY, signal_range=SIGNAL_RANGE)


def ecg_beats():
    """Nine z-normalised leads of PTB-XL around one beat, a Gaussian of 64 factors."""
    weights = Asset("ecg/ecg_beats.safetensors")
    shape = (len(LEADS), BEAT_LENGTH)

    def load(device):
        tensors = {name: value.double() for name, value in read_safetensors(weights.find()).items()}
        return FactorAnalyserMixture(**tensors, event_shape=shape, device=device)

    return PriorSpec("ecg", shape, load, closed_form=True, weights=weights, signal_range=SIGNAL_RANGE)


PRIORS = {"ecg_stationary": ecg_stationary, "ecg_beats": ecg_beats}
