"""How wrong MGDM's approximations are where the prior has modes: a mixture of 25 Gaussians.

    OMP_NUM_THREADS=1 python -m scripts.measure.mgdm_mixture_modes

The prior and A are those of ``gaussian_mixture[dim=8,dim_y=2,seed=0]``. As in ``scripts/measure/mgdm_mixture.py``,
but ghat_t^s(y | x_t) = E[N(y; A D_s(x_s), sigma^2) | x_t] (eq. 10 of https://arxiv.org/abs/2502.03332) has no closed
form here. Its gradient in x_t is the mean of grad log p(x_s | x_t) over draws x_s of p(x_s | x_t), weighted by their
N(y; A D_s(x_s), sigma^2). *draws* is the error that is left with x_0 in place of D_s(x_s), exact if there
were draws enough: what lies below it in other columns is not resolved.
"""

import math

import pandas as pd
import torch

from benchmark_utils.evaluate import objective_of
from datasets.gaussian_mixture import Dataset as GaussianMixture
from scripts.measure.common import markdown

N_PAIRS, N_DRAWS, N_MEMBERS = 24, 40_000, 10
LEVELS = (100, 250, 500, 900)
NOISE_STDS = (0.2, 0.5, 1.0)


class Modes:
    """Draws and scores of the mixture prior at its levels; points are (n, d) in float64, ``A`` is (m, d)."""

    def __init__(self, prior, A, seed=0):
        self.prior, self.A, self.schedule = prior, A, prior.schedule
        self.generator = torch.Generator().manual_seed(seed)

    def randn_like(self, x):
        return torch.randn(x.shape, generator=self.generator, dtype=x.dtype)

    def noise(self, x_0, t):
        abar = self.schedule.abar(t)
        return abar**0.5 * x_0 + (1 - abar) ** 0.5 * self.randn_like(x_0)

    def clean_law(self, x_t, t):
        """Log-weights (n, K), means (n, K, d) and variance of the components of x_0 given x_t."""
        abar, s2 = self.schedule.abar(t), self.prior.s2[0]
        total = abar * s2 + 1 - abar
        residual = x_t[:, None] - abar**0.5 * self.prior.means
        log_weights = self.prior.log_weights - residual.square().sum(-1) / (2 * total)
        return log_weights.log_softmax(1), self.prior.means + abar**0.5 * s2 / total * residual, s2 * (1 - abar) / total

    def draw_clean(self, x_t, t, n):
        """``n`` draws of x_0 given one x_t (1, d)."""
        log_weights, means, variance = self.clean_law(x_t, t)
        chosen = torch.multinomial(log_weights[0].exp(), n, replacement=True, generator=self.generator)
        return means[0, chosen] + variance**0.5 * self.randn_like(means[0, chosen])

    def exact_score(self, x_t, t, y, noise_std):
        """Gradient of log p(y | x_t) by autograd of its closed form."""
        with torch.enable_grad():
            x_t = x_t.clone().requires_grad_()
            log_weights, means, variance = self.clean_law(x_t, t)
            covariance = noise_std**2 * torch.eye(len(self.A), dtype=x_t.dtype) + variance * self.A @ self.A.T
            law = torch.distributions.MultivariateNormal(means @ self.A.T, covariance)
            return torch.autograd.grad((log_weights + law.log_prob(y[:, None])).logsumexp(1).sum(), x_t)[0]

    def backward_score(self, x_s, s, x_t, t):
        """grad log p(x_s | x_t) in x_t: that of q(x_t | x_s) less the score of x_t."""
        abar, ratio = self.schedule.abar(t), self.schedule.abar(t) / (self.schedule.abar(s) if s else 1.0)
        score = (abar**0.5 * self.prior.denoise(x_t, t) - x_t) / (1 - abar)
        return (ratio**0.5 * x_s - x_t) / (1 - ratio) - score

    def log_likelihood(self, x, y, noise_std):
        """``log N(y; A x, noise_std^2)`` up to a constant, (n,)."""
        return -(y - x @ self.A.T).square().sum(1) / (2 * noise_std**2)


def measure(modes, t, noise_stds, n_pairs=N_PAIRS, n_draws=N_DRAWS):
    """Relative errors of the members' and the mixture's scores at level t: ``{sigma: {name: number}}``."""
    members = {"draws": 0, "s = 10": 10, "t / 4": t // 4, "t / 2": t // 2, "t - 1": t - 1}
    grid = torch.linspace(10, t - 1, N_MEMBERS).round().int().tolist()
    clean = modes.prior.sample(n_draws, modes.generator)
    seen = {s: modes.prior.denoise(modes.noise(clean, s), s) for s in grid}  # D_s(x_s) under the law of x_s
    errors = {noise_std: dict.fromkeys([*members, "mixture"], 0.0) for noise_std in noise_stds}
    sizes = dict.fromkeys(noise_stds, 0.0)
    for x_0 in modes.prior.sample(n_pairs, modes.generator).split(1):
        x_t = modes.noise(x_0, t)
        draws, predicted = {}, {}
        for s in {*members.values(), *grid}:
            x = modes.draw_clean(x_t, t, n_draws)
            if s:
                c_0, c_t, std = modes.schedule.bridge(0, s, t)
                x = c_0 * x + c_t * x_t + std * modes.randn_like(x)
            draws[s] = modes.backward_score(x, s, x_t, t)
            predicted[s] = modes.prior.denoise(x, s) if s else x
        direction = modes.randn_like(x_0[:, : len(modes.A)])
        for noise_std in noise_stds:
            y = x_0 @ modes.A.T + noise_std * direction
            logs = {s: modes.log_likelihood(predicted[s], y, noise_std) for s in draws}
            scores = {s: logs[s].softmax(0) @ draws[s] for s in draws}
            evidence = torch.stack([modes.log_likelihood(seen[s], y, noise_std).logsumexp(0) for s in grid])
            weights = (torch.stack([logs[s].logsumexp(0) for s in grid]) - evidence).softmax(0)
            mixture = weights @ torch.stack([scores[s] for s in grid])
            exact = modes.exact_score(x_t, t, y, noise_std)[0]
            sizes[noise_std] += exact.square().sum()
            for name, found in [*((name, scores[s]) for name, s in members.items()), ("mixture", mixture)]:
                errors[noise_std][name] += (found - exact).square().sum()
    return {std: {name: math.sqrt(e / sizes[std]) for name, e in found.items()} for std, found in errors.items()}


def main():
    objective = objective_of(GaussianMixture.get_instance(dim=8, dim_y=2, seed=0))
    prior = objective.prior.load("cpu")
    A = objective.problem.operator.A(torch.eye(8, dtype=torch.float64)).T
    rows = [
        {"sigma": noise_std, "t": t} | {name: f"{value:.3f}" for name, value in found.items()}
        for t in LEVELS
        for noise_std, found in measure(Modes(prior, A), t, NOISE_STDS).items()
    ]
    print(markdown(pd.DataFrame(rows).sort_values(["sigma", "t"])))


if __name__ == "__main__":
    main()
