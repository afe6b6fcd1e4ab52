"""MGDM against its closed form: N(0, I_3), A = diag(1, 0.3, 0), sigma_y = 0.2, y = (1, 0.5, -).

Exact posterior: mean (0.9615, 1.1538, 0), variance (0.0385, 0.3077, 1). With exact inner draws every coordinate
follows a scalar recursion, so the law of the output is known; it still depends on the random index sequence, so
moments are averaged over sequences.
"""

from types import SimpleNamespace

import pytest
import torch
from helpers import draw, fingerprint_problem

from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities, count_observed
from benchmark_utils.rng import RNG
from solvers.exact_posterior import Solver as ExactPosterior
from solvers.mgdm import Solver as MGDM


class ExactMGDM(MGDM):
    """MGDM's loop with exact draws of x_s given (x_0, x_t, y) and of x_0 given x_s, for N(0, I) and diagonal A."""

    def sample_x_s(self, problem, prior, rng, x_0, x_t, s, t, n_steps, learning_rate):
        mean, variance = exact_conditional(problem, prior, x_0, x_t, s, t)
        return mean + variance.sqrt() * rng.randn(3)

    def sample_x_0(self, prior, rng, x_s, s):
        abar = prior.schedule.abar(s)
        return abar**0.5 * x_s + (1 - abar) ** 0.5 * rng.randn(3)


def exact_conditional(problem, prior, x_0, x_t, s, t):
    """Mean and variance of x_s ~ g_0(y | D_s(x_s)) q(x_s | x_0, x_t), where D_s(x) = sqrt(abar_s) x."""
    c_0, c_t, std = prior.schedule.bridge(0, s, t)
    B = prior.schedule.abar(s) ** 0.5 * problem.operator.mask
    precision = 1 / std**2 + B**2 / problem.noise.std**2
    mean = (c_0 * x_0 + c_t * x_t) / std**2 + B * problem.y / problem.noise.std**2
    return mean / precision, (1 / precision).expand_as(x_t)


def moments(Solver, n_sequences, n_draws, **parameters):
    """Mean and variance per coordinate of the samples of ``n_sequences`` runs, each with its own index sequence."""
    problem, prior = fingerprint_problem()
    samples = []
    for seed in range(n_sequences):
        solver = Solver.get_instance(**parameters)
        solver.set_objective(problem, prior, n_draws, seed)
        solver.run(None)
        samples.append(solver.get_result()["samples"][0])
    samples = torch.cat(samples)
    return samples.mean(0), samples.var(0)


# 12 sequences x 2000 draws. Over seeds the mean of a sequence varies by (0.004, 0.022, 0.016) for R = 1, so the
# averages below have standard errors of about (0.001, 0.007, 0.007); a variance has 0.01 relative error from the
# draws and as much from the sequences.
@pytest.mark.parametrize(
    "n_gibbs, noising, mean, variance",
    [
        (1, "forward", (0.964, 0.967, 0.0), (0.063, 0.437, 0.99)),
        (4, "forward", (0.959, 1.128, 0.0), (0.047, 0.347, 1.01)),
        (4, "bridge", (1.000, 1.320, 0.0), (0.0315, 0.263, 1.00)),
    ],
)
def test_loop_with_exact_conditionals(n_gibbs, noising, mean, variance):
    found_mean, found_variance = moments(ExactMGDM, 12, 2000, n_gibbs=n_gibbs, noising=noising)
    torch.testing.assert_close(found_mean[:2], torch.tensor(mean[:2]).double(), rtol=0.03, atol=0)
    assert abs(found_mean[2]) < 0.03
    torch.testing.assert_close(found_variance, torch.tensor(variance).double(), rtol=0.05, atol=0)


def test_more_gibbs_rounds_come_closer_to_the_posterior():
    exact = torch.tensor([0.9615, 1.1538], dtype=torch.float64)
    one, _ = moments(ExactMGDM, 4, 1000, n_gibbs=1)
    four, _ = moments(ExactMGDM, 4, 1000, n_gibbs=4)
    assert (four[:2] - exact).norm() < 0.5 * (one[:2] - exact).norm()


def test_shipped_form_stays_in_its_window():
    """Adam and 20 denoising points instead of exact draws: measured (0.962, 0.975), (0.068, 0.434, 0.996)."""
    mean, variance = moments(MGDM, 2, 1000)
    torch.testing.assert_close(mean[:2], torch.tensor([0.962, 0.975]).double(), rtol=0.05, atol=0)
    torch.testing.assert_close(variance, torch.tensor([0.068, 0.434, 0.996]).double(), rtol=0.12, atol=0)


@pytest.mark.parametrize("variational", ["log_variance", "log_std"])
def test_variational_step_recovers_the_exact_conditional(variational):
    """An affine denoiser and diagonal A make the conditional a diagonal Gaussian: Adam must find it."""
    problem, prior = fingerprint_problem()
    n, s, t = 3000, 300, 500
    problem, prior = problem.rows([0], n), prior.load("cpu")
    noise = RNG(0, "sampler", "gaussian", [0] * n, range(n), dtype=torch.float64)
    x_0 = torch.tensor([0.3, -0.2, 0.5]).double().expand(n, 3)
    x_t = torch.tensor([1.0, 0.1, -0.4]).double().expand(n, 3)
    solver = MGDM.get_instance(variational=variational)
    x_s = solver.sample_x_s(problem, prior, noise, x_0, x_t, s, t, n_steps=1500, learning_rate=0.01)
    mean, variance = exact_conditional(problem, prior, x_0, x_t, s, t)
    # 3000 independent fits: standard error of the mean sqrt(v / 3000), relative error of a variance 2.6 %
    assert ((x_s.mean(0) - mean[0]).abs() < 4 * (variance[0] / n).sqrt() + 0.005).all()
    torch.testing.assert_close(x_s.var(0), variance[0], rtol=0.1, atol=0)


def test_index_laws():
    generator = RNG(0, "sampler", "box", [0]).shared
    solver = MGDM.get_instance(index_law="uniform", tau=0.01)
    drawn = [solver.draw_index(60, 50, False, 1000, generator) for _ in range(400)]
    assert min(drawn) == 10 and max(drawn) == 50
    assert solver.draw_index(60, 50, True, 1000, generator) == 50
    drawn = [solver.draw_index(6, 5, False, 50, generator) for _ in range(100)]  # tau T rounds to 0, where y is not
    assert min(drawn) == 1 and max(drawn) == 5
    near_zero = MGDM.get_instance(index_law="near_zero")
    drawn = [near_zero.draw_index(60, 50, False, 1000, generator) for _ in range(200)]
    assert min(drawn) == 1 and max(drawn) == 12


def test_cost_of_the_paper_setting():
    """890 gradient steps and about 1,830 other evaluations, as counted in the released code (24 late steps here)."""
    problem, prior = fingerprint_problem()
    solver = MGDM.get_instance()
    solver.set_objective(problem, prior, 2, 0)
    solver.run(None)
    result = solver.get_result()
    assert result["vjp"] == 24 * 20 + 73 * 5
    assert 1800 <= result["nfe"] - result["vjp"] <= 1850


class CountingMGDM(MGDM):
    """Counts the levels at which s is the next level."""

    def draw_index(self, t, t_prev, last, T, generator):
        self.n_last = getattr(self, "n_last", 0) + last
        return super().draw_index(t, t_prev, last, T, generator)


@pytest.mark.parametrize("late, n_gradients", [((0.4, 0.25), 1020), (None, 714)])
def test_cost_of_the_audio_settings(late, n_gradients):
    """Of 17 levels the released code has 20 steps in 7 and s = t_prev in 4; the paper, the default, in 4 and 4."""
    problem, prior = fingerprint_problem()
    audio = SimpleNamespace(name="audio", family="audio", load=prior.load)
    solver = CountingMGDM.get_instance(late=late)
    solver.set_objective(problem, audio, 1, 0)
    solver.run(None)
    assert solver.get_result()["vjp"] == n_gradients
    assert solver.n_last == 4


def test_fast_preset_costs_less_and_yields_to_parameters_that_are_given():
    """989 forward passes in place of 3523, a gradient being two."""
    problem, prior = fingerprint_problem()

    def cost(**parameters):
        solver = MGDM.get_instance(**parameters)
        solver.set_objective(problem, prior, 2, 0)
        solver.run(None)
        result = solver.get_result()
        return result["nfe"] + result["vjp"]

    assert 0.27 < cost(preset="fast") / cost() < 0.29
    assert cost(preset="fast", n_denoise=20) > cost(preset="fast") + 200


def test_unknown_preset_is_refused():
    problem, prior = fingerprint_problem()
    with pytest.raises(ValueError, match="mgdm: PRESETS has no preset 'faster' for gaussian"):
        MGDM.get_instance(preset="faster").set_objective(problem, prior, 2, 0)


@pytest.mark.slow
def test_data_misfit_with_an_exact_prior():
    """On truths drawn from ``faces64_mfa`` the prior is exact, so a misfit above 1 is the method's own.

    Measured: exact draws 0.99 to 1.03, MGDM 2.9 to 3.1. The last step draws x_0 given x_s, s = 10, without seeing y
    again; under this prior that alone spreads x_0 by about 0.04, almost the noise's 0.05.
    """
    handle = Prior("faces64_mfa")
    prior = handle.load("cpu")
    truth = prior.sample(2, torch.Generator().manual_seed(0))
    operator, noise, images = inpainting("half", (3, 64, 64)).double(), GaussianNoise(0.05), (0, 1)
    stream = RNG(0, "measurement", "half", images, dtype=torch.float64)
    y = noise.sample(operator.A(truth), stream) * operator.mask
    found = capabilities(operator, noise, handle)
    problem = InverseProblem(operator, noise, y, "half", count_observed(operator, y), images, capabilities=found)
    exact = problem.misfit(draw(ExactPosterior, problem, handle, 1)[:, 0])
    assert ((exact - 1).abs() < 0.1).all()
    misfit = problem.misfit(draw(MGDM, problem, handle, 1)[:, 0])
    assert ((2.5 < misfit) & (misfit < 3.5)).all()
