"""The posterior of a Gaussian mixture behind a piecewise linear function of each coordinate, which is known."""

import math

import torch


class PiecewisePosterior:
    """``p(x | y)`` for ``y_j = f(x_j) + sigma eps_j``, f linear on pieces, and components ``N(mu_k, s_k^2 I)``.

    Given the component the coordinates are independent, each a mixture of Gaussians truncated to the pieces of f.

    Attributes (rows of the problem first)
    ----------
    weights : (n, K) posterior component weights
    mean : (n, d)
    trace_cov : (n,) trace of the posterior covariance
    """

    def __init__(self, prior, problem):
        if prior.factors.shape[2] or "gaussian" not in problem.capabilities:
            raise ValueError("this posterior needs components with covariances s^2 I, and Gaussian noise")
        y, noise2 = problem.y[:, None, :, None], problem.noise.std**2
        means, s2 = prior.means[:, :, None], prior.s2[:, None, None]
        pieces = torch.tensor(problem.operator.pieces, dtype=y.dtype, device=y.device)
        low, high, slope, intercept = pieces.unbind(1)
        variance = 1 / (1 / s2 + slope**2 / noise2)
        predicted = slope**2 * s2 + noise2
        self._std = variance.sqrt().expand(*means.shape[:2], len(pieces))
        self._center = variance * (means / s2 + slope * (y - intercept) / noise2)  # (n, K, d, pieces)
        self._low, self._high = (low - self._center) / self._std, (high - self._center) / self._std
        log_mass = log_normal_mass(self._low, self._high)
        squared = (y - slope * means - intercept).square()
        self._log_pieces = log_mass - squared / (2 * predicted) - predicted.log() / 2
        self.log_weights = (prior.log_weights + self._log_pieces.logsumexp(3).sum(2)).log_softmax(1)
        self.weights = self.log_weights.exp()

        # moments of the truncated standard normals; density and edge times density vanish at an infinite edge
        density = [
            (-edge.square() / 2 - math.log(2 * math.pi) / 2 - log_mass).exp() for edge in (self._low, self._high)
        ]
        weighted = [torch.where(p > 0, edge * p, 0) for edge, p in zip((self._low, self._high), density, strict=True)]
        shift = density[0] - density[1]
        first = self._center + self._std * shift
        second = first.square() + self._std**2 * (1 + weighted[0] - weighted[1] - shift.square())
        share = self._log_pieces.softmax(3)
        per_component = [(share * moment).sum(3) for moment in (first, second)]  # (n, K, d)
        self.mean = torch.einsum("nk,nkd->nd", self.weights, per_component[0])
        self.trace_cov = torch.einsum("nk,nkd->n", self.weights, per_component[1]) - self.mean.square().sum(1)

    def sample(self, rng):
        """Exact draws (n', d), one per row of ``rng``, which has n' / n rows per row of the problem."""
        row = torch.arange(len(self.weights), device=self.weights.device)
        row = row.repeat_interleave(len(rng.images) // len(row))
        cumulative = self.weights.cumsum(1)[row]
        component = torch.searchsorted(cumulative, rng.rand(1) * cumulative[:, -1:]).squeeze(1)
        cumulative = self._log_pieces[row, component].softmax(2).cumsum(2)
        piece = (cumulative < rng.rand(cumulative.shape[1])[..., None] * cumulative[..., -1:]).sum(2, keepdim=True)

        def chosen(values):
            return values.gather(2, piece).squeeze(2)

        low, high = chosen(self._low[row, component]), chosen(self._high[row, component])
        # the upper tail is mirrored to the lower one, where the distribution function keeps its digits
        sign = torch.where(low > 0, -1.0, 1.0).to(low)
        low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
        start, end = torch.special.ndtr(low), torch.special.ndtr(high)
        probability = (start + rng.rand(low.shape[1]) * (end - start)).clamp(1e-300, 1 - 1e-16)
        center, std = chosen(self._center[row, component]), chosen(self._std[component])
        return center + std * sign * torch.special.ndtri(probability)


def log_normal_mass(low, high):
    """``log(Phi(high) - Phi(low))`` without loss of digits in the tails."""
    low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
    log_high = torch.special.log_ndtr(high)
    return log_high + torch.log1p(-(torch.special.log_ndtr(low) - log_high).exp().clamp(max=1 - 1e-16))
