"""What samplers that are guided by a label share: noise levels, the guided denoiser, Heun's and Euler's steps.

In the variance-exploding view: ``x = x_0 + sigma eps``, denoisers ``D_c = E[x_0 | x, label]`` and ``D_u = E[x_0 | x]``.
"""

import math

from benchmark_utils.schedule import karras_levels

SIGMA_MAX, SIGMA_MIN = 80.0, 0.002  # of EDM's grid
SAMPLERS = "heun", "ddim", "ddpm"


def choose_weight(own, problem):
    """A solver's own guidance weight, or that of the problem where it is ``"problem"``."""
    return problem.weight if own == "problem" else own


def guided_levels(schedule, n_steps, sampler="heun", first=math.inf):
    """``n_steps`` noise levels down from ``first``, or from the schedule's largest if that is lower, and 0.

    EDM's grid, at most from 80, for Heun's method (Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1); for
    DDIM and DDPM the schedule's own levels up to ``first``, uniform in t, or its lowest where all are above. Raises
    ValueError for a ``first`` that is not above the lowest level, and for more steps than levels.
    """
    if first <= SIGMA_MIN:
        raise ValueError(f"the noise levels end at {SIGMA_MIN}: sigma_gibbs must be above it, got {first:g}")
    if sampler == "heun":
        return [*karras_levels(min(first, SIGMA_MAX, schedule.sigma(schedule.T)), SIGMA_MIN, n_steps), 0.0]
    top = max(1, sum(schedule.sigma(t) <= first for t in range(1, schedule.T + 1)))
    if n_steps > top:
        raise ValueError(f"{n_steps} steps, but the prior has {top} noise levels up to {first:g}: use fewer")
    lower = [schedule.sigma(1 + round(i * (top - 1) / (n_steps - 1))) for i in reversed(range(n_steps - 1))]
    return [schedule.sigma(top), *lower, 0.0]


def guide(prior, label, weight, interval=(0.0, math.inf)):
    """The denoiser ``D_u + w (D_c - D_u)`` where sigma lies inside ``interval``, else D_c, as a function (x, sigma).

    Two evaluations, one where the weight is 1 or outside the interval. Raises ValueError for an empty interval.
    """
    if not interval[0] < interval[1]:
        raise ValueError(f"interval must be (low, high) with low < high, got {tuple(interval)}")

    def denoise(x, sigma):
        conditional = prior.denoise_sigma(x, sigma, label)
        if weight == 1 or not interval[0] < sigma < interval[1]:
            return conditional
        unconditional = prior.denoise_sigma(x, sigma)
        return unconditional + weight * (conditional - unconditional)

    return denoise


def heun(denoise, x, moves):
    """Solve ``dx / dsigma = (x - D(x; sigma)) / sigma`` over the moves (sigma, lower); a move to 0 returns D.

    Heun's method (Karras et al. 2022, algorithm 1, without churn): 2 n - 1 calls of ``denoise`` for n moves.
    """
    for sigma, lower in moves:
        slope = (x - denoise(x, sigma)) / sigma
        ahead = x + (lower - sigma) * slope
        if lower > 0:
            slope = (slope + (ahead - denoise(ahead, lower)) / lower) / 2
            ahead = x + (lower - sigma) * slope
        x = ahead
    return x


def ancestral(denoise, x, moves, rng=None):
    """DDIM over the moves (sigma, lower), or with ``rng`` DDPM's draws of ``x_lower`` given x and ``x_0 = D(x)``.

    Song et al. 2021, https://arxiv.org/abs/2010.02502, eq. 12 with eta = 0 or 1.
    """
    for sigma, lower in moves:
        x_hat, ratio = denoise(x, sigma), lower / sigma
        if rng is None or lower == 0:
            x = x_hat + ratio * (x - x_hat)
        else:
            x = x_hat + ratio**2 * (x - x_hat) + lower * (1 - ratio**2) ** 0.5 * rng.randn_like(x)
    return x
