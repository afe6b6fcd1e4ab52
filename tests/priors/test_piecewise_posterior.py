"""Modulus and clipping of a Gaussian mixture: the posterior against a grid (d = 2) and parallel tempering (d = 8)."""

import numpy as np
import pytest
import torch

from benchmark_utils.evaluate import evaluate, objective_of
from benchmark_utils.metrics import mode_total_variation
from benchmark_utils.noise import PoissonNoise
from benchmark_utils.operators.elementwise import OPERATORS, elementwise
from benchmark_utils.priors import Prior
from benchmark_utils.problem import capabilities
from benchmark_utils.rng import RNG
from datasets.gaussian_mixture_nonlinear import Dataset
from solvers.exact_posterior import Solver as ExactPosterior


def problem_and_prior(operator, dim, seed, noise_std=0.5):
    dataset = Dataset.get_instance(operator=operator, dim=dim, seed=seed, noise_std=noise_std)
    objective = objective_of(dataset)
    return objective.problem, objective.prior.load("cpu")


def log_posterior(problem, prior, x):
    """Unnormalised, of points (n, d), from the definitions."""
    components = -(x[:, None] - prior.means).square().sum(2) / 2
    log_prior = (components + prior.log_weights).logsumexp(1)
    return log_prior - (problem.y - problem.operator.A(x)).square().sum(1) / (2 * problem.noise.std**2)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("noise_std", [0.3, 2.0])
def test_posterior_is_that_of_a_grid_in_two_dimensions(operator, noise_std):
    for seed in range(2):
        problem, prior = problem_and_prior(operator, 2, seed, noise_std)
        posterior = prior.posterior(problem)
        line = torch.arange(-22, 22, 0.08, dtype=torch.float64) + 0.04  # no node on an edge of a piece
        first = second = total = responsibilities = 0
        for part in line.split(50):
            x = torch.cartesian_prod(part, line)
            weights = (log_posterior(problem, prior, x) + 10).exp()[:, None]
            total, first, second = total + weights.sum(), first + (weights * x).sum(0), second + (weights * x**2).sum()
            responsibilities = responsibilities + (weights * prior.responsibilities(x)).sum(0)
        mean = first / total
        torch.testing.assert_close(posterior.mean[0], mean, rtol=0, atol=2e-3)
        torch.testing.assert_close(posterior.trace_cov[0], second / total - mean.square().sum(), rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(posterior.weights[0], responsibilities / total, rtol=0, atol=1e-3)


@pytest.mark.parametrize("operator", OPERATORS)
def test_draws_have_the_moments_and_the_weights(operator):
    problem, prior = problem_and_prior(operator, 2, 0)
    posterior, n = prior.posterior(problem), 20_000
    x = posterior.sample(RNG(0, "sampler", "modulus", [0] * n, range(n), dtype=torch.float64))
    assert ((x.mean(0) - posterior.mean[0]).abs() < 4 * x.std(0) / n**0.5).all()
    spread = (x - posterior.mean).square().sum(1)
    assert abs(spread.mean() - posterior.trace_cov) < 4 * spread.std() / n**0.5
    assert mode_total_variation(prior.responsibilities(x), posterior.weights[0]) < 0.02
    assert problem.rows([0], n).misfit(x).mean() == pytest.approx(1, abs=0.3)


def parallel_tempering(log_density, start, powers, n_steps, random):
    """Draws of ``exp(log_density)`` by random walks at each power, which exchange states; (n_steps / 2 x chains, d)."""
    x = np.broadcast_to(start, (len(powers), *start.shape)).copy()
    value = log_density(x)
    steps = 0.8 / np.sqrt(powers)[:, None, None]
    drawn = []
    for step in range(n_steps):
        proposal = x + np.minimum(steps, 6.0) * random.standard_normal(x.shape)
        new = log_density(proposal)
        accepted = np.log(random.random(new.shape)) < powers[:, None] * (new - value)
        x, value = np.where(accepted[..., None], proposal, x), np.where(accepted, new, value)
        for k in range(step % 2, len(powers) - 1, 2):
            swap = np.log(random.random(x.shape[1])) < (powers[k] - powers[k + 1]) * (value[k + 1] - value[k])
            x[[k, k + 1]] = np.where(swap[:, None], x[[k + 1, k]], x[[k, k + 1]])
            value[[k, k + 1]] = np.where(swap, value[[k + 1, k]], value[[k, k + 1]])
        if step >= n_steps // 2 and step % 10 == 0:
            drawn.append(x[0].copy())
    return np.concatenate(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 8])
@pytest.mark.parametrize("operator", OPERATORS)
def test_posterior_is_that_of_parallel_tempering(operator, dim):
    """64 independent ladders that start at draws of the prior: the standard error is that between the ladders."""
    problem, prior = problem_and_prior(operator, dim, 1)
    n_chains, random = 64, np.random.default_rng(0)
    start = prior.sample(n_chains, torch.Generator().manual_seed(3)).numpy()

    def log_density(x):
        return log_posterior(problem, prior, torch.from_numpy(x.reshape(-1, dim))).numpy().reshape(x.shape[:-1])

    x = parallel_tempering(log_density, start, np.geomspace(1, 0.004, 14), 3000, random)
    x = torch.from_numpy(x).view(-1, n_chains, dim)
    posterior = prior.posterior(problem)
    for values, expected in (
        (x.mean(0), posterior.mean[0]),
        (prior.responsibilities(x.flatten(0, 1)).view(len(x), n_chains, -1).mean(0), posterior.weights[0]),
    ):
        error = values.std(0) / n_chains**0.5
        assert ((values.mean(0) - expected).abs() < 4.5 * error + 1e-3).all()


def test_the_row_of_exact_draws_and_what_has_no_posterior():
    row = evaluate(ExactPosterior, "gaussian_mixture_nonlinear[operator=modulus,dim=8]", n_samples=300).iloc[0]
    assert row["mode_tv"] < 0.1 and row["sliced_wasserstein"] < 3 * row["sliced_wasserstein_floor"] + 0.2
    operator, known = elementwise("clip"), Prior("gaussian_mixture")
    from benchmark_utils.noise import GaussianNoise

    assert "closed_form" in capabilities(operator, GaussianNoise(0.5), known)
    assert "closed_form" not in capabilities(operator, PoissonNoise(1.0), known)
    assert "closed_form" not in capabilities(operator, GaussianNoise(0.5), Prior("gaussian", (("correlation", 0.5),)))
    with pytest.raises(ValueError, match="modulus, clip"):
        elementwise("square")


@pytest.mark.parametrize("operator", OPERATORS)
def test_rows_do_not_couple(operator):
    problem, prior = problem_and_prior(operator, 2, 0)
    many = problem.rows([0], 3)
    posterior = prior.posterior(many)
    torch.testing.assert_close(posterior.mean[1:2], prior.posterior(problem).mean)
    streams = RNG(0, "sampler", "modulus", [0, 0, 0], [0, 1, 2], dtype=torch.float64)
    alone = RNG(0, "sampler", "modulus", [0], [1], dtype=torch.float64)
    torch.testing.assert_close(posterior.sample(streams)[1:2], prior.posterior(problem).sample(alone))
