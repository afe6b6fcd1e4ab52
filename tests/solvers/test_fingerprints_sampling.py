"""Known laws of the samplers with inner loops and of the particle methods.

On the problem of ``fingerprint_problem`` (prior N(0, I_3), A = diag(1, 0.3, 0), sigma = 0.2) every sampler whose inner
step is exact follows a scalar recursion in each coordinate; the values below are its moments (simulated with 20,000
draws unless a formula is given). (0.962, 1.154, 0) and (0.0385, 0.3077, 1) would be exact. A sampler that approximates
its inner step by Adam, Langevin moves or a discretised diffusion gets a window of its own around what was measured,
and the inner step alone is compared with the exact one.
"""

import math
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from helpers import draw, fingerprint_problem

from benchmark_utils.particles import Particles
from benchmark_utils.rng import RNG
from benchmark_utils.schedule import karras_levels
from datasets.gaussian import Dataset as GaussianDataset
from objective import Objective
from solvers.daps import Solver as DAPS
from solvers.dcps import Solver as DCPS
from solvers.dps import Solver as DPS
from solvers.fps_smc import Solver as FPS
from solvers.mcgdiff import Solver as MCGDiff
from solvers.mgps import Solver as MGPS
from solvers.pnp_dm import Solver as PnPDM
from solvers.tds import Solver as TDS

REFERENCE_DRAWS = 20_000
PARTICLE_METHODS = [MCGDiff, FPS, TDS]


def assert_moments(samples, mean, variance, n_se=4, rounding=0.005):
    """Moments (3 numbers each) within ``n_se`` standard errors of samples (n, 3) and reference, plus ``rounding``.

    ``rounding`` is absolute for the mean and relative for the variance.
    """
    mean, variance = torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64)
    inverse = 1 / len(samples) + 1 / REFERENCE_DRAWS
    mean_tolerance = n_se * (variance * inverse).sqrt() + rounding
    variance_tolerance = (n_se * (2 * inverse) ** 0.5 + rounding) * variance
    mean_error, variance_error = (samples.mean(0) - mean).abs(), (samples.var(0) - variance).abs()
    assert (mean_error <= mean_tolerance).all(), (samples.mean(0), mean)
    assert (variance_error <= variance_tolerance).all(), (samples.var(0), variance)


def run(Solver, n_draws, **parameters):
    return draw(Solver, *fingerprint_problem(), n_draws, **parameters)[0]


def stream(n):
    return RNG(0, "sampler", "gaussian", [0] * n, range(n), dtype=torch.float64)


def gaussian_product(prior_mean, prior_variance, B, y, noise_variance):
    """Mean and variance of ``N(x; prior_mean, prior_variance) N(y; B x, noise_variance)``, element by element."""
    variance = 1 / (1 / prior_variance + B**2 / noise_variance)
    return variance * (prior_mean / prior_variance + B * y / noise_variance), variance


# ---------------------------------------------------------------------------------------------------------------- DAPS


def daps_free_variance(n_ode, ode_sigma_min=0.01):
    """Variance of an unobserved coordinate under DAPS with r = sigma and prior N(0, 1): x_0 = gain x + sigma eps."""
    levels = [*karras_levels(100.0, 0.1, 200), 0.0]
    variance = levels[0] ** 2
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        grid, gain = karras_levels(sigma, ode_sigma_min, n_ode + 1), 1.0
        for s, s_next in zip(grid, grid[1:], strict=False):
            gain *= 1 + (s_next - s) * s / (1 + s**2)
        variance = gain**2 * variance + sigma**2 + sigma_next**2
    return variance


class CovarianceDAPS(DAPS):
    """The coupling is the covariance of x_0 given the noisy state, r^2 = sigma^2 / (1 + sigma^2)."""

    def sample_x_0(self, problem, rng, x_hat, r, step):
        return super().sample_x_0(problem, rng, x_hat, r / (1 + r**2) ** 0.5, step)


def test_daps_free_variance_grows_with_the_accuracy_of_the_ode():
    assert daps_free_variance(5) == pytest.approx(1.67, abs=0.01)
    assert daps_free_variance(400) == pytest.approx(2.15, abs=0.05)


@pytest.mark.parametrize(
    "parameters, mean, variance",
    [
        ({}, (0.976, 1.323), (0.039, 0.346)),
        ({"tau": 0.01}, (1.0, 1.666), (1e-4, 1.1e-3)),
        ({"data_factor": 1.0}, (0.986, 1.469), (0.0195, 0.192)),
    ],
    ids=["half", "published_tau", "one"],
)
def test_daps_with_exact_inner_draw(parameters, mean, variance):
    samples = run(DAPS, 1500, **parameters)
    assert_moments(samples, (*mean, 0.0), (*variance, daps_free_variance(5)), rounding=0.01)


def test_daps_with_one_tweedie_step_and_covariance_coupling_is_exact():
    samples = run(CovarianceDAPS, 2000, n_ode=1, ode_sigma_min=0.0)
    assert_moments(samples, (0.9615, 1.1538, 0.0), (0.0385, 0.3077, 1.0))


@pytest.mark.parametrize("momentum, n_inner", [(0.0, 1500), (0.9, 400)], ids=["langevin", "underdamped"])
@pytest.mark.parametrize("data_factor", [0.5, 1.0])
def test_daps_inner_steps_reach_the_exact_draw(momentum, n_inner, data_factor):
    problem, prior = fingerprint_problem()
    n, r, x_hat = 1000, 0.5, torch.tensor([0.2, -0.3, 0.4], dtype=torch.float64)
    solver = DAPS.get_instance(inner="mcmc", momentum=momentum, n_inner=n_inner, data_factor=data_factor)
    solver.resolve_presets("gaussian", "gaussian")
    x_0 = solver.sample_x_0(problem.rows([0], n), stream(n), x_hat.expand(n, 3), r, step=2e-3)
    mean, variance = gaussian_product(
        x_hat, torch.tensor(r**2), problem.operator.mask[0], problem.y[0], 0.2**2 / (2 * data_factor)
    )
    # Langevin with step h and curvature 1 / v has variance v / (1 - h / (2 v)): 6 % too much at most, here
    assert_moments(x_0, mean.tolist(), variance.tolist(), rounding=0.06)


@pytest.mark.parametrize(
    "parameters, mean, variance",
    [
        ({}, (0.702, 0.171, 0.0), (0.219, 0.744, 0.832)),
        ({"data_factor": 1.0}, (0.859, 0.352, 0.0), (0.113, 0.635, 0.832)),
        ({"momentum": 0.9}, (0.961, 0.812, 0.0), (0.059, 0.561, 1.132)),
    ],
    ids=["langevin", "langevin_one", "underdamped"],
)
def test_daps_chains_stay_in_their_windows(parameters, mean, variance):
    """20 inner steps do not forget x_hat: the means stop short of the exact draw's. Measured with 1000 draws."""
    chain = {"inner": "mcmc", "n_levels": 100, "n_inner": 20, "step_size": 2e-3}
    assert_moments(run(DAPS, 400, **chain, **parameters), mean, variance, rounding=0.1)


def test_daps_exact_inner_draw_needs_an_svd():
    problem, prior = fingerprint_problem()
    without = replace(problem, capabilities=problem.capabilities - {"svd"})
    with pytest.raises(ValueError, match="inner='exact' needs"):
        draw(DAPS, without, prior, 2, n_levels=2)


# -------------------------------------------------------------------------------------------------------------- PnP-DM


class ExactPriorPnPDM(PnPDM):
    """The prior step drawn exactly for N(0, I)."""

    def sample_prior(self, prior, rng, z, rho):
        variance = 1 / (1 + rho**2)
        return variance * z + rho * variance**0.5 * rng.randn(3)


@pytest.mark.parametrize("rho_min, n_iterations", [(0.3, 100), (0.05, 600)])
def test_pnp_dm_stationary_law(rho_min, n_iterations):
    """``p(x) N(y; A x, sigma^2 I + rho^2 A A^T)``; at rho = 0.05 a sweep keeps 0.992 of the second coordinate."""
    samples = run(ExactPriorPnPDM, 2000, rho_min=rho_min, n_iterations=n_iterations)
    s, y = torch.tensor([1.0, 0.3, 0.0]), torch.tensor([1.0, 0.5, 0.0])
    mean, variance = gaussian_product(torch.zeros(3), torch.ones(3), s, y, 0.2**2 + (rho_min * s) ** 2)
    if rho_min == 0.3:
        assert torch.allclose(variance, torch.tensor([0.115, 0.348, 1.0]), atol=5e-4)
    assert_moments(samples, mean.tolist(), variance.tolist())


def test_pnp_dm_langevin_step_has_the_current_coupling():
    """It draws from ``p(y | z) N(z; x, rho^2 I)``: the unobserved coordinate stays around x with std rho."""
    problem, prior = fingerprint_problem()
    n, rho, x = 1000, 0.3, torch.tensor([0.2, -0.3, 0.4], dtype=torch.float64)
    solver = PnPDM.get_instance(n_langevin=1000, step_size=2e-3)
    solver.resolve_presets("gaussian", "gaussian")
    z = solver.langevin(problem.rows([0], n), stream(n), x.expand(n, 3), rho)
    mean, variance = gaussian_product(x, torch.tensor(rho**2), problem.operator.mask[0], problem.y[0], 0.2**2)
    assert_moments(z, mean.tolist(), variance.tolist(), rounding=0.04)


def test_pnp_dm_says_what_its_likelihood_step_is():
    """``auto`` is Langevin without an SVD; there is no ``exact`` that would be Langevin without saying so."""
    problem, prior = fingerprint_problem()
    without = replace(problem, capabilities=problem.capabilities - {"svd"})
    settings = {"n_iterations": 2, "rho_max": 0.3, "n_langevin": 3}
    langevin = draw(PnPDM, problem, prior, 5, likelihood="langevin", **settings)
    assert torch.equal(draw(PnPDM, without, prior, 5, **settings), langevin)
    assert not torch.allclose(draw(PnPDM, problem, prior, 5, **settings), langevin)
    with pytest.raises(ValueError, match="pnp_dm: likelihood must be 'auto' or 'langevin', got 'exact'"):
        draw(PnPDM, without, prior, 1, likelihood="exact")


def test_pnp_dm_reverse_diffusion_stays_in_its_window():
    samples = run(PnPDM, 300)
    assert_moments(samples, (0.894, 1.084, 0.0), (0.0986, 0.2925, 0.907), rounding=0.02)


# ---------------------------------------------------------------------------------------------------------------- MGPS


class ExactMGPS(MGPS):
    """The midpoint drawn exactly for N(0, I) and diagonal A: D_m(x) = sqrt(abar_m) x."""

    def sample_x_m(self, problem, prior, rng, estimate, x_t, end, m, t, n_steps):
        mean, variance = midpoint_law(problem, prior, x_t, m, t)
        return mean + variance.sqrt() * rng.randn(3)


def midpoint_law(problem, prior, x_t, m, t):
    c_0, c_t, std = prior.schedule.bridge(0, m, t)
    B = problem.operator.mask * (prior.schedule.abar(m) ** 0.5 if m > 1 else 1.0)
    return gaussian_product(c_0 * prior.denoise(x_t, t) + c_t * x_t, std**2, B, problem.y, problem.noise.std**2)


@pytest.mark.parametrize(
    "alpha, mean, variance",
    [
        (0.25, (0.706, 0.311, 0.0), (0.31, 0.81, 1.0)),
        (0.5, (0.930, 0.773, 0.0), (0.107, 0.575, 1.0)),
        (0.75, (0.995, 1.174, 0.0), (0.045, 0.371, 0.99)),
        (1.0, (0.999, 1.478, 0.0), (0.021, 0.222, 0.98)),
    ],
)
def test_mgps_with_exact_midpoints(alpha, mean, variance):
    assert_moments(run(ExactMGPS, 1500, alpha=(alpha, alpha)), mean, variance, rounding=0.01)


@pytest.mark.parametrize("m", [1, 300])
def test_mgps_fit_finds_the_exact_midpoint(m):
    problem, prior, solver, n = fit_setting(MGPS.get_instance(learning_rate=0.01))
    x_t = torch.tensor([1.0, 0.1, -0.4], dtype=torch.float64).expand(n, 3)
    with torch.no_grad():
        x_m = solver.sample_x_m(problem, prior, stream(n), 0.5 * x_t, x_t, 0, m, 600, n_steps=1500)
    mean, variance = midpoint_law(problem, prior, x_t, m, 600)
    assert_moments(x_m, mean[0].tolist(), variance[0].tolist(), rounding=0.05)


def test_mgps_warm_start_finds_the_state_at_level_1():
    """``q(x_m | x_1) p_1(x_1) g_0(y | x_1)`` with p_1 = N(0, I)."""
    problem, prior, solver, n = fit_setting(MGPS.get_instance(learning_rate=0.02))
    m, x_m = 400, torch.tensor([0.8, 0.1, -0.4], dtype=torch.float64).expand(n, 3)
    with torch.no_grad():
        x_1 = solver.sample_x_1(problem, prior, stream(n), x_m, m, n_steps=1500)
    ratio = prior.schedule.abar(m) / prior.schedule.abar(1)
    ones = torch.ones(3, dtype=torch.float64)
    mean, variance = gaussian_product(0 * ones, ones, problem.operator.mask[0], problem.y[0], 0.2**2)
    mean, variance = gaussian_product(mean, variance, ratio**0.5, x_m[0], 1 - ratio)
    assert_moments(x_1, mean.tolist(), variance.tolist(), rounding=0.06)


def fit_setting(solver, n=600):
    """Problem of n rows, loaded prior and solver with the presets of the Gaussian family."""
    problem, handle = fingerprint_problem()
    solver.resolve_presets("gaussian", "gaussian")
    return problem.rows([0], n), handle.load(), solver, n


def test_mgps_stays_in_its_window():
    samples = run(MGPS, 500)
    assert_moments(samples, (0.882, 0.610, 0.0), (0.113, 0.626, 1.0), rounding=0.05)


def test_mgps_gradient_steps_of_the_published_schedules():
    """The released configurations; the last steps, always with 2, are 20 for FFHQ and mixtures, 10 for the others."""

    def counts(family):
        solver = MGPS.get_instance()
        solver.resolve_presets(family, "box")
        return [solver.n_gradient_steps(i) for i in range(299, 0, -1)]

    assert counts("ffhq").count(20) == 5 + 27 and counts("mixture").count(20) == 10 + 26
    assert counts("imagenet").count(20) == 5 and counts("imagenet").count(10) == 14
    latent = counts("ffhq_latent")
    assert (latent.count(20), latent.count(10), latent.count(2)) == (5, 28, 10)
    assert all(set(counts(family)[-20:]) == {2} for family in ("ffhq", "mixture", "gaussian"))


# ---------------------------------------------------------------------------------------------------------------- DCPS


class ExactDCPS(DCPS):
    """The variational optimum for N(0, I) and diagonal A: x_k is linear in x_s, so its mean carries the potential."""

    def sample_x_s(self, problem, prior, rng, x_t, t, s, k):
        schedule = prior.schedule
        c_0, c_t, std = schedule.bridge(0, s, t)
        d_0, d_s, _ = schedule.bridge(0, k, s) if k < s else (0.0, 1.0, 0.0)
        B = problem.operator.mask * (d_0 * schedule.abar(s) ** 0.5 + d_s)
        y = schedule.abar(k) ** 0.5 * problem.y
        mean = c_0 * prior.denoise(x_t, t) + c_t * x_t
        mean, variance = gaussian_product(mean, std**2, B, y, problem.noise.std**2)
        return mean + variance.sqrt() * rng.randn(3)


@pytest.mark.parametrize(
    "n_blocks, mean, variance",
    [(3, (0.999, 1.389, 0.0), (0.021, 0.218, 0.97)), (99, (0.960, 1.135, 0.0), (0.030, 0.221, 0.98))],
)
def test_dcps_with_exact_fits(n_blocks, mean, variance):
    """More blocks come closer to the posterior mean (1.154); 3 and 99 are the paper's L = 4 and 100."""
    assert_moments(run(ExactDCPS, 2000, n_blocks=n_blocks), mean, variance, rounding=0.02)


def test_dcps_langevin_step_has_the_mean_of_ddpm_s_move():
    """One step by hand: under N(0, I) the mean of x_k given x_t, not DDIM's move, is sqrt(abar_t / abar_k) x_t."""
    problem, handle = fingerprint_problem()
    prior, t, k, h = handle.load(), 700, 300, 1e-3
    solver = DCPS.get_instance(n_langevin=1, langevin_step=h)
    solver.set_objective(problem, handle, 1, 0)
    x = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)
    with torch.no_grad():
        moved = solver.langevin(problem, prior, stream(1), x, t, k)
    abar_t, abar_k = prior.schedule.abar(t), prior.schedule.abar(k)
    B = problem.operator.mask * (abar_t / abar_k) ** 0.5
    drift = -x + B * (abar_k**0.5 * problem.y - B * x) / 0.2**2
    expected = x + h * drift / (1 + h * drift.norm()) + (2 * h) ** 0.5 * stream(1).randn(3)
    assert torch.allclose(moved, expected, atol=1e-10)


def test_dcps_stays_in_its_window():
    samples = run(DCPS, 500)
    assert_moments(samples, (1.005, 1.226, 0.0), (0.104, 0.336, 0.984), rounding=0.05)


def test_dcps_skips_operators_for_which_its_potential_is_wrong():
    problem, prior = fingerprint_problem()
    nonlinear = replace(problem, task="hdr", capabilities=problem.capabilities - {"linear", "svd"})
    assert DCPS.get_instance().skip(problem=nonlinear, prior=prior)[0]
    idempotent = replace(nonlinear, capabilities=nonlinear.capabilities | {"idempotent"})
    assert not DCPS.get_instance().skip(problem=idempotent, prior=prior)[0]
    assert not DCPS.get_instance().skip(problem=problem, prior=prior)[0]


# ----------------------------------------------------------------------------------------------------------- particles


def ess_of(Solver, n_draws, **parameters):
    """Samples of one image and the smallest effective sample size over N."""
    problem, prior = fingerprint_problem()
    solver = Solver.get_instance(**parameters)
    solver.set_objective(problem, prior, n_draws, 0)
    solver.run(None)
    result = solver.get_result()
    return result["samples"][0], result["ess"][0]


def test_mcgdiff_tends_to_the_posterior():
    """Particles share ancestors, so 3000 of them are worth some 200 independent draws in the second coordinate."""
    samples, ess = ess_of(MCGDiff, 3000)
    assert_moments(samples, (0.957, 1.159, 0.0), (0.023, 0.269, 0.95), n_se=16)
    assert 0.9 < ess < 1.0


@pytest.mark.slow
def test_mcgdiff_with_many_particles():
    samples, _ = ess_of(MCGDiff, 20_000)
    assert_moments(samples, (0.957, 1.159, 0.0), (0.023, 0.269, 0.98), n_se=12)


def test_fps_smc_shrinks_the_variance():
    """A filter of 5 particles and a path of observations per sample."""
    samples, ess = ess_of(FPS, 800, n_steps=100)
    assert_moments(samples, (0.980, 1.455, 0.0), (0.011, 0.076, 0.58), rounding=0.05)
    assert 0.4 < ess < 0.8


@pytest.mark.slow
def test_fps_smc_is_not_consistent_in_the_number_of_steps():
    samples, _ = ess_of(FPS, 500, n_steps=1000, c=0.1, n_particles=20)
    assert_moments(samples, (0.994, 1.615, 0.0), (0.0043, 0.027, 1.0), rounding=0.05)


def test_tds_weights_become_constant_as_the_steps_grow():
    """With V_t = sigma^2 I + (1 - abar_t) A A^T the twist is the true likelihood of x_t under N(0, I)."""
    samples, coarse = ess_of(TDS, 4000, n_steps=100)
    # few distinct ancestors at 100 steps: ESS / N of 0.1 in the last but one step
    assert_moments(samples, (0.958, 1.118, 0.0), (0.039, 0.306, 0.92), n_se=12)
    samples, fine = ess_of(TDS, 1500, n_steps=1000)
    assert_moments(samples, (0.961, 1.147, 0.0), (0.039, 0.305, 0.98), n_se=6)
    assert 0.08 < coarse < 0.3
    assert fine > 0.99


def particle_problem():
    """Three images of one problem with different measurements."""
    problem, prior = fingerprint_problem()
    y = torch.tensor([[1.0, 0.5, 0.0], [-2.0, 1.0, 0.0], [0.3, -1.0, 0.0]], dtype=torch.float64)
    return replace(problem, y=y, images=(4, 7, 9)), prior


@pytest.mark.parametrize("Solver", PARTICLE_METHODS, ids=lambda solver: solver.name)
def test_particles_of_an_image_do_not_see_the_others(Solver):
    problem, prior = particle_problem()
    parameters = {"n_particles": 20, "n_steps": 20}
    together = draw(Solver, problem, prior, 3, **parameters)
    for batch_size in (1, 2):
        assert torch.allclose(together, draw(Solver, problem, prior, 3, batch_size=batch_size, **parameters), atol=1e-9)
    alone = draw(Solver, problem.rows([1]), prior, 3, **parameters)
    assert torch.allclose(together[1], alone[0], atol=1e-9)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_resampling_is_within_the_filter():
    particles = Particles(RNG(0, "sampler", "box", [0, 1], dtype=torch.float64).particles(4), 2)
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    assert particles.multinomial(weights.log().flatten())[:4].tolist() == [1] * 4
    assert torch.allclose(particles.ess, torch.tensor([0.25, 1.0], dtype=torch.float64))
    assert particles.systematic(weights.log().flatten()).tolist() == [1, 1, 1, 1, 4, 5, 6, 7]
    assert particles.systematic(weights.log().flatten(), 2)[:2].tolist() == [1, 1]
    assert set(particles.systematic(weights.log().flatten(), 2)[2:].tolist()) <= {4, 5, 6, 7}


@pytest.mark.parametrize("method", ["multinomial", "systematic"])
def test_resampling_follows_the_weights(method):
    n = 2000
    particles = Particles(stream(n), 1)
    weights = torch.arange(1, n + 1, dtype=torch.float64)
    rows = getattr(particles, method)(weights.log() - 1000.0)  # log-weights need no normalisation
    # mean of j under weights proportional to j: 2 n / 3, standard deviation n / sqrt(18)
    assert float(rows.double().mean()) == pytest.approx(2 * n / 3, abs=4 * n / 18**0.5 / n**0.5)
    assert float(particles.ess) == pytest.approx(0.75, abs=1e-3)


def test_mcgdiff_refuses_a_grid_that_would_depend_on_the_batch():
    problem, prior = particle_problem()
    operator = import_module("helpers").diagonal_operator(1.0, 0.3, 0.0)
    operator.mask = torch.tensor([[1.0, 0.3, 0.0], [1.0, 0.5, 0.0]], dtype=torch.float64)
    problem = replace(problem.rows([0, 1]), operator=operator)
    with pytest.raises(ValueError, match="different singular values"):
        draw(MCGDiff, problem, prior, 1, n_particles=1, n_steps=3)


def test_ess_is_reported_for_particle_methods_only():
    objective = Objective.get_instance(n_samples=2)
    objective.get_seed = lambda **_: 0
    objective.set_data(**GaussianDataset.get_instance(n_problems=2).get_data())
    rows = {}
    for Solver, parameters in [(TDS, {"n_steps": 10}), (DPS, {"n_steps": 3})]:
        solver = Solver.get_instance(**parameters)
        solver.set_objective(**objective.get_objective())
        solver.run(None)
        rows[Solver] = objective.evaluate_result(**solver.get_result())
    assert all(0 < row["ess"] <= 1 for row in rows[TDS])
    assert rows[TDS][0]["ess"] != rows[TDS][1]["ess"]
    assert not any("ess" in row for row in rows[DPS])


# ------------------------------------------------------------------------------------------------------ all of the file


def test_draw_conditional_is_the_gaussian_product():
    problem, _ = fingerprint_problem()
    n, center = 4000, torch.tensor([0.2, -0.3, 0.4], dtype=torch.float64)
    x = problem.rows([0], n).draw_conditional(center.expand(n, 3), 0.5, 0.2, stream(n))
    mean, variance = gaussian_product(center, torch.tensor(0.25), problem.operator.mask[0], problem.y[0], 0.2**2)
    assert_moments(x, mean.tolist(), variance.tolist())


def test_a_diverging_solver_names_itself_and_the_image():
    problem, prior = particle_problem()
    y = problem.y.clone()
    y[1] = math.inf  # only the second image, number 7, cannot be sampled
    with pytest.raises(FloatingPointError, match=r"^pnp_dm\[n_iterations=2\]: the sample of image 7 \(draw 0\)"):
        draw(PnPDM, replace(problem, y=y), prior, 2, n_iterations=2)
    with pytest.raises(FloatingPointError, match=r"^daps\[.*\]: the sample of image 4 .*step size"):
        draw(DAPS, problem, prior, 1, inner="mcmc", n_levels=20, n_inner=100, step_size=10.0)
