"""How wrong MGDM's members are where the prior has modes: a mixture of 25 Gaussians.

    OMP_NUM_THREADS=1 python -m scripts.measure.mgdm_mixture_modes

The prior and A are those of ``gaussian_mixture[dim=8,dim_y=2,seed=0]``. As in ``scripts/measure/mgdm_mixture.py``,
but ghat_t^s(y | x_t) = E[N(y; A D_s(x_s), sigma^2) | x_t] (eq. 10 of https://arxiv.org/abs/2502.03332) has no closed
form here. Its gradient in x_t is the mean of grad log p(x_s | x_t) over draws x_s of p(x_s | x_t), weighted by their
N(y; A D_s(x_s), sigma^2). *exact* has x_0 in place of D_s(x_s), so that its error is that of the draws. The plug-in
N(y; A D_t(x_t), sigma^2) of DPS, which s -> t tends to, needs none. A cell is left out where, for half of the pairs,
the weights are worth fewer than 100 draws.
"""

import math

import pandas as pd
import torch

from benchmark_utils.evaluate import objective_of
from datasets.gaussian_mixture import Dataset as GaussianMixture
from scripts.measure.common import markdown

N_PAIRS, N_DRAWS, ENOUGH = 40, 100_000, 100
LEVELS = (100, 250, 500, 900)
NOISE_STDS = (0.2, 0.5, 1.0)


class Modes:
    """Draws and scores of a prior of components N(mu_k, s^2 I) of one s; points are (n, d) in float64, ``A`` (m, d)."""

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

    def plug_in_score(self, x_t, t, y, noise_std):
        """Gradient of log N(y; A D_t(x_t), noise_std^2)."""
        with torch.enable_grad():
            x_t = x_t.clone().requires_grad_()
            return torch.autograd.grad(self.log_likelihood(self.prior.denoise(x_t, t), y, noise_std).sum(), x_t)[0]

    def log_likelihood(self, x, y, noise_std):
        """``log N(y; A x, noise_std^2)`` up to a constant, (n,)."""
        return -(y - x @ self.A.T).square().sum(1) / (2 * noise_std**2)


def measure(modes, t, noise_stds, n_pairs=N_PAIRS, n_draws=N_DRAWS):
    """Relative errors of the scores at level t, NaN where the draws are too few: ``{sigma: {name: number}}``."""
    members = {"exact": 0, "s = 10": 10, "t / 4": t // 4, "t / 2": t // 2}
    names = [*members, "plug-in"]
    squares = {noise_std: {name: [] for name in ("size", *names)} for noise_std in noise_stds}
    worth = {noise_std: {name: [] for name in members} for noise_std in noise_stds}
    for x_0 in modes.prior.sample(n_pairs, modes.generator).split(1):
        x_t, direction = modes.noise(x_0, t), modes.randn_like(x_0[:, : len(modes.A)])
        y = {noise_std: x_0 @ modes.A.T + noise_std * direction for noise_std in noise_stds}
        exact = {noise_std: modes.exact_score(x_t, t, y[noise_std], noise_std)[0] for noise_std in noise_stds}
        for name, s in members.items():
            x = modes.draw_clean(x_t, t, n_draws)
            if s:
                c_0, c_t, std = modes.schedule.bridge(0, s, t)
                x = c_0 * x + c_t * x_t + std * modes.randn_like(x)
            directions = modes.backward_score(x, s, x_t, t)
            directions = directions - directions.mean(0)  # the mean is 0 under p(x_s | x_t)
            predicted = modes.prior.denoise(x, s) if s else x
            for noise_std in noise_stds:
                weights = modes.log_likelihood(predicted, y[noise_std], noise_std).softmax(0)
                squares[noise_std][name].append((weights @ directions - exact[noise_std]).square().sum())
                worth[noise_std][name].append(1 / weights.square().sum())
        for noise_std in noise_stds:
            plug_in = modes.plug_in_score(x_t, t, y[noise_std], noise_std)[0]
            squares[noise_std]["plug-in"].append((plug_in - exact[noise_std]).square().sum())
            squares[noise_std]["size"].append(exact[noise_std].square().sum())

    def error(noise_std, name):
        if name in members and torch.stack(worth[noise_std][name]).median() < ENOUGH:
            return math.nan
        return math.sqrt(sum(squares[noise_std][name]) / sum(squares[noise_std]["size"]))

    return {noise_std: {name: error(noise_std, name) for name in names} for noise_std in noise_stds}


def main():
    objective = objective_of(GaussianMixture.get_instance(dim=8, dim_y=2, seed=0))
    prior = objective.prior.load("cpu")
    A = objective.problem.operator.A(torch.eye(8, dtype=torch.float64)).T
    rows = [
        {"sigma": noise_std, "t": t}
        | {name: "–" if math.isnan(value) else f"{value:.2g}" for name, value in found.items()}
        for t in LEVELS
        for noise_std, found in measure(Modes(prior, A), t, NOISE_STDS).items()
    ]
    print(markdown(pd.DataFrame(rows, dtype=object).sort_values(["sigma", "t"])))


if __name__ == "__main__":
    main()
