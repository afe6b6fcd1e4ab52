"""Known laws of the methods that run chains or ensembles: DDSMC, N-HMC, DMPlug and EnKG.

On the problem of ``fingerprint_problem`` (prior N(0, I_3), A = diag(1, 0.3, 0), sigma = 0.2) the exact
posterior has mean (0.962, 1.154, 0) and variances (0.0385, 0.3077, 1). None of these methods aims at it: each
has a law of its own, derived here coordinate by coordinate from scalar recursions.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from deepinv.physics import Physics
from helpers import draw, fingerprint_problem

from benchmark_utils.generator import generate, generator_levels
from benchmark_utils.priors import Prior
from benchmark_utils.schedule import NoiseSchedule, karras_levels
from solvers.ddsmc import Solver as DDSMC
from solvers.dmplug import Solver as DMPlug
from solvers.enkg import Solver as EnKG
from solvers.n_hmc import Solver as NHMC

SINGULAR = torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)
Y = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)


def run(Solver, n_draws, **parameters):
    return draw(Solver, *fingerprint_problem(), n_draws, **parameters)[0]


def posterior_under(variance, gain=SINGULAR, noise_std=0.2):
    """Mean and variance (3,) of x ~ N(0, variance) given ``y = gain x + noise``."""
    precision = 1 / variance + gain**2 / noise_std**2
    return gain * Y / noise_std**2 / precision, 1 / precision


def assert_moments(samples, mean, variance, n_se=4, rounding=0.0):
    """Moments (3 numbers each) within ``n_se`` standard errors of samples (n, 3), plus ``rounding``.

    ``rounding`` is absolute for the mean and relative for the variance.
    """
    mean, variance = torch.as_tensor(mean, dtype=torch.float64), torch.as_tensor(variance, dtype=torch.float64)
    mean_error, variance_error = (samples.mean(0) - mean).abs(), (samples.var(0) - variance).abs()
    n = len(samples)
    assert (mean_error <= n_se * (variance / n).sqrt() + rounding).all(), (samples.mean(0), mean)
    assert (variance_error <= (n_se * (2 / n) ** 0.5 + rounding) * variance).all(), (samples.var(0), variance)


# --------------------------------------------------------------------------------------------------------------- DDSMC


def ddsmc_prior_variance(eta, n_levels):
    """Variance of what DDSMC's own chain generates for N(0, 1), where D(x; sigma) = x / (1 + sigma^2)."""
    levels = karras_levels(100.0, 0.01, n_levels)
    variance = levels[0] ** 2
    for sigma, lower in pairwise(levels):
        w = (sigma**2 - lower**2) / (eta * lower**2 + sigma**2 - lower**2)
        gain = w / (1 + sigma**2) + 1 - w
        variance = gain**2 * variance + w * lower**2
    return variance / (1 + levels[-1] ** 2) ** 2


def test_the_prior_of_ddsmc_s_chain_is_the_prior_for_eta_1_only():
    variances = [ddsmc_prior_variance(eta, 200) for eta in (0.0, 0.5, 1.0)]
    assert variances == pytest.approx([0.48, 0.65, 0.95], abs=0.01)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddsmc_draws_the_posterior_under_the_prior_of_its_chain(eta):
    samples = run(DDSMC, 250, n_particles=32, n_levels=50, eta=eta, rho=1.0)
    assert_moments(samples, *posterior_under(ddsmc_prior_variance(eta, 50)), rounding=0.01)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_what_y_does_not_see_follows_ddsmc_s_chain(eta):
    """Whatever the number of particles."""
    samples = run(DDSMC, 3000, n_particles=2, n_levels=30, eta=eta)
    assert_moments(samples[:, [2]], [0.0], [ddsmc_prior_variance(eta, 30)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "rho, mean, variance",
    [
        (1.0, (0.956, 1.130, 0.0), (0.039, 0.306, 0.953)),
        (0.5, (0.981, 1.192, 0.0), (0.034, 0.291, 0.949)),  # 16 particles are too few for this proposal
    ],
)
def test_ddsmc_with_16_particles(rho, mean, variance):
    """Simulated with 20,000 filters; the values are rounded."""
    assert_moments(run(DDSMC, 1000, eta=1.0, rho=rho), mean, variance, rounding=0.005)


# ---------------------------------------------------------------------------------------------------- N-HMC and DMPlug


def generator_gain(labels):
    """G(z) / z for N(0, 1), where ``x_s`` is a fixed multiple of ``x_t`` in a DDIM step."""
    schedule = NoiseSchedule.linear()
    abars = [schedule.abar(label + 1) for label in labels] + [1.0]
    gain = 1.0
    for abar_t, abar_s in pairwise(abars):
        x_hat = abar_t**0.5  # D(x_t) / x_t, and the noise is sqrt(1 - abar_t) x_t
        gain *= abar_s**0.5 * x_hat + (1 - abar_s) ** 0.5 * (1 - abar_t) ** 0.5
    return gain


def test_the_generators_shrink_the_prior():
    gains = [generator_gain(labels) for labels in ((750, 375), (750, 562, 375, 187), (666, 333, 0))]
    assert gains == pytest.approx([0.437, 0.698, 0.504], abs=5e-4)


@pytest.mark.parametrize("rederive", [True, False])
def test_the_generator_is_ddim(rederive):
    """Clipped at 0.3, two steps by hand: the noise goes on as the network's own or that of the clipped image."""
    prior, z = Prior("gaussian", (("dim", 3),)).load(), torch.tensor([[0.2, -1.0, 3.0]], dtype=torch.float64)
    levels = generator_levels(prior.schedule, (750, 375))
    assert levels == [751, 376, 0]
    x = z
    for t, s in pairwise(levels):
        abar_t, abar_s = prior.schedule.abar(t), prior.schedule.abar(s)
        x_hat = (abar_t**0.5 * x).clamp(-0.3, 0.3)
        eps = (x - abar_t**0.5 * (x_hat if rederive else abar_t**0.5 * x)) / (1 - abar_t) ** 0.5
        x = abar_s**0.5 * x_hat + (1 - abar_s) ** 0.5 * eps
    assert torch.allclose(generate(prior, z, levels, clip=0.3, rederive=rederive), x, atol=1e-12)


@pytest.mark.parametrize("n_generator, labels", [(2, (750, 375)), (4, (750, 562, 375, 187))])
def test_n_hmc_draws_the_posterior_under_its_generator_s_prior(n_generator, labels):
    law = posterior_under(torch.tensor(generator_gain(labels) ** 2))
    samples = run(NHMC, 1500, n_generator=n_generator, n_anneal=10, late_from=5, n_leapfrog=10, step_size=0.1)
    assert_moments(samples, *law, rounding=0.01)
    assert abs(law[0][1] - 1.154) > 0.2  # not the posterior


@pytest.mark.slow
def test_n_hmc_with_the_published_schedule():
    """Accepting whatever decreases U, and redrawing until a proposal is accepted, is no valid chain.

    Simulated with 20,000 chains, whose values are rounded.
    """
    samples = run(NHMC, 2000, rejections="redraw", n_final=1, late_step=0.01)
    assert_moments(samples, (0.691, 0.177, 0.0), (0.039, 0.159, 0.194), rounding=0.02)


def test_dmplug_ends_at_least_squares():
    samples = run(DMPlug, 400, learning_rate=0.05, n_iterations=600)
    gain = generator_gain((666, 333, 0))
    assert torch.allclose(samples[:, :2], torch.tensor([1.0, 5 / 3], dtype=torch.float64), atol=1e-3)
    assert_moments(samples[:, [2]], [0.0], [gain**2])


# ---------------------------------------------------------------------------------------------------------------- EnKG


def test_enkg_uses_a_without_its_gradient():
    """It is run where A has none, and on problems that others skip for that."""
    problem, prior = fingerprint_problem()
    without = replace(problem, capabilities=frozenset({"gaussian"}))
    assert not EnKG.get_instance().skip(problem=without, prior=prior)[0]
    hidden = replace(without, operator=Physics(A=lambda x: problem.operator.A(x).detach()))
    settings = {"n_particles": 8, "n_levels": 10}
    assert torch.equal(draw(EnKG, hidden, prior, 2, **settings), draw(EnKG, problem, prior, 2, **settings))


@pytest.mark.parametrize("n", [3, 4])
def test_one_update_of_enkg_by_hand(n):
    """With as many values of y as particles, and with fewer, where K is not formed."""
    problem, prior = fingerprint_problem()
    x = [[0.3, -0.2, 1.0], [1.5, 0.4, -0.6], [-0.7, 2.0, 0.1], [0.2, 0.9, -1.3]]
    x = torch.tensor(x[:n], dtype=torch.float64)
    solver = EnKG.get_instance(n_particles=n)
    solver.resolve_presets("gaussian", "gaussian")
    x_0 = 0.6 * x
    K = torch.zeros(n, n, dtype=torch.float64)
    for j in range(n):
        for m in range(n):
            predicted = SINGULAR * x_0
            K[j, m] = (predicted[j] - Y) @ (predicted[m] - predicted.mean(0)) / n
    expected = torch.stack([sum(K[j, m] * (x[m] - x.mean(0)) for m in range(n)) for j in range(n)]) / K.norm()
    torch.testing.assert_close(solver.direction(problem.rows([0], n), x, x_0, 1), expected)


def test_enkg_counts_1588_evaluations_a_particle():
    solver = EnKG.get_instance(n_particles=4)
    solver.set_objective(*fingerprint_problem(), 1, 0)
    solver.run(None)
    result = solver.get_result()
    assert (result["nfe"], result["vjp"]) == (4 * 1588, 0)


@pytest.mark.slow
def test_enkg_collapses_where_y_sees():
    """64 particles as published otherwise; the error of the inner ODE's Euler steps moves it off least squares."""
    samples = run(EnKG, 40, n_particles=64)
    assert torch.allclose(samples.mean(0)[:2], torch.tensor([1.102, 1.836], dtype=torch.float64), atol=2e-3)
    assert (samples.var(0)[:2] < 1e-4).all()
    assert_moments(samples[:, [2]], [0.0], [0.98], rounding=0.02)
