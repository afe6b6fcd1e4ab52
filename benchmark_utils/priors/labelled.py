"""Mixtures whose components carry labels: exact conditional denoisers, and the law that a label tilts.

The tilted law ``p(x) p(c | x)^w`` is what classifier-free guidance aims at (Ho & Salimans 2022,
https://arxiv.org/abs/2207.12598, section 3.2; Bradley & Nakkiran 2024, https://arxiv.org/abs/2408.09000, show that it
misses it). Of a mixture it has exact draws by rejection, and moments by quadrature or importance sampling.
"""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from benchmark_utils.files.weights import Asset, read_safetensors
from benchmark_utils.priors.base import PriorSpec, rows_of_level
from benchmark_utils.priors.mixture import FactorAnalyserMixture

N_NODES = 64  # Gauss-Hermite nodes per axis for moments: with 96 they agree to 6 digits
N_DENOISER_NODES = 12  # per axis, for each denoised row
N_IMPORTANCE = 200_000  # draws behind the moments where quadrature has too many dimensions
ROWS_AT_ONCE = 256
MAX_TURNS = 10_000
DIGITS = Asset("digits/digits.safetensors")


class TiltedMoments(NamedTuple):
    """Of one tilted law: mean (d,), trace of the covariance, E p(k | x) of components (K,), E p(label | x).

    ``acceptance`` is the share of proposals that rejection accepts.
    """

    mean: torch.Tensor
    trace_cov: torch.Tensor
    weights: torch.Tensor
    label_probability: torch.Tensor
    acceptance: torch.Tensor


class LabelledMixture(FactorAnalyserMixture):
    """A mixture of factor analysers whose component k has the label ``labels[k]``, one of 0..C-1.

    Other parameters are those of the base class.
    """

    def __init__(self, weights, means, factors, isotropic, event_shape, labels, device="cpu"):
        super().__init__(weights, means, factors, isotropic, event_shape, device)
        self.n_classes = int(labels.max()) + 1
        carries = labels == torch.arange(self.n_classes)[:, None]  # (C, K)
        # added to log-weights, it leaves the components of one label
        self.log_mask = torch.where(carries, 0.0, -math.inf).to(self.log_weights)
        self.largest_class = int(carries.sum(1).max())
        self._moments = {}
        self.plane = find_plane(means, factors, isotropic)
        if self.plane is not None:
            self.plane = self.plane.to(self.log_weights)
            self.nodes = hermite_nodes(N_DENOISER_NODES, self.plane.shape[1], self.log_weights)

    def denoise_sigma(self, x, sigma, label=None):
        log_weights = self.log_weights if label is None else self.log_weights + self.log_mask[label]
        return self._denoise(x, sigma, log_weights)

    def log_class_probabilities(self, x):
        """``log p(k | x)`` of the classes given a clean ``x`` (n, *event): (n, C)."""
        return self._of_classes(self._log_joint(x))

    def _of_classes(self, log_joint):
        """(..., C) log-probabilities of classes from (..., K) of components, up to a constant."""
        by_class = (log_joint[..., None, :] + self.log_mask).logsumexp(-1)
        return by_class - log_joint.logsumexp(-1, keepdim=True)

    def proposal(self, label, weight):
        """Log-weights of the components that exact draws are proposed from, and the power of p(label | x) that is left.

        From ``p(x | label)`` for ``weight >= 1``, else from p(x), so that the power is not negative. ``label``: (n,).
        """
        if weight >= 1:
            return self.log_weights + self.log_mask[label], weight - 1
        return self.log_weights.expand(len(label), -1), weight

    def posterior(self, problem):
        """The tilted law of each row's label; see :class:`TiltedMixture`."""
        return TiltedMixture(self, problem.label, problem.weight)

    def moments(self, label, weight):
        """:class:`TiltedMoments` for one label; computed once.

        By Gauss-Hermite quadrature where labels depend on a plane, else by weighting 200,000 draws of the proposal.
        """
        if (label, weight) not in self._moments:
            compute = self._importance_moments if self.plane is None else self._quadrature_moments
            log_weights, power = self.proposal(torch.tensor([label], device=self.device), weight)
            self._moments[label, weight] = compute(label, log_weights[0].softmax(0), power)
        return self._moments[label, weight]

    def _quadrature_moments(self, label, weights, power):
        nodes, node_weights = hermite_nodes(N_NODES, self.plane.shape[1], self.means)
        x = self.means[:, None] + self.s2[0].sqrt() * nodes @ self.plane.T  # (K, M, d)
        x, masses = x.flatten(0, 1), (weights[:, None] * node_weights).flatten()
        moments = self._weighted_moments(label, power, x[masses > 0], masses[masses > 0])
        outside = (x.shape[1] - self.plane.shape[1]) * self.s2[0]
        return moments._replace(trace_cov=moments.trace_cov + outside)

    def _importance_moments(self, label, weights, power):
        generator = torch.Generator().manual_seed(0)
        # drawn on the CPU, so that they are the same on every device
        component = torch.multinomial(weights.cpu(), N_IMPORTANCE, replacement=True, generator=generator)
        component = component.to(self.device)
        normal = {"generator": generator, "dtype": self.dtype}
        z, ball = (torch.randn(N_IMPORTANCE, k, **normal).to(self.device) for k in self.factors.shape[:0:-1])
        x = self.means[component] + self.s2[component, None].sqrt() * ball
        for k, factor in enumerate(self.factors):
            x[component == k] += z[component == k] @ factor.T
        return self._weighted_moments(label, power, x, x.new_full((N_IMPORTANCE,), 1 / N_IMPORTANCE))

    def _weighted_moments(self, label, power, x, masses):
        """Moments of points (M, d) whose masses under the proposal, (M,), the tilt reweights."""
        log_joint = torch.cat([self._log_joint(part.view(-1, *self.event_shape)) for part in x.split(10_000)])
        probability = self._of_classes(log_joint)[:, label].exp()
        masses = masses * probability**power
        acceptance = masses.sum()
        masses = masses / acceptance
        mean = masses @ x
        trace_cov = masses @ (x - mean).square().sum(1)
        return TiltedMoments(mean, trace_cov, masses @ log_joint.softmax(1), masses @ probability, acceptance)

    def tilted_denoise_sigma(self, x, sigma, label, weight):
        """``E[x_0 | x_0 + sigma eps = x]`` under the tilted law of ``label`` (n,); (n, d) -> (n, d).

        ``E[x_0 g(x_0) | x, label] / E[g(x_0) | x, label]`` with ``g = p(label | x_0)^(w - 1)``, the identity that
        guidance leaves out, by Gauss-Hermite nodes around each component of the label.
        """
        sigma2 = rows_of_level(sigma, x).square()[:, None]
        centres = (self.means - self.means[0]) @ self.plane  # (K, r): all means lie in means[0] + plane
        log_weights, power = self.proposal(label, weight)
        s2 = self.s2[0]
        at_plane = (x - self.means[0]) @ self.plane  # (n, r)
        distance = (at_plane[:, None] - centres).square().sum(2)
        log_responsibilities = (log_weights - distance / (2 * (s2 + sigma2))).log_softmax(1)
        variance = s2 * sigma2 / (s2 + sigma2)  # of x_0 given x and the component
        component_means = (s2 * at_plane[:, None] + sigma2[..., None] * centres) / (s2 + sigma2)[..., None]
        if weight >= 1:  # the other components have no weight
            members = self.log_mask[label].topk(self.largest_class, dim=1).indices
            log_responsibilities = log_responsibilities.gather(1, members)
            component_means = component_means.gather(1, members[..., None].expand(-1, -1, component_means.shape[2]))
        parts = zip(
            *(
                tensor.split(ROWS_AT_ONCE)
                for tensor in (log_responsibilities, component_means, variance.sqrt(), self.log_mask[label])
            ),
            strict=True,
        )
        moved = torch.cat([self._tilted_mean(centres, power, *part) for part in parts])
        shrunk = (s2 * x + sigma2 * self.means[0]) / (s2 + sigma2)
        return shrunk + (moved - (shrunk - self.means[0]) @ self.plane) @ self.plane.T

    def _tilted_mean(self, centres, power, log_responsibilities, component_means, std, log_mask):
        """E[u g] / E[g] for coordinates u in the plane, (n, r), over nodes around the components' means (n, K, r)."""
        nodes, node_weights = self.nodes
        masses = log_responsibilities.exp()[..., None] * node_weights  # (n, K, M)
        u = component_means[:, :, None] + std[:, :, None, None] * nodes  # (n, K, M, r)
        # log p(k | u) up to a constant that is the same for all components
        log_joint = (u @ centres.T - centres.square().sum(1) / 2) / self.s2[0] + self.log_weights
        log_probability = (log_joint + log_mask[:, None, None]).logsumexp(3) - log_joint.logsumexp(3)
        masses = masses * (power * log_probability).exp()
        return (masses[..., None] * u).sum((1, 2)) / masses.sum((1, 2))[:, None]


def find_plane(means, factors, isotropic):
    """(d, r) orthonormal basis of what p(k | x) depends on in a mixture of balls, r <= 2; None for another one."""
    if factors.shape[2] or (isotropic != isotropic[0]).any():
        return None
    _, scales, directions = torch.linalg.svd(means.double() - means[0], full_matrices=False)
    rank = int((scales > 1e-10 * scales[0]).sum())
    return directions[:rank].T if rank <= 2 else None


def hermite_nodes(n, dim, like):
    """Nodes (n^dim, dim) and weights (n^dim,) whose sums are expectations under N(0, I), in the type of ``like``."""
    points, weights = np.polynomial.hermite_e.hermegauss(n)
    grid = np.stack(np.meshgrid(*[points] * dim, indexing="ij"), -1).reshape(-1, dim)
    masses = np.prod(np.meshgrid(*[weights / weights.sum()] * dim, indexing="ij"), 0).reshape(-1)
    return torch.from_numpy(grid).to(like), torch.from_numpy(masses).to(like)


class TiltedMixture:
    """``p(x) p(label | x)^weight`` for each of n labels, under a :class:`LabelledMixture`.

    Attributes (rows of the problem first)
    ----------
    weights : (n, K) expected p(k | x) of the components
    mean : (n, *event)
    trace_cov : (n,) trace of the covariance
    label_probability : (n,) expected p(label | x)
    """

    def __init__(self, prior, label, weight):
        self.prior, self.label, self.weight = prior, label, weight

    @cached_property
    def _moments(self):
        return [self.prior.moments(label, self.weight) for label in self.label.tolist()]

    def _stack(self, name):
        return torch.stack([getattr(moments, name) for moments in self._moments])

    @property
    def weights(self):
        return self._stack("weights")

    @property
    def mean(self):
        return self._stack("mean").view(-1, *self.prior.event_shape)

    @property
    def trace_cov(self):
        return self._stack("trace_cov")

    @property
    def label_probability(self):
        return self._stack("label_probability")

    def sample(self, rng):
        """Exact draws (n', *event), one per row of ``rng``, which has n' / n rows per row of the problem.

        By rejection: all rows propose at each turn and keep the first proposal that they accept, so that a row depends
        on its own stream only. Raises RuntimeError where a weight is so large that hardly any is accepted.
        """
        prior = self.prior
        label = self.label.repeat_interleave(len(rng.images) // len(self.label))
        log_weights, power = prior.proposal(label, self.weight)
        cumulative = log_weights.softmax(1).cumsum(1)
        d, rank = prior.factors.shape[1:]
        x, waiting = prior.means.new_zeros(len(label), d), torch.ones_like(label, dtype=torch.bool)
        for _ in range(MAX_TURNS):
            component = torch.searchsorted(cumulative, rng.rand(1) * cumulative[:, -1:], right=True)[:, 0]
            proposed = prior.means[component] + prior.s2[component, None].sqrt() * rng.randn(d)
            if rank:
                proposed = proposed + torch.einsum("ndr,nr->nd", prior.factors[component], rng.randn(rank))
            log_probability = prior.log_class_probabilities(proposed).gather(1, label[:, None])[:, 0]
            accepted = waiting & (rng.rand(1)[:, 0].log() <= power * log_probability)
            x, waiting = torch.where(accepted[:, None], proposed, x), waiting & ~accepted
            if not waiting.any():
                return x.view(-1, *prior.event_shape)
        raise RuntimeError(
            f"exact draws at weight {self.weight:g}: no proposal accepted in {MAX_TURNS:,} turns; use a smaller weight"
        )


def labelled_mixture(dim=2):
    """25 Gaussians of standard deviation 0.8 on a square grid of spacing 2, with five labels of five components each.

    Component (i, j), i, j in -2..2, the k-th in i-major order, has weight ``1 + k mod 3``, up to a factor, and label
    ``(i + 2 j) mod 5``: those of one label are a knight's move apart. In more dimensions, an even number, the means are
    ``2 (i, j, i, j, ...) / sqrt(dim / 2)``, so that distances and p(label | x) stay those of the plane.
    """

    def load(device):
        grid = torch.tensor([(i, j) for i in range(-2, 3) for j in range(-2, 3)], dtype=torch.float64)
        means = 2 * grid.repeat(1, dim // 2) / (dim / 2) ** 0.5
        weights = 1.0 + torch.arange(25, dtype=torch.float64) % 3
        labels = (grid @ torch.tensor([1.0, 2.0], dtype=torch.float64)).remainder(5).long()
        no_factors, isotropic = torch.zeros(25, dim, 0), torch.full((25,), 0.8, dtype=torch.float64)
        return LabelledMixture(weights, means, no_factors, isotropic, (dim,), labels, device)

    if dim < 2 or dim % 2:
        raise ValueError(f"the labelled mixture needs an even dimension, got dim={dim}")
    capabilities = {"closed_form": True, "labelled": True, "tilted_denoiser": True}
    # if all the weight is on a mean at the edge of the grid
    return PriorSpec("mixture", (dim,), load, signal_range=(16 + 0.64) ** 0.5, **capabilities)


def digits():
    """Handwritten digits of 8 x 8 pixels, fitted by ``scripts/train/digits.py``: three factor analysers for each."""

    def load(device):
        tensors = {name: value.double() for name, value in read_safetensors(DIGITS.find()).items()}
        return LabelledMixture(**tensors, event_shape=(1, 8, 8), device=device)

    return PriorSpec("digits", (1, 8, 8), load, closed_form=True, labelled=True, weights=DIGITS)


PRIORS = {"labelled_mixture": labelled_mixture, "digits": digits}
