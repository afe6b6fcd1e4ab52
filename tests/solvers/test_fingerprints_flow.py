"""Known laws of the flow methods and of the other methods of 2024 to 2026, and the view of flow time that they share.

The problem is that of ``test_fingerprints_linear.py``: prior N(0, I_3), A = diag(1, 0.3, 0), sigma = 0.2, where
(0.962, 1.154, 0) and (0.0385, 0.308, 1) are exact. ``LAWS`` were simulated on their own as scalar recursions, with
20,000 draws. ``WINDOWS`` are what the solver itself gave with 20,000 draws: they hold it where it is, no more.
"""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from helpers import draw, fingerprint_problem
from test_fingerprints_linear import assert_law, row_name, solver
from test_own_priors import problem_of, random_normal, save

from benchmark_utils.flow import denoise_flow, flow_sigma, flow_variance, flow_velocity
from benchmark_utils.priors import Prior

LAWS = [  # solver, draws, parameters, means, variances
    ("flower", 2000, {"n_steps": 100, "gamma": 1}, "0.961 1.154 0.000", "0.0386 0.309 1.00"),
    ("flower", 2000, {"n_steps": 100, "gamma": 0}, "0.963 1.153 0.000", "0.0175 0.147 0.479"),
    ("ot_ode", 2000, {"n_steps": 100, "start": 0.1, "weight": "constant"}, "0.963 1.093 0.000", "0.0365 0.294 0.978"),
    ("ot_ode", 2000, {"n_steps": 100, "start": 0.3, "weight": "falling"}, "0.965 0.912 0.000", "0.031 0.276 0.835"),
    ("pnp_flow", 2000, {"n_steps": 100, "alpha": 0.3}, "0.996 1.051 0.000", "0.0002 0.023 0.096"),
    ("pnp_flow", 2000, {"n_steps": 100, "alpha": 1.0}, "0.869 0.392 0.000", "0.0095 0.067 0.096"),
]


@pytest.mark.parametrize("row", LAWS, ids=row_name)
def test_fingerprint(row):
    name, n_draws, parameters, means, variances = row
    assert_law(draw(solver(name), *fingerprint_problem(), n_draws, **parameters)[0], means, variances)


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


@pytest.mark.parametrize("name", ["flower", "ot_ode", "pnp_flow"])
def test_flow_solvers_run_on_a_flow_pipeline(tmp_path, name):
    handle = Prior(save(tmp_path, FlowMatchEulerDiscreteScheduler()))
    samples = draw(solver(name), problem_of(handle), handle, 1, **solver(name).test_config)
    assert samples.shape == (2, 1, 3, 16, 16) and samples.isfinite().all()
