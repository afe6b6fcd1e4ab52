"""``gaussian_latent``: a Gaussian latent behind a linear decoder, so that latent methods have a known right answer."""

import torch

from benchmark_utils.priors.base import LoadedPrior, PriorSpec, expand_like
from benchmark_utils.rng import stream_seed
from benchmark_utils.schedule import NoiseSchedule


class LinearLatent(LoadedPrior):
    """``x = W z`` with ``z ~ N(0, I)``, in float64; ``encode`` is the pseudo-inverse of the decoder W, (D, d)."""

    dtype = torch.float64

    def __init__(self, decoder, device):
        self.device = torch.device(device)
        self.schedule = NoiseSchedule.linear()
        self.decoder = decoder.to(self.dtype).to(self.device)
        self.encoder = torch.linalg.pinv(self.decoder)
        self.signal_shape, self.event_shape = self.decoder.shape[:1], self.decoder.shape[1:]

    def denoise_sigma(self, x, sigma):
        return x / (1 + expand_like(sigma, x) ** 2)

    def decode(self, z):
        return z @ self.decoder.T

    def encode(self, x):
        return x @ self.encoder.T

    def sample(self, n, generator):
        """``n`` exact draws of x, (n, D)."""
        z = torch.randn(n, *self.event_shape, generator=generator, dtype=self.dtype, device=self.device)
        return self.decode(z)

    def posterior(self, problem):
        """The exact posterior of a linear-Gaussian problem: of x, or of z if that is the problem's unknown."""
        if problem.pixel is None:
            return LinearPosterior(self, problem, self.decoder)
        return LinearPosterior(self, problem.pixel, torch.eye(self.event_shape[0]).to(self.decoder))


class LinearPosterior:
    """Law of ``B z`` given y: ``z | y ~ N(P W^T A^T y / sigma^2, P)``, ``P = (I + W^T A^T A W / sigma^2)^-1``.

    Attributes, one row per row of the problem: ``mean`` (n, rows of B), ``trace_cov`` (n,).
    """

    def __init__(self, prior, problem, B):
        measured = problem.operator.A(prior.decoder.T).flatten(1)  # (d, m): A W e_i
        precision = torch.eye(len(measured)).to(measured) + measured @ measured.T / problem.noise.std**2
        covariance = torch.linalg.inv(precision)
        y = problem.y.flatten(1)
        self.mean = y @ measured.T @ covariance @ B.T / problem.noise.std**2
        self.root = torch.linalg.cholesky(covariance).T @ B.T  # (d, rows of B)
        self.trace_cov = self.root.square().sum().expand(len(y))

    def sample(self, rng):
        """Exact draws, one per row of ``rng``, which has as many rows for each row of the problem."""
        repeats = len(rng.images) // len(self.mean)
        return self.mean.repeat_interleave(repeats, 0) + rng.randn(len(self.root)) @ self.root


LARGEST_GAIN, SMALLEST_GAIN = 1.5, 0.5


def gaussian_latent(dim=3, signal_dim=5):
    """A fixed random decoder with singular values uniform from 1.5 to 0.5."""

    def load(device):
        generator = torch.Generator().manual_seed(stream_seed(0, "truth", "decoder", dim, signal_dim))
        random = torch.randn(signal_dim, dim, generator=generator, dtype=torch.float64)
        left, _, right = torch.linalg.svd(random, full_matrices=False)
        return LinearLatent(left * torch.linspace(LARGEST_GAIN, SMALLEST_GAIN, dim).double() @ right, device)

    if not 1 <= dim <= signal_dim:
        raise ValueError(f"a latent has 1 to {signal_dim} dimensions, those of the signal, got dim={dim}")
    return PriorSpec(
        family="ffhq_latent",
        signal_shape=(signal_dim,),
        event_shape=(dim,),
        load=load,
        is_latent=True,
        closed_form=True,
        signal_range=LARGEST_GAIN,
    )


PRIORS = {"gaussian_latent": gaussian_latent}
