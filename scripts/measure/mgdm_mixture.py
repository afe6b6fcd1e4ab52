"""How wrong MGDM's approximations are where the posterior at every level is known: a Gaussian prior.

    python -m scripts.measure.mgdm_mixture

The prior is that of ``gaussian``, N(0, Sigma) in three dimensions, seen by A = diag(1, 0.3) in the first two. Under it
D_s(x) = C_s x, and x_0 given x_t is N(C_t x_t, V_t). So each member of the mixture (eq. 10 of
https://arxiv.org/abs/2502.03332) is a Gaussian likelihood,

    ghat_t^s(y | x_t) = N(y; H x_t, R),
    H = A C_s (c_0 C_t + c_t I),   R = sigma^2 I + A C_s (std^2 I + c_0^2 V_t) C_s^T A^T,

with the coefficients of the bridge q(x_s | x_0, x_t), and so is the exact p(y | x_t). The backward move of x_t to
x_s is the prior's own, which the Gibbs sampler of algorithm 1 keeps, not the one of eq. 4. The table has, over pairs
(x_t, y) of the joint law, the root mean square of the error of grad log ghat against grad log p(y | x_t), in units of
the root mean square of the latter: 0 is exact, and 1 is as far off as no guidance.
"""

import math

import numpy as np
import pandas as pd

from benchmark_utils.priors import Prior
from scripts.measure.common import markdown

N_PAIRS = 2000
LEVELS = (100, 250, 500, 900)
NOISE_STDS = (0.01, 0.05, 0.2, 1.0)


class Bed:
    """A Gaussian prior N(0, Sigma), a linear operator and the noise schedule: every likelihood in closed form.

    ``covariance`` is (d, d), ``A`` (m, d); a likelihood is a pair (H, R) of N(y; H x_t, R).
    """

    def __init__(self, covariance, A, noise_std, schedule):
        self.covariance, self.A, self.schedule = covariance, A, schedule
        self.noise = noise_std**2 * np.eye(len(A))

    def noised(self, t):
        """Covariance of x_t."""
        abar = self.schedule.abar(t)
        return abar * self.covariance + (1 - abar) * np.eye(len(self.covariance))

    def denoiser(self, t):
        """C_t of E[x_0 | x_t] = C_t x_t."""
        return self.schedule.abar(t) ** 0.5 * self.covariance @ np.linalg.inv(self.noised(t))

    def spread(self, t):
        """V_t, the covariance of x_0 given x_t."""
        return self.covariance - self.schedule.abar(t) ** 0.5 * self.denoiser(t) @ self.covariance

    def exact(self, t):
        """Likelihood p(y | x_t)."""
        return self.A @ self.denoiser(t), self.noise + self.A @ self.spread(t) @ self.A.T

    def member(self, s, t):
        """Likelihood ghat_t^s(y | x_t)."""
        c_0, c_t, std = self.schedule.bridge(0, s, t)
        seen, one = self.A @ self.denoiser(s), np.eye(len(self.covariance))
        variance = std**2 * one + c_0**2 * self.spread(t)
        return seen @ (c_0 * self.denoiser(t) + c_t * one), self.noise + seen @ variance @ seen.T

    def log_evidence(self, likelihood, t, y):
        """Log of the integral of a likelihood over the law of x_t, at each row of ``y`` (n, m): (n,)."""
        H, R = likelihood
        return log_normal(y, H @ self.noised(t) @ H.T + R)

    def draw(self, t, n, random):
        """Pairs of the joint law: x_t (n, d), y (n, m)."""
        H, R = self.exact(t)
        x_t = random.multivariate_normal(np.zeros(len(self.covariance)), self.noised(t), n)
        return x_t, x_t @ H.T + random.multivariate_normal(np.zeros(len(H)), R, n)


def log_normal(residual, covariance):
    """Log-density of N(0, covariance), up to the constant of the dimension, at each row (n, m): (n,)."""
    whitened = np.linalg.solve(covariance, residual.T).T
    return -((residual * whitened).sum(1) + np.linalg.slogdet(covariance)[1]) / 2


def score(likelihood, x_t, y):
    """Gradient in x_t of a log-likelihood, (n, d)."""
    H, R = likelihood
    return np.linalg.solve(R, (y - x_t @ H.T).T).T @ H


def mixture_score(bed, levels, t, x_t, y, normalised=True):
    """Gradient of log sum_s w_s ghat_t^s / Z_s over ``levels`` with equal weights: that of MGDM's mixture (eq. 12).

    Z_s makes each member a posterior; ``normalised=False`` leaves it out: the mixture of likelihoods of algorithm 4.
    """
    members = [bed.member(s, t) for s in levels]
    logs = np.stack([log_normal(y - x_t @ H.T, R) for H, R in members], 1)
    if normalised:
        logs = logs - np.stack([bed.log_evidence(member, t, y) for member in members], 1)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    weights = weights / weights.sum(1, keepdims=True)
    return sum(w[:, None] * score(member, x_t, y) for w, member in zip(weights.T, members, strict=True))


def measure(noise_std, t, correlation=0.0):
    """Relative errors of the members' and the mixtures' scores at level t, ``{name: number}``."""
    schedule = Prior("gaussian").load("cpu").schedule
    index = np.arange(3)
    covariance = correlation ** np.abs(index[:, None] - index)
    A = np.array([[1.0, 0.0, 0.0], [0.0, 0.3, 0.0]])
    bed = Bed(covariance, A, noise_std, schedule)
    x_t, y = bed.draw(t, N_PAIRS, np.random.default_rng(0))
    exact = score(bed.exact(t), x_t, y)

    def error(found):
        return math.sqrt(np.square(found - exact).sum() / np.square(exact).sum())

    members = {"s = 10": 10, "t / 4": t // 4, "t / 2": t // 2, "t - 1": t - 1}
    errors = {name: error(score(bed.member(s, t), x_t, y)) for name, s in members.items()}
    levels = np.unique(np.linspace(10, t - 1, 20).round().astype(int)).tolist()
    errors["mixture"] = error(mixture_score(bed, levels, t, x_t, y))
    errors["mixture of likelihoods"] = error(mixture_score(bed, levels, t, x_t, y, normalised=False))
    return errors


def main():
    for correlation in (0.0, 0.9):
        rows = [
            {"correlation": correlation, "sigma": noise_std, "t": t}
            | {name: f"{value:.3f}" for name, value in measure(noise_std, t, correlation).items()}
            for noise_std in NOISE_STDS
            for t in LEVELS
        ]
        print(markdown(pd.DataFrame(rows)), end="\n\n")


if __name__ == "__main__":
    main()
