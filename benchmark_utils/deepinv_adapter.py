"""Run deepinv's own samplers: one image and draw at a time, on images in [0, 1], or all rows with their own noise."""

import copy

import torch
from deepinv.models import Denoiser
from deepinv.physics import GaussianNoise
from deepinv.sampling import AncestralSolver


class UnitRangeDenoiser(Denoiser):
    """A loaded prior as deepinv's denoiser: images in [0, 1] and noise levels in these units."""

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def forward(self, x, sigma, **_):
        sigma = float(sigma)
        if sigma == 0:  # DDRM's last level
            return x
        return (self.prior.denoise_sigma(2 * x.to(self.prior.dtype) - 1, 2 * sigma) + 1) / 2


def in_unit_range(problem):
    """The measurement and the deepinv physics of a linear problem whose unknown is ``u = (x + 1) / 2``.

    ``y = A x + sigma n`` is ``(y + A 1) / 2 = A u + (sigma / 2) n``: the same A, and hidden entries stay 0.
    """
    physics = copy.deepcopy(problem.operator)
    physics.noise_model = GaussianNoise(problem.noise.std / 2)
    if "svd" in problem.capabilities:  # DDRM indexes the singular values with masks of the spectrum's shape
        physics.mask = physics.mask.expand(physics.U_adjoint(problem.y).shape).clone()
    ones = torch.ones_like(physics.A_adjoint(problem.y))
    return (problem.y + problem.A(ones)) / 2, physics


def sample_one_by_one(reconstruct, problem, rng, progress):
    """``reconstruct(y, physics)`` on [0, 1] for each row of ``problem``, as (n, *signal) in [-1, 1].

    deepinv draws its noise from torch's global generator, over the batch, and its ``seed=0`` means no seed: so every
    row runs alone, in a fork of the generator, seeded from that row of ``rng``.
    """
    seeds = 1 + (2**24 * rng.rand(1)[:, 0]).long()
    devices = [rng.device] if rng.device.type == "cuda" else []
    samples = []
    for row, seed in enumerate(progress(seeds.tolist())):
        y, physics = in_unit_range(problem.rows([row]))
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            samples.append(reconstruct(y, physics))
    return 2 * torch.cat(samples).to(rng.dtype) - 1


class SignalDenoiser(Denoiser):
    """A loaded prior as deepinv's denoiser, in its own units and type."""

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def forward(self, x, sigma, **_):
        return self.prior.denoise_sigma(x.to(self.prior.dtype), sigma.flatten())


class RowNoiseSolver(AncestralSolver):
    """deepinv's DDIM(eta) steps between ``levels``, whose noise is that of each row of ``rng``."""

    def __init__(self, rng, levels, eta):
        super().__init__(levels, eta=eta)
        self.own_rng = rng

    def randn_like(self, x, seed=None):
        return self.own_rng.randn_like(x)


def with_noise_level(problem):
    """The operator of ``problem`` as a deepinv physics that knows the noise of y."""
    physics = copy.deepcopy(problem.operator)
    physics.noise_model = GaussianNoise(problem.noise.std)
    return physics
