"""Known laws of the linear-Gaussian solvers, each measured where the answer is a closed form.

On the problem of ``fingerprint_problem`` every solver's output is, coordinate by coordinate, a Gaussian whose mean
and variance follow from a scalar recursion. ``ROWS`` lists these values, simulated with 20,000 draws and rounded as
written; (0.962, 1.154, 0) and (0.0385, 0.3077, 1) would be exact. So the biases are here too: PiGDM's published
weight, RED-diff and SITCOM end at least squares, y / s = (1, 1.667), with too little variance.
"""

from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from deepinv.physics import Inpainting, Physics
from helpers import diagonal_operator, draw, fingerprint_problem

from benchmark_utils.noise import GaussianNoise, PoissonNoise
from benchmark_utils.operators.blur import motion_blur
from benchmark_utils.operators.hdr import HDR
from benchmark_utils.operators.jpeg import jpeg
from benchmark_utils.operators.nonlinear_blur import NonlinearBlur
from benchmark_utils.operators.super_resolution import BlockAverage
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities
from benchmark_utils.rng import RNG

ROW_DRAWS = 20_000
N_SE = 4  # standard errors that a deviation may have


def solver(name):
    return import_module(f"solvers.{name}").Solver


ROWS = [  # solver, draws, parameters, means, variances
    ("exact_posterior", 4000, {}, "0.962 1.154 0.000", "0.0385 0.308 1.00"),
    ("prior_sample", 4000, {"n_steps": 100}, "0.000 0.000 0.000", "0.921 0.921 0.921"),
    ("pgdm", 8000, {"n_steps": 20, "weight": "paper"}, "0.986 1.271 0.000", "0.0106 0.137 0.69"),
    ("pgdm", 4000, {"n_steps": 100, "weight": "paper"}, "1.00 1.664 0.000", "0.0072 0.053 0.92"),
    ("pgdm", 1000, {"n_steps": 1000, "weight": "paper"}, "1.00 1.667 0.000", "0.0025 0.014 0.99"),
    ("pgdm", 8000, {"n_steps": 20, "weight": "score"}, "0.962 1.154 0.000", "0.015 0.191 0.70"),
    ("pgdm", 4000, {"n_steps": 100, "weight": "score"}, "0.962 1.154 0.000", "0.029 0.275 0.91"),
    ("pgdm", 2000, {"n_steps": 1000, "weight": "score"}, "0.962 1.154 0.000", "0.037 0.304 0.997"),
    ("pgdm", 4000, {"n_steps": 100, "weight": "score", "eta": 0.0}, "0.960 1.147 0.000", "0.034 0.290 0.961"),
    ("pgdm", 4000, {"n_steps": 100, "weight": "reddiff", "eta": 0.0}, "1.012 1.787 0.000", "0.000 0.000 0.95"),
    ("dps", 1000, {"n_steps": 1000, "zeta": 0.1}, "1.000 1.667 0.000", "0.0028 0.00015 0.99"),
    ("dps", 1000, {"n_steps": 1000, "zeta": 0.3}, "1.000 1.667 0.000", "0.0261 0.00017 0.99"),
    ("dps", 1000, {"n_steps": 1000, "zeta": 1.0}, "1.000 1.667 0.000", "0.292 0.00016 0.99"),
    ("ddrm", 8000, {"n_steps": 20}, "0.911 1.116 0.000", "0.0385 0.110 0.62"),
    ("ddrm", 4000, {"n_steps": 100}, "0.959 1.312 0.000", "0.0136 0.064 0.72"),
    ("ddnm", 4000, {"n_steps": 100}, "0.959 1.310 0.000", "0.0136 0.064 0.73"),
    ("ddnm", 1000, {"n_steps": 1000}, "0.983 1.519 0.000", "0.0049 0.024 0.76"),
    ("diffpir", 4000, {"n_steps": 100, "lam": 1.0, "zeta": 0.3}, "0.964 1.243 0.000", "0.029 0.238 0.88"),
    ("diffpir", 4000, {"n_steps": 100, "lam": 7.0, "zeta": 0.3}, "0.813 0.582 0.000", "0.168 0.611 0.87"),
    ("diffpir", 4000, {"n_steps": 100, "lam": 1.0, "zeta": 1.0}, "0.962 1.186 0.000", "0.016 0.138 0.47"),
    ("reddiff", 1000, {"n_steps": 1000}, "1.00 1.667 0.000", "0.0001 0.0009 0.145"),
    ("mpgd", 4000, {"n_steps": 100, "scale": 0.1, "form": "paper"}, "1.005 1.330 0.000", "0.0015 0.335 0.95"),
    ("mpgd", 8000, {"n_steps": 20, "scale": 0.1, "form": "paper"}, "0.980 0.326 0.000", "0.182 0.706 0.80"),
    ("mpgd", 4000, {"n_steps": 100, "scale": 0.1, "form": "code"}, "1.005 1.298 0.000", "0.0015 0.349 0.95"),
    ("mpgd", 8000, {"n_steps": 20, "scale": 0.1, "form": "code"}, "0.849 0.244 0.000", "0.244 0.723 0.80"),
    ("dmps", 1000, {"n_steps": 1000, "scale": 1.0}, "0.901 1.053 0.000", "0.0315 0.207 1.0"),
    ("mmps", 4000, {"n_steps": 100}, "0.962 1.154 0.000", "0.029 0.275 0.91"),
]


def assert_law(samples, means, variances):
    """Means and variances (strings of rounded numbers) within N_SE standard errors of both simulations."""
    n = len(samples)
    inverse = 1 / n + 1 / ROW_DRAWS
    columns = zip(samples.T.tolist(), means.split(), variances.split(), strict=True)
    for column, mean_text, variance_text in columns:
        x, mean, variance = torch.tensor(column), float(mean_text), float(variance_text)
        half_mean, half_variance = (0.5 * 10.0 ** -len(text.split(".")[1]) for text in (mean_text, variance_text))
        mean_error = N_SE * ((variance + half_variance) * inverse) ** 0.5 + half_mean
        variance_error = N_SE * variance * (2 * inverse) ** 0.5 + half_variance
        assert abs(float(x.mean()) - mean) <= mean_error
        assert abs(float(x.var()) - variance) <= variance_error


def row_name(row):
    return "-".join([row[0], *map(str, row[2].values())]) if isinstance(row, tuple) else None


@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_fingerprint(row):
    name, n_draws, parameters, means, variances = row
    assert_law(draw(solver(name), *fingerprint_problem(), n_draws, **parameters)[0], means, variances)


def test_a_wrong_law_is_noticed():
    samples = draw(solver("pgdm"), *fingerprint_problem(), 4000, n_steps=100, weight="score")[0]
    with pytest.raises(AssertionError):
        assert_law(samples, "1.00 1.664 0.000", "0.0072 0.053 0.92")


def test_the_law_of_dps_depends_on_its_step_and_not_on_the_noise():
    settings = {"n_steps": 1000, "zeta": 0.3}
    longer = draw(solver("dps"), *fingerprint_problem(), 1000, **settings | {"zeta": 1.15 * 0.3})[0]
    with pytest.raises(AssertionError):
        assert_law(longer, "1.000 1.667 0.000", "0.0261 0.00017 0.99")
    # at sigma = 0.05 the posterior's first variance is 0.0025
    assert_law(
        draw(solver("dps"), *fingerprint_problem(0.05), 1000, **settings)[0], "1.000 1.667 0.000", "0.0261 0.00017 0.99"
    )


def counts_problem():
    """Three photon counts of one image, one of them 0, under N(0, I_3) and A = I: (problem, handle)."""
    prior, noise, operator = Prior("gaussian", (("dim", 3),)), PoissonNoise(0.05), diagonal_operator(1.0, 1.0, 1.0)
    y = torch.tensor([[0.0, 3.0, 11.0]], dtype=torch.float64) * 2 / (255 * 0.05) - 1
    found = capabilities(operator, noise, prior)
    return InverseProblem(operator, noise, y, "denoising", 3, (0,), capabilities=found), prior


def test_dps_weighs_photon_counts_by_their_variance():
    """One step by hand: D - zeta / 2 grad sum (k - mu)^2 / (2 k) over ||k - mu||, mu = 255 rate (D + 1) / 2."""
    problem, handle = counts_problem()
    x = draw(solver("dps"), problem, handle, 1, n_steps=1, zeta=0.4)[0]
    abar = handle.load().schedule.abar(1000) ** 0.5
    start = RNG(0, "sampler", "denoising", (0,), dtype=torch.float64).randn(3).requires_grad_()
    k, scale = torch.tensor([0.0, 3.0, 11.0], dtype=torch.float64), 255 * 0.05 / 2
    difference = k - scale * (abar * start + 1)
    (gradient,) = torch.autograd.grad((difference.square() / (2 * k.clamp(min=1))).sum(), start)
    assert torch.allclose(x, (abar * start - 0.2 * gradient / difference.norm()).detach(), atol=1e-12)


@pytest.mark.parametrize("name", ["mpgd", "reddiff"])
def test_a_least_squares_method_skips_photon_counts(name):
    problem, handle = counts_problem()
    skipped, reason = solver(name).get_instance().skip(problem=problem, prior=handle)
    assert skipped and f"{name} needs gaussian" in reason
    assert not solver("dps").get_instance().skip(problem=problem, prior=handle)[0]


class ConvergedSITCOM(solver("sitcom")):
    """Its inner problem without regularisation solved exactly: the projection of x_t on ``y = A D(v)``."""

    def consistent_estimate(self, problem, prior, x_t, t):
        x_hat = prior.denoise(x_t, t)  # sqrt(abar_t) x_t under N(0, I)
        return x_hat + problem.operator.A_dagger(problem.residual(x_hat))


def test_sitcom_converged_ends_at_least_squares():
    samples = draw(ConvergedSITCOM, *fingerprint_problem(), 8000)[0]
    assert_law(samples, "1.000 1.667 0.000", "0.000 0.000 0.41")


def test_sitcom_as_shipped_stops_short_of_least_squares():
    # 19 Adam steps of 0.01 cannot travel far: measured with 2000 draws
    samples = draw(solver("sitcom"), *fingerprint_problem(), 2000)[0]
    assert torch.allclose(samples.mean(0), torch.tensor([0.648, 0.748, 0.0], dtype=torch.float64), atol=0.06)
    assert torch.allclose(samples.var(0), torch.tensor([0.169, 0.297, 0.402], dtype=torch.float64), rtol=0.15)


def test_sitcom_stops_every_row_at_the_noise_level():
    problem, prior = fingerprint_problem()
    settings = {"n_steps": 3, "n_inner": 2000, "learning_rate": 0.05}
    samples = draw(solver("sitcom"), problem, prior, 20, **settings)[0]
    squared_residual = problem.rows([0], 20).residual(samples).square().sum(1)
    assert (squared_residual <= 0.201**2 * 2).all()
    assert (squared_residual > 0.0).all()


def test_sitcom_images_stop_on_their_own():
    problem, prior = fingerprint_problem()
    y = torch.tensor([[0.1, 0.0, 0.0], [1.0, 0.5, 0.0], [3.0, 1.0, 0.0]], dtype=torch.float64)
    problem = replace(problem, y=y, images=(0, 1, 2))
    settings = {"n_steps": 5, "n_inner": 100, "learning_rate": 0.1}
    together = draw(solver("sitcom"), problem, prior, 1, **settings)
    for i in range(3):
        alone = draw(solver("sitcom"), problem.rows([i]), prior, 1, **settings)
        assert torch.allclose(alone[0], together[i], atol=1e-10)


def test_sitcom_adam_finds_the_regularised_minimum():
    problem, handle = fingerprint_problem(noise_std=1e-6)  # a threshold that is not reached
    Solver = solver("sitcom")
    sampler = Solver.get_instance(n_inner=800, learning_rate=0.02, regularisation=0.5)
    sampler.set_objective(problem, handle, 1, 0)
    prior, t = handle.load(), 300
    x_t = torch.tensor([[0.3, -0.4, 0.7]], dtype=torch.float64)
    with torch.no_grad():
        x_hat = sampler.consistent_estimate(problem, prior, x_t, t)
    shrink = prior.schedule.abar(t) ** 0.5
    B = problem.operator.mask * shrink
    assert torch.allclose(x_hat, shrink * (B * problem.y + 0.5 * x_t) / (B**2 + 0.5), atol=1e-3)


def test_sitcom_evaluates_the_denoiser_n_inner_times_a_level_with_one_step_less():
    """Of two evaluations the second one is at x_t minus one Adam step, whose length is the learning rate."""
    problem, handle = fingerprint_problem(noise_std=1e-6)
    sampler = solver("sitcom").get_instance(n_inner=2, learning_rate=0.02, n_steps=3)
    sampler.set_objective(problem, handle, 1, 0)
    prior, t = handle.load(), 300
    x_t = torch.tensor([[0.3, -0.4, 0.7]], dtype=torch.float64)
    with torch.no_grad():
        x_hat = sampler.consistent_estimate(problem, prior, x_t, t)
    direction = problem.residual(prior.denoise(x_t, t)).sign()
    assert torch.allclose(x_hat, prior.denoise(x_t + 0.02 * direction, t), atol=1e-6)
    sampler.run(None)
    result = sampler.get_result()
    assert (result["nfe"], result["vjp"]) == (3 * 2, 3 * 1)


@pytest.mark.parametrize("kind, largest", [("image", 1.0), ("signal", 2.0)])
def test_sitcom_clips_the_denoised_image_and_nothing_else(kind, largest):
    prior, noise, operator = Prior("gaussian", (("dim", 3),)), GaussianNoise(1e-3), diagonal_operator(1.0, 1.0, 0.0)
    y = torch.tensor([[2.0, -2.0, 0.0]], dtype=torch.float64)
    found = capabilities(operator, noise, prior) | ({"image"} if kind == "image" else set())
    problem = InverseProblem(operator, noise, y, "gaussian", 2, (0,), capabilities=found)
    samples = draw(solver("sitcom"), problem, prior, 5, n_steps=3, n_inner=400, learning_rate=0.1)[0]
    assert torch.allclose(samples[:, :2].abs(), torch.tensor(largest, dtype=torch.float64), atol=0.01)


def test_ddnm_is_ddrm_with_eta_b_1():
    # same noise, same grid; the two start from x_T that differ by sqrt(abar_T) = 0.006 at most
    problem = fingerprint_problem()
    ddrm, ddnm = (draw(solver(name), *problem, 500, n_steps=50, eta=0.85) for name in ("ddrm", "ddnm"))
    assert torch.allclose(ddrm, ddnm, atol=1e-3)
    assert not torch.allclose(ddrm, draw(solver("ddrm"), *problem, 500, n_steps=50, eta=0.85, eta_b=0.5), atol=1e-2)


def masked_problem(noise_std, correlation):
    """Two of three coordinates seen; prior N(0, Sigma) with Sigma_ij = correlation^|i - j|."""
    prior = Prior("gaussian", (("dim", 3), ("correlation", correlation)))
    operator = Inpainting(img_size=(3,), mask=torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    noise, y = GaussianNoise(noise_std), torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64)
    found = capabilities(operator, noise, prior)
    return InverseProblem(operator, noise, y, "random", 2, (0,), capabilities=found), prior


@pytest.mark.parametrize("name", ["ddnm", "ddrm", "repaint"])
def test_noiseless_mask_keeps_the_seen_values(name):
    # the last denoising starts from y + sigma_1 z, and the prior's variance is 1: z reaches 5 in 1000 numbers
    problem, prior = masked_problem(1e-8, 0.5)
    n_steps = {"n_steps": 50} if name != "repaint" else {"n_steps": 50, "n_resample": 2}
    samples = draw(solver(name), problem, prior, 500, **n_steps)[0]
    sigma_1 = prior.load().schedule.sigma(1)
    assert (samples[:, :2] - problem.y[:, :2]).abs().max() < 5 * sigma_1
    assert samples[:, 2].std() > 0.5


@pytest.mark.parametrize("noise_std, n_resample", [(0.2, 1), (0.2, 10), (0.4, 10), (1.0, 10)])
def test_repaint_is_exact_when_coordinates_are_independent(noise_std, n_resample):
    # seen: N(y, sigma_s^2) at the last replaced level s and the prior's own denoising below it, the posterior. 250
    # steps leave DDPM's own loss of variance, and the next level above sigma is up to 3 % of the variance away
    problem, prior = masked_problem(noise_std, 0.0)
    samples = draw(solver("repaint"), replace(problem, y=1.3 * problem.y), prior, 1000, n_resample=n_resample)[0]
    gain = 1 / (1 + noise_std**2)
    mean = gain * 1.3 * problem.y[0]
    variance = torch.tensor([1 - gain, 1 - gain, 1.0], dtype=torch.float64)
    assert ((samples.mean(0) - mean).abs() < N_SE * (variance / 1000).sqrt() + 0.01).all()
    assert ((samples.var(0) / variance - 1).abs() < N_SE * (2 / 1000) ** 0.5 + 0.06).all()


@pytest.mark.parametrize(
    "name, parameters, expected",
    [
        ("ddnm", {"n_steps": 100, "travel_length": 10, "travel_repeat": 3}, 280),
        ("repaint", {}, 2410),  # 250 steps, length 10, 10 times, as published
    ],
)
def test_time_travel_costs_what_the_released_schedules_cost(name, parameters, expected):
    problem, prior = masked_problem(1e-8, 0.0)
    sampler = solver(name).get_instance(**parameters)
    sampler.set_objective(problem, prior, 1, 0)
    sampler.run(None)
    assert sampler.get_result()["nfe"] == expected


def test_ddnm_noises_the_denoised_image_back():
    """A hidden value is a scalar recursion: D = sqrt(abar_t) x, eps = sqrt(1 - abar_t) x, back from D to the start.

    Without fresh noise its variance is 0.502; noising the state back would give 0.639.
    """
    problem, prior = fingerprint_problem()
    schedule, n = prior.load().schedule, 4000
    settings = {"n_steps": 12, "travel_length": 1, "travel_repeat": 3, "eta": 0.0}
    samples = draw(solver("ddnm"), problem, prior, n, **settings)[0, :, 2]
    variance = 1.0
    for i, (t, s) in enumerate(pairwise(schedule.grid(12))):
        kept = (schedule.abar(s) * schedule.abar(t)) ** 0.5 + ((1 - schedule.abar(s)) * (1 - schedule.abar(t))) ** 0.5
        for _ in range(2 if i else 0):
            variance = schedule.abar(t) * schedule.abar(t) * variance + 1 - schedule.abar(t)
        variance *= kept**2
    assert float(samples.var()) == pytest.approx(variance, rel=N_SE * (2 / n) ** 0.5)


FIRST_GUESSES = [  # an operator of (3, 16, 16) images without an SVD, and where RED-diff starts
    (lambda: HDR(), lambda y: y / 2),
    (lambda: jpeg(10, "real"), lambda y: y),
    (lambda: jpeg(10, "soft"), lambda y: y),
    (lambda: motion_blur((3, 16, 16), (0,)), lambda y: y),
    (lambda: NonlinearBlur(None, torch.zeros(1, 8, 1, 1)), lambda y: y),
]


@pytest.mark.parametrize("make_operator, expected", FIRST_GUESSES)
def test_reddiff_starts_near_y_where_there_is_no_svd(make_operator, expected):
    operator, noise = make_operator(), GaussianNoise(0.05)
    y = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    handle = SimpleNamespace(is_latent=False, closed_form=False, signal_shape=(3, 16, 16))
    found = capabilities(operator, noise, handle)
    problem = InverseProblem(operator, noise, y, "a task that no preset knows", y.numel(), (0,), capabilities=found)
    assert torch.equal(solver("reddiff").get_instance().start(problem, None, (3, 16, 16)), expected(y))


def test_reddiff_starts_at_noise_where_the_operator_has_no_guess():
    problem, _ = fingerprint_problem()
    problem = replace(problem, operator=Physics(A=lambda x: x**2), capabilities=frozenset({"differentiable"}))
    stream, same = (RNG(0, "sampler", "gaussian", (0,), dtype=torch.float64) for _ in range(2))
    assert torch.equal(solver("reddiff").get_instance().start(problem, stream, (3,)), same.randn(3))


def test_repaint_resampling_reduces_the_bias_of_the_hidden_value():
    problem, prior = masked_problem(0.2, 0.9)
    posterior_mean = float(prior.load().posterior(problem).mean[0, 2])

    def error(n_resample):
        hidden = draw(solver("repaint"), problem, prior, 500, n_steps=100, n_resample=n_resample)[0, :, 2]
        return abs(float(hidden.mean()) - posterior_mean)

    assert error(10) < error(1) / 2


def test_mmps_is_exact_under_a_correlated_gaussian():
    prior = Prior("gaussian", (("dim", 3), ("correlation", 0.5)))
    problem, _ = fingerprint_problem()
    posterior = prior.load().posterior(problem)
    n = 2000
    samples = draw(solver("mmps"), problem, prior, n, n_steps=1000, n_conjugate=2)[0]
    covariance = torch.cov(samples.T)
    A, Sigma = problem.operator.mask[0].diag(), 0.5 ** (torch.arange(3)[:, None] - torch.arange(3)).abs().double()
    gain = Sigma @ A.T @ torch.linalg.pinv(A @ Sigma @ A.T + 0.04 * torch.eye(3))
    exact = Sigma - gain @ A @ Sigma
    variances = exact.diagonal()
    # an entry of a covariance of n draws has standard error sqrt((C_ii C_jj + C_ij^2) / n); DDPM loses 1 % of it
    error = ((variances[:, None] * variances + exact**2) / n).sqrt()
    assert ((samples.mean(0) - posterior.mean[0]).abs() <= N_SE * (variances / n).sqrt()).all()
    assert ((covariance - exact).abs() <= N_SE * error + 0.01 * exact.abs()).all()


def test_one_conjugate_gradient_iteration_is_not_exact():
    prior = Prior("gaussian", (("dim", 3), ("correlation", 0.5)))
    problem, _ = fingerprint_problem()
    mean = prior.load().posterior(problem).mean[0]
    samples = draw(solver("mmps"), problem, prior, 2000, n_steps=100, n_conjugate=1)[0]
    assert (samples.mean(0) - mean).norm() > 0.1


def test_correction_is_the_proximal_operators():
    operator = BlockAverage(4, (3, 16, 16)).double()
    x, truth = torch.randn(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = InverseProblem(operator, GaussianNoise(0.1), operator.A(truth), "sr4", 48, (0, 1))
    rho = 0.03
    expected = operator.prox_l2(x, problem.y, 1 / rho)
    assert torch.allclose(x + problem.correction(x, rho), expected, atol=1e-10)
    A_adjoint, A = operator.A_adjoint, operator.A
    solved = problem.correction(x, rho)  # A^T v with (A A^T + r I) v = y - A x
    assert torch.allclose(A_adjoint(A(solved)) + rho * solved, A_adjoint(problem.residual(x)), atol=1e-10)


def test_pgdm_takes_the_decoded_jpeg_as_pseudo_inverse():
    # with A = I the guidance is y - D, which the last step adds in full: the sample is y up to 1 - abar_1
    prior, noise = Prior("gaussian", (("dim", 3),)), GaussianNoise(0.05)
    y = torch.tensor([[1.0, 0.5, -0.3]], dtype=torch.float64)
    operator = Physics(A=lambda x: x)
    operator.idempotent = True
    found = capabilities(operator, noise, prior)
    problem = InverseProblem(operator, noise, y, "jpeg2", 3, (0,), capabilities=found)
    assert not solver("pgdm").get_instance().skip(problem=problem, prior=prior)[0]
    assert torch.allclose(draw(solver("pgdm"), problem, prior, 5)[0], y, atol=1e-3)


def test_pgdm_is_stable_under_a_wide_prior_with_the_reddiff_weight_only():
    # the largest eigenvalue of the prior's covariance is 990, hence J reaches 1 / sqrt(abar_t)
    d = 1024
    prior, noise = Prior("gaussian", (("dim", d), ("correlation", 0.9999))), GaussianNoise(0.05)
    operator = diagonal_operator(*[1.0] * (d // 2), *[0.0] * (d // 2))
    y = operator.A(prior.load().sample(1, torch.Generator().manual_seed(0)))  # noiseless: the misfit ends below 1
    found = capabilities(operator, noise, prior)
    problem = InverseProblem(operator, noise, y, "gaussian", d // 2, (0,), capabilities=found)

    def misfit(weight):
        return float(problem.misfit(draw(solver("pgdm"), problem, prior, 1, n_steps=100, weight=weight)[:, 0]))

    assert misfit("reddiff") < 1
    assert misfit("paper") > 100
    assert misfit("score") > 100


@pytest.mark.parametrize("name", ["pgdm", "ddrm", "diffpir", "dmps", "repaint"])
def test_problems_without_the_needed_structure_are_skipped(name):
    prior, noise = Prior("gaussian", (("dim", 3),)), GaussianNoise(0.05)
    operator = Physics(A=lambda x: x**2)
    found = capabilities(operator, noise, prior)
    problem = InverseProblem(operator, noise, torch.ones(1, 3), "phase_retrieval", 3, (0,), capabilities=found)
    skipped, reason = solver(name).get_instance().skip(problem=problem, prior=prior)
    assert skipped and "needs" in reason


def test_a_diagonal_operator_is_what_it_says():
    x = torch.ones(1, 3, dtype=torch.float64)
    assert diagonal_operator(1.0, 0.3, 0.0).A(x).tolist() == [[1.0, 0.3, 0.0]]
