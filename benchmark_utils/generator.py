"""The few-step deterministic generator of N-HMC and DMPlug: an image as a function of its seed."""

from itertools import pairwise

import torch


def generator_levels(schedule, labels):
    """Levels of network labels on 0..999, such as (750, 375), on a schedule of any length, and 0."""
    return [*(1 + label * schedule.T // 1000 for label in labels), 0]


def generate(prior, seed, levels, clip=float("inf"), rederive=True):
    """DDIM (eta = 0) from ``seed`` (n, *event), the state x_t of the first level, to its image, differentiable.

    The denoised image is clipped to [-clip, clip]. The noise that goes on to the next level is
    ``x_t - sqrt(abar_t) D``, of the clipped D if ``rederive``, else of the network's own.
    Song et al. 2021, https://arxiv.org/abs/2010.02502, eq. 12.
    """
    x = seed / prior.schedule.abar(levels[0]) ** 0.5
    for t, s in pairwise(levels):
        raw = prior.denoise_sigma(x, prior.schedule.sigma(t))
        x_hat = raw.clamp(-clip, clip)
        x = x_hat + prior.schedule.sigma(s) / prior.schedule.sigma(t) * (x - (x_hat if rederive else raw))
    return x


def squared_residual(problem, prior, seed, **options):
    """``||y - A(G(seed))||^2`` (n,), its gradient by the seed (n, *event), and G(seed) of :func:`generate`."""
    with torch.enable_grad():
        seed = seed.detach().requires_grad_()
        image = generate(prior, seed, **options)
        squared = problem.residual(image).square().flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(squared.sum(), seed)
    return squared.detach(), gradient, image.detach()
