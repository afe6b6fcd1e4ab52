"""Mixtures of factor analysers: priors whose denoiser and linear-Gaussian posterior are closed forms.

``p_0 = sum_k w_k N(mu_k, W_k W_k^T + s_k^2 I)`` (Ghahramani & Hinton 1996, "The EM algorithm for mixtures of
factor analyzers"; Richardson & Weiss 2018, https://arxiv.org/abs/1805.12462). With rank-0 factors it is the
Gaussian mixture of MCGDiff (Cardoso et al. 2024, https://arxiv.org/abs/2308.07983), with one component a Gaussian.
"""

import math

import torch

from benchmark_utils.files.weights import Asset, read_safetensors
from benchmark_utils.priors.base import LoadedPrior, PriorSpec, rows_of_level
from benchmark_utils.priors.piecewise import PiecewisePosterior
from benchmark_utils.rng import stream_seed
from benchmark_utils.schedule import NoiseSchedule


class FactorAnalyserMixture(LoadedPrior):
    """Mixture prior in float64.

    Parameters
    ----------
    weights : (K,); means : (K, d); factors : (K, d, r), r may be 0; isotropic : (K,) standard deviations s_k.
    event_shape : tuple with product d.
    """

    dtype = torch.float64

    def __init__(self, weights, means, factors, isotropic, event_shape, device="cpu"):
        self.device = torch.device(device)
        self.event_shape = self.signal_shape = tuple(event_shape)
        self.schedule = NoiseSchedule.linear()
        to = {"dtype": self.dtype, "device": self.device}
        self.log_weights = (weights / weights.sum()).to(**to).log()
        self.means, self.factors = means.to(**to), factors.to(**to)
        self.s2 = isotropic.to(**to) ** 2
        # W_k = Q_k diag(l_k) R: the covariance is Q_k diag(l_k^2) Q_k^T + s_k^2 I
        self.directions, scales, _ = torch.linalg.svd(self.factors, full_matrices=False)
        self.eigenvalues = scales**2
        # one (d, K r) matrix, so that projecting n images is a single product
        self._projector = self.directions.permute(1, 0, 2).flatten(1)
        self._mean_projections = torch.einsum("kdr,kd->kr", self.directions, self.means)

    def denoise_sigma(self, x, sigma):
        """Exact ``E[x_0 | x_0 + sigma eps = x]``; see the class for the mixture, Woodbury for the inverse."""
        return self._denoise(x, sigma, self.log_weights)

    def _denoise(self, x, sigma, log_weights):
        """The denoiser of the mixture with other component weights, (K,) or one row of them for each of x."""
        flat = x.flatten(1)
        sigma2 = rows_of_level(sigma, x).square()[:, None]
        log_densities, projections, noisy_s2, noisy_eigenvalues = self._components(flat, sigma2)
        responsibilities = (log_weights + log_densities).softmax(1)
        gain = self.s2 / noisy_s2
        extra_gain = (self.eigenvalues + self.s2[:, None]) / noisy_eigenvalues - gain[..., None]
        mean = (
            (responsibilities * gain).sum(1, keepdim=True) * flat
            + (responsibilities * (1 - gain)) @ self.means
            + (responsibilities[..., None] * extra_gain * projections).flatten(1) @ self._projector.T
        )
        return mean.view_as(x)

    def responsibilities(self, x):
        """Probability of each component given a clean ``x``, (n, K)."""
        return self._log_joint(x).softmax(1)

    def _log_joint(self, x):
        """Log-density of each component at a clean ``x``, times its weight, up to a constant: (n, K)."""
        return self.log_weights + self._components(x.flatten(1), x.new_zeros(len(x), 1))[0]

    def _components(self, flat, sigma2):
        """Log-densities (n, K), up to a constant, of points (n, d) seen at noise ``sigma2`` (n, 1), and what the
        denoiser shares.
        """
        n, (K, rank) = len(flat), self.eigenvalues.shape
        noisy_s2 = self.s2 + sigma2  # (n, K)
        noisy_eigenvalues = self.eigenvalues + noisy_s2[..., None]  # (n, K, r)
        projections = (flat @ self._projector).view(n, K, rank) - self._mean_projections
        squared_distance = flat.square().sum(1, keepdim=True) - 2 * flat @ self.means.T + self.means.square().sum(1)
        mahalanobis = (squared_distance - projections.square().sum(2)) / noisy_s2
        mahalanobis = mahalanobis + (projections.square() / noisy_eigenvalues).sum(2)
        log_determinant = (flat.shape[1] - rank) * noisy_s2.log() + noisy_eigenvalues.log().sum(2)
        return -(mahalanobis + log_determinant) / 2, projections, noisy_s2, noisy_eigenvalues

    def sample(self, n, generator):
        """``n`` exact draws of x_0, (n, *event)."""
        options = {"dtype": self.dtype, "device": self.device, "generator": generator}
        component = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        z = torch.randn(n, self.factors.shape[2], **options)
        x = self.means[component] + torch.einsum("ndr,nr->nd", self.factors[component], z)
        x = x + self.s2[component, None].sqrt() * torch.randn(x.shape, **options)
        return x.view(n, *self.event_shape)

    def posterior(self, problem):
        """The exact posterior of a linear-Gaussian problem with an SVD; see :class:`MixturePosterior`.

        Also that of a piecewise linear function of each coordinate; see :class:`PiecewisePosterior`.
        """
        if hasattr(problem.operator, "pieces"):
            return PiecewisePosterior(self, problem)
        return MixturePosterior(self, problem)


class MixturePosterior:
    """``p(x | y)`` for ``y = A x + sigma eps``, ``A = U diag(s) V^T``, under a mixture of factor analysers.

    Given component k and factor z, the coordinates ``V^T x`` are independent Gaussians; z given y and k is an
    r-dimensional Gaussian. Everything is computed in the spectral coordinates of A.

    Attributes (rows of the problem first)
    ----------
    weights : (n, K) posterior component weights
    mean : (n, *event)
    trace_cov : (n,) trace of the posterior covariance
    """

    def __init__(self, prior, problem):
        if not {"svd", "gaussian"} <= problem.capabilities:
            raise ValueError("the closed-form posterior needs a linear operator with an SVD and Gaussian noise")
        self.prior, self.operator = prior, problem.operator
        n, (K, d, rank) = problem.y.shape[0], prior.factors.shape
        noise2 = problem.noise.std**2
        self._spectral_shape = self.operator.V_adjoint(problem.y.new_zeros(n, *prior.event_shape)).shape
        # the same singular values in the order of the flattened spectrum; one row unless they differ between images
        template = problem.y.new_ones(1, *self._spectral_shape[1:])
        s = (self.operator.mask * template).flatten(1)
        y = self.operator.U_adjoint(problem.y).flatten(1)
        means = self._to_spectrum(prior.means)  # (K, d)
        factors = self._to_spectrum(prior.factors.permute(0, 2, 1).reshape(K * rank, d))
        factors = factors.view(K, rank, d).permute(0, 2, 1)

        s = s[:, None]  # (n or 1, 1, d)
        observed_variance = prior.s2[:, None] * s**2 + noise2  # (n or 1, K, d): variance of U^T y given z
        innovation = torch.where(s > 0, y[:, None] - s * means, 0.0)  # (n, K, d)
        weighted = s / observed_variance
        precision = _weighted_gram(weighted * s, factors) + torch.eye(rank, dtype=s.dtype, device=s.device)
        cholesky = torch.linalg.cholesky(precision)
        right_side = torch.einsum("nkd,kdr->nkr", weighted * innovation, factors)
        factor_mean = torch.cholesky_solve(right_side[..., None], cholesky)[..., 0]
        log_evidence = (
            -(innovation.square() / observed_variance).sum(2)
            + (right_side * factor_mean).sum(2)
            - torch.where(s > 0, observed_variance.log(), 0.0).sum(2)
            - 2 * cholesky.diagonal(dim1=2, dim2=3).log().sum(2)
        ) / 2
        self.log_weights = (prior.log_weights + log_evidence).log_softmax(1)
        self.weights = self.log_weights.exp()
        shrink = noise2 / observed_variance  # 1 - gain * s
        self._gain = (prior.s2[:, None] * weighted).expand(n, K, d)
        self._residual_variance = (prior.s2[:, None] * shrink).expand(n, K, d)
        self._shrink = shrink.expand(n, K, d)
        self._y, self._means, self._factors = y, means, factors
        self._factor_mean, self._cholesky = factor_mean, cholesky.expand(n, K, rank, rank)

        component_means = (
            self._shrink * (means + torch.einsum("kdr,nkr->nkd", factors, factor_mean)) + self._gain * y[:, None]
        )
        spectrum = torch.einsum("nk,nkd->nd", self.weights, component_means)
        self.mean = self._from_spectrum(spectrum)
        factor_covariance = torch.cholesky_inverse(cholesky)
        shrunk_gram = _weighted_gram(shrink.square(), factors)
        trace = self._residual_variance.sum(2) + (shrunk_gram * factor_covariance).sum((2, 3))
        trace = trace + (component_means - spectrum[:, None]).square().sum(2)
        self.trace_cov = (self.weights * trace).sum(1)

    def _to_spectrum(self, vectors):
        """``V^T`` applied to (j, d) vectors, for an operator with one V for all rows."""
        return self.operator.V_adjoint(vectors.view(-1, *self.prior.event_shape)).flatten(1)

    def _from_spectrum(self, spectrum):
        return self.operator.V(spectrum.view(-1, *self._spectral_shape[1:])).view(-1, *self.prior.event_shape)

    def sample(self, rng):
        """Exact draws (n', *event), one per row of ``rng``, which has n' / n rows per row of the problem."""
        row = torch.arange(len(self.weights), device=self.weights.device)
        row = row.repeat_interleave(len(rng.images) // len(row))
        cumulative = self.weights.cumsum(1)[row]
        component = torch.searchsorted(cumulative, rng.rand(1) * cumulative[:, -1:]).squeeze(1)
        rank = self._factors.shape[2]
        white = rng.randn(rank) if rank else self._y.new_zeros(len(row), 0)
        upper = self._cholesky[row, component].mT
        z = self._factor_mean[row, component]
        z = z + torch.linalg.solve_triangular(upper, white[..., None], upper=True)[..., 0]
        prior_part = self._means[component] + torch.einsum("ndr,nr->nd", self._factors[component], z)
        mean = self._shrink[row, component] * prior_part + self._gain[row, component] * self._y[row]
        spectrum = mean + self._residual_variance[row, component].sqrt() * rng.randn(self._y.shape[1])
        return self._from_spectrum(spectrum)


def _weighted_gram(weights, factors):
    """``F_k^T diag(w_nk) F_k`` for weights (n, K, d) and factors (K, d, r): (n, K, r, r).

    One component at a time, since (n, K, d, r) numbers would not fit in memory for images.
    """
    grams = [torch.einsum("nd,dr,dq->nrq", weights[:, k], factor, factor) for k, factor in enumerate(factors)]
    return torch.stack(grams, 1)


def gaussian_mixture(dim=8, seed=0):
    """The 25-component bed of MCGDiff (https://arxiv.org/abs/2308.07983, section 5.1), weights drawn from ``seed``."""

    def load(device):
        grid = torch.tensor([(8.0 * i, 8.0 * j) for i in range(-2, 3) for j in range(-2, 3)])
        generator = torch.Generator().manual_seed(stream_seed(seed, "truth", "mixture weights", dim))
        weights = torch.randn(25, generator=generator, dtype=torch.float64) ** 2
        means = grid.repeat(1, dim // 2)
        return FactorAnalyserMixture(weights, means, torch.zeros(25, dim, 0), torch.ones(25), (dim,), device)

    if dim < 2 or dim % 2:
        raise ValueError(f"the Gaussian mixture needs an even dimension, got dim={dim}")
    # if all the weight is on a mean at the edge of the grid
    signal_range = 257**0.5
    known = {"closed_form": True, "has_posterior": lambda operator: True}
    return PriorSpec(family="mixture", signal_shape=(dim,), load=load, signal_range=signal_range, **known)


def gaussian(dim=3, correlation=0.0):
    """``N(0, Sigma)`` with ``Sigma_ij = correlation^|i - j|``."""

    def load(device):
        index = torch.arange(dim, dtype=torch.float64)
        covariance = correlation ** (index[:, None] - index).abs()
        eigenvalues, directions = torch.linalg.eigh(covariance)
        factors = directions * (eigenvalues - eigenvalues[0]).clamp(min=0).sqrt()
        one = torch.ones(1, dtype=torch.float64)
        isotropic = math.sqrt(eigenvalues[0]) * one
        return FactorAnalyserMixture(one, torch.zeros(1, dim), factors[None], isotropic, (dim,), device)

    if not isinstance(correlation, (int, float)) or not 0 <= correlation < 1:
        raise ValueError(f"correlation must be a number in [0, 1), got {correlation!r}")
    return PriorSpec(family="gaussian", signal_shape=(dim,), load=load, closed_form=True)


def faces64_mfa():
    """Faces at 64 px with a known right answer, fitted by ``scripts/train/faces64_mfa.py``."""

    weights = Asset("faces64/faces64_mfa.safetensors")

    def load(device):
        tensors = {name: value.double() for name, value in read_safetensors(weights.find()).items()}
        return FactorAnalyserMixture(**tensors, event_shape=(3, 64, 64), device=device)

    return PriorSpec(family="ffhq", signal_shape=(3, 64, 64), load=load, closed_form=True, weights=weights)


PRIORS = {"gaussian_mixture": gaussian_mixture, "gaussian": gaussian, "faces64_mfa": faces64_mfa}
