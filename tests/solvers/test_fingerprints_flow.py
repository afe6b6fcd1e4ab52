"""Known laws of the flow methods and of the other methods of 2024 to 2026, and the view of flow time that they share.

The problem is that of ``test_fingerprints_linear.py``: prior N(0, I_3), A = diag(1, 0.3, 0), sigma = 0.2, where
(0.962, 1.154, 0) and (0.0385, 0.308, 1) are exact. ``LAWS`` were simulated on their own with 20,000 draws, coordinate
by coordinate where a method is a scalar recursion, on the vector where a norm couples the coordinates (FAST-DIPS, DSG,
FlowDPS, DPS): of these there is no closed form, the values hold the methods where they are.
"""

from dataclasses import replace

import pytest
import torch
from deepinv.physics import Physics
from diffusers import FlowMatchEulerDiscreteScheduler
from helpers import diagonal_operator, draw, fingerprint_problem
from test_fingerprints_linear import assert_law, row_name, solver
from test_own_priors import problem_of, random_normal, save

from benchmark_utils.adam import AdamMoments
from benchmark_utils.flow import denoise_flow, flow_sigma, flow_variance, flow_velocity
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities

# the published settings of these two for the random mask
CODPS_RANDOM = {"scale": 0.4, "late": 80, "divisor": 1000.0, "precision": 500.0}
CODPS_PLUS_RANDOM = {"scale": 0.4, "late": 10, "divisor": 100.0, "precision": 0.0}
LAWS = [  # solver, draws, parameters, means, variances
    ("flower", 2000, {"n_steps": 100, "gamma": 1}, "0.961 1.154 0.000", "0.0386 0.309 1.00"),
    ("flower", 2000, {"n_steps": 100, "gamma": 0}, "0.963 1.153 0.000", "0.0175 0.147 0.479"),
    ("ot_ode", 2000, {"n_steps": 100, "start": 0.1, "weight": "constant"}, "0.963 1.093 0.000", "0.0365 0.294 0.978"),
    ("ot_ode", 2000, {"n_steps": 100, "start": 0.3, "weight": "gamma_t"}, "0.965 0.912 0.000", "0.031 0.276 0.835"),
    ("pnp_flow", 2000, {"n_steps": 100, "alpha": 0.3}, "0.996 1.051 0.000", "0.0002 0.023 0.096"),
    ("pnp_flow", 2000, {"n_steps": 100, "alpha": 1.0}, "0.869 0.392 0.000", "0.0095 0.067 0.096"),
    ("tmpd", 2000, {"n_steps": 100}, "0.962 1.154 0.000", "0.029 0.270 0.928"),
    ("jfps", 1000, {"n_steps": 1000}, "0.959 1.154 0.000", "0.037 0.305 0.98"),
    ("jfps", 1000, {"n_steps": 1000, "precision": 4.0}, "0.954 0.908 0.000", "0.041 0.393 1.00"),
    ("jfps", 1000, {"n_steps": 1000, "precision": 0.25}, "0.964 1.248 0.000", "0.036 0.270 1.00"),
    ("jfps", 1000, {"preset": "codps"}, "0.913 1.052 0.000", "0.020 0.251 0.993"),
    ("jfps", 1000, {"preset": "codps"} | CODPS_RANDOM, "0.998 1.276 0.000", "0.053 0.172 0.989"),
    ("jfps", 2000, {"preset": "codps_plus"}, "0.904 0.999 0.000", "0.070 0.365 0.936"),
    ("jfps", 2000, {"preset": "codps_plus"} | CODPS_PLUS_RANDOM, "1.00 1.669 0.000", "0.093 0.071 0.907"),
    ("fast_dips", 2000, {}, "0.984 1.533 0.000", "0.014 0.034 0.470"),
    ("dsg", 2000, {"n_steps": 100, "scale": 0.2}, "0.996 1.173 0.000", "0.048 0.394 0.895"),
    ("dsg", 2000, {"n_steps": 100, "scale": 0.1}, "0.817 0.437 0.000", "0.323 0.747 0.913"),
    ("flow_dps", 2000, {"step": 1.0}, "0.973 0.257 0.000", "0.027 0.570 0.677"),
    ("flow_dps", 2000, {"step": 0.0}, "0.000 0.000 0.000", "0.67 0.67 0.67"),
    ("dps", 2000, {"n_steps": 100, "adam": (0.028, 0.14, 0.03)}, "0.723 0.985 0.000", "0.316 0.557 0.928"),
    ("dps", 2000, {"n_steps": 100, "adam": (0.062, 0.70, 0.76)}, "0.986 1.586 0.000", "0.028 0.084 0.921"),
]


@pytest.mark.parametrize("row", LAWS, ids=row_name)
def test_fingerprint(row):
    name, n_draws, parameters, means, variances = row
    assert_law(draw(solver(name), *fingerprint_problem(), n_draws, **parameters)[0], means, variances)


def test_adam_moments_are_torch_s_adam():
    """Steps of length 1 by torch's optimizer, of two rows that do not meet."""
    gradients = random_normal(5, 2, 3).double() * torch.tensor([[1.0], [50.0]]).double()
    normalise = AdamMoments(0.7, 0.9)
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([x], lr=1.0, betas=(0.7, 0.9), eps=1e-8)
    for gradient in gradients:
        before, x.grad = x.detach().clone(), gradient
        adam.step()
        assert torch.allclose(before - x.detach(), normalise(gradient), atol=1e-12)


def test_one_step_of_adam_dps():
    """Its first step moves every value that has a gradient by rho, over sqrt(abar_t) to the data, and no other."""
    problem, handle = fingerprint_problem()
    plain = draw(solver("dps"), problem, handle, 3, n_steps=1, zeta=0.0)
    moved = draw(solver("dps"), problem, handle, 3, n_steps=1, adam=(0.5, 0.1, 0.2)) - plain
    length = 0.5 / handle.load().schedule.abar(1000) ** 0.5
    assert torch.allclose(moved[..., :2].abs(), torch.tensor(length).double(), rtol=1e-4)
    assert (moved[..., 2] == 0).all()


def test_adam_is_three_numbers_or_off():
    with pytest.raises(ValueError, match="dps: adam must be 'off' or 3 numbers of 0 or more"):
        solver("dps").get_instance(adam=(0.1, 0.2)).resolve_presets("ffhq", "sr4")
    sampler = solver("dps").get_instance(preset="adam")
    sampler.resolve_presets("ffhq", "sr4")
    assert (sampler.n_steps, sampler.adam) == (100, (0.028, 0.14, 0.03))


def test_dsg_keeps_the_length_of_the_noise():
    """x - mu has length sqrt(n) s, whatever the scale; D(x) = sqrt(abar) x gives the states back."""
    problem, handle = fingerprint_problem()
    schedule = handle.load().schedule
    c_0, c_t, std = schedule.bridge(0, 1, 1000)
    start = draw(solver("dsg"), problem, handle, 2, n_steps=1)[0] / schedule.abar(1000) ** 0.5
    for scale in (0.0, 0.3, 1.0):
        x = draw(solver("dsg"), problem, handle, 2, n_steps=2, interval=1, scale=scale)[0] / schedule.abar(1) ** 0.5
        step = x - (c_0 * schedule.abar(1000) ** 0.5 + c_t) * start
        assert torch.allclose(step.norm(dim=1), torch.full((2,), 3**0.5 * std, dtype=torch.float64))


def test_fast_dips_step_is_the_minimum_along_the_gradient():
    """Of the augmented energy, by a fine search; by the exact derivative and by the finite difference."""
    problem, _ = fingerprint_problem()
    problem = problem.rows([0], 2)
    x_hat = torch.tensor([[0.2, -0.3, 0.4], [1.0, 0.5, -2.0]], dtype=torch.float64)
    x, target = x_hat + 0.3, problem.y - 0.1
    sampler = solver("fast_dips").get_instance(rho=3.0)
    sampler.resolve_presets("gaussian", "gaussian")
    for linear in (True, False):
        known = problem.capabilities - (set() if linear else {"linear", "svd"})
        moved = sampler.descend(replace(problem, capabilities=known), x, x_hat, target, 0.7)
        gradient = (x - x_hat) / 0.7**2 + 3.0 * problem.operator.mask * (problem.A(x) - target)
        lengths = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:, None, None]
        at = x - lengths * gradient
        energy = ((at - x_hat) ** 2 / 0.7**2 + 3.0 * (problem.operator.mask * at - target) ** 2).sum(2)
        best = x - energy.argmin(0)[:, None] / 10_000 * gradient
        assert torch.allclose(moved, best, atol=1e-3)


def test_fast_dips_halves_a_step_that_raises_the_energy():
    problem, _ = fingerprint_problem()
    problem = problem.rows([0], 2)
    known = problem.capabilities - {"linear", "svd"}
    squares = replace(problem, operator=Physics(A=lambda x: x**2), capabilities=known)
    x_hat = torch.tensor([[0.2, -0.3, 0.4], [1.0, 0.5, -2.0]], dtype=torch.float64)
    x, target = x_hat + 0.3, torch.full((2, 3), 30.0, dtype=torch.float64)
    sampler = solver("fast_dips").get_instance(rho=3.0)
    sampler.resolve_presets("gaussian", "gaussian")

    def energy(x):
        return ((x - x_hat) ** 2 / 0.7**2 + 3.0 * (x**2 - target) ** 2).sum(1)

    gradient = (x - x_hat) / 0.7**2 + 6.0 * x * (x**2 - target)
    moved = sampler.descend(squares, x, x_hat, target, 0.7)
    assert (energy(moved) < energy(x)).all()
    assert float(((x - moved) / gradient)[0, 0]) < 0.1  # the minimum of the linearised energy is at .14


def test_fast_dips_fits_y_to_its_radius():
    """With many rounds x meets the constraint, of every row; with a radius that the start meets it stays at D."""
    problem, _ = fingerprint_problem()
    problem = problem.rows([0], 2)
    x_hat = torch.tensor([[0.2, -0.3, 0.4], [0.9, 1.0, -2.0]], dtype=torch.float64)
    for radius in (0.05, 0.3, 5.0):
        sampler = solver("fast_dips").get_instance(radius=radius, n_admm=200, n_inner=3, rho=20.0)
        sampler.resolve_presets("gaussian", "gaussian")
        x = sampler.correct(problem, x_hat, 1.0)
        assert (problem.residual(x).norm(dim=1) <= radius + 1e-3).all()
        inside = problem.residual(x_hat).norm(dim=1) <= radius
        assert torch.allclose(x[inside], x_hat[inside]) and (inside.all() or not torch.allclose(x, x_hat))


@pytest.mark.slow
def test_tmpd_is_exact_as_the_steps_get_short():
    samples = draw(solver("tmpd"), *fingerprint_problem(), 4000, n_steps=1000)[0]
    assert_law(samples, "0.963 1.160 0.000", "0.037 0.310 0.997")


def test_tmpd_knows_a_correlated_prior_where_its_covariance_of_y_is_diagonal():
    """One coordinate is seen: A C A^T is one number. What is hidden follows by the prior's correlation of 0.9."""
    prior, noise = Prior("gaussian", (("dim", 2), ("correlation", 0.9))), GaussianNoise(0.2)
    operator, y = diagonal_operator(1.0, 0.0), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    problem = InverseProblem(operator, noise, y, "gaussian", 1, (0,), capabilities=capabilities(operator, noise, prior))
    exact = prior.load().posterior(problem)
    samples, n = draw(solver("tmpd"), problem, prior, 1000, n_steps=500)[0], 1000
    hidden_variance = 1 - 0.9**2 / 1.04
    assert abs(float(samples[:, 1].mean() - exact.mean[0, 1])) < 4 * (hidden_variance / n) ** 0.5
    assert float(samples[:, 1].var()) == pytest.approx(hidden_variance, rel=4 * (2 / n) ** 0.5)


def test_settings_of_a_preset_may_depend_on_the_task():
    CoDPS = solver("jfps")
    settings = {}
    for task in ("gaussian_blur", "sr4", "random50"):
        sampler = CoDPS.get_instance(preset="codps")
        sampler.resolve_presets("ffhq", task)
        settings[task] = (
            sampler.form,
            sampler.n_steps,
            sampler.scale,
            sampler.late,
            sampler.divisor,
            sampler.precision,
        )
    assert settings == {
        "gaussian_blur": ("codps", 1000, 0.01, 200, 10.0, 0.1),
        "sr4": ("codps", 1000, 0.01, 100, 10.0, 0.1),
        "random50": ("codps", 1000, 0.4, 80, 1000.0, 500.0),
    }
    with pytest.raises(ValueError, match="jfps: PRESETS has no preset 'dps' for ffhq"):
        CoDPS.get_instance(preset="dps").resolve_presets("ffhq", "sr4")


@pytest.mark.slow
def test_ot_ode_is_exact_for_an_early_start_and_many_steps():
    samples = draw(solver("ot_ode"), *fingerprint_problem(), 4000, n_steps=1000, start=0.01)[0]
    assert_law(samples, "0.962 1.146 0.000", "0.039 0.301 1.00")


@pytest.mark.parametrize("tau", [0.0, 1e-4, 0.1, 0.5, 0.9])
def test_denoiser_in_flow_time(tau):
    """Under N(0, I): E[x_0 | x_tau] = tau x_tau / (tau^2 + (1 - tau)^2), and its variance; the level is bounded."""
    prior = Prior("gaussian", (("dim", 3),)).load()
    x = torch.tensor([[0.3, -1.2, 0.7]], dtype=torch.float64)
    assert flow_sigma(prior, tau) <= prior.schedule.sigma(1000)
    at = max(tau, 1 / (1 + flow_sigma(prior, tau)))  # the earliest time that has a trained level
    expected = at / (at**2 + (1 - at) ** 2) * x * (1 - at) / (1 - tau)
    assert torch.allclose(denoise_flow(prior, x, tau), expected, atol=1e-10)
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    x_tau = tau * x_0 + (1 - tau) * eps
    rest = x_0 - torch.cov(torch.stack([x_0, x_tau]))[0, 1] / x_tau.var() * x_tau  # the best linear prediction's error
    assert float(rest.var()) == pytest.approx(flow_variance(tau), rel=0.02)


def test_velocity_of_a_flow_pipeline_is_what_its_network_predicts(tmp_path):
    """diffusers counts time the other way: its network predicts eps - x_0 at s = 1 - tau."""
    prior = Prior(save(tmp_path, FlowMatchEulerDiscreteScheduler())).load()
    x, tau = random_normal(2, 3, 16, 16), 0.4
    with torch.no_grad():
        velocity = flow_velocity(x, denoise_flow(prior, x, tau), tau)
        predicted = prior.network(x, torch.full((2,), 1000 * (1 - tau))).sample
    torch.testing.assert_close(velocity, -predicted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["flower", "ot_ode", "pnp_flow", "flow_dps"])
def test_flow_solvers_run_on_a_flow_pipeline(tmp_path, name):
    handle = Prior(save(tmp_path, FlowMatchEulerDiscreteScheduler()))
    samples = draw(solver(name), problem_of(handle), handle, 1, **solver(name).test_config)
    assert samples.shape == (2, 1, 3, 16, 16) and samples.isfinite().all()
