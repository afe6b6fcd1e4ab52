import copy
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import draw, fingerprint_problem
from test_invariance import SOLVERS

from benchmark_utils.priors import Prior
from benchmark_utils.rng import RNG
from benchmark_utils.schedule import NoiseSchedule, karras_levels, time_travel


def joint_conditional(abar, s, given):
    """Coefficients and variance of x_s given other levels of the forward process started at x_0, by dense algebra.

    Under x_0 ~ N(0, v) with v -> infinity the joint law of levels a < b has Cov = sqrt(abar_a abar_b) (v + ...).
    """
    v = 1e6

    def covariance(a, b):
        low, high = min(a, b), max(a, b)
        return np.sqrt(abar[high] / abar[low]) * (abar[low] * v + 1 - abar[low])

    K = np.array([[covariance(a, b) for b in given] for a in given])
    k = np.array([covariance(s, b) for b in given])
    weights = np.linalg.solve(K, k)
    return weights, covariance(s, s) - weights @ k


@pytest.mark.parametrize("l, s, t", [(0, 1, 1000), (0, 400, 700), (10, 400, 700), (200, 201, 202)])
def test_bridge_is_the_conditional_of_the_forward_process(l, s, t):
    schedule = NoiseSchedule.linear()
    c_l, c_t, std = schedule.bridge(l, s, t)
    weights, variance = joint_conditional(schedule.table.numpy(), s, [l, t])
    np.testing.assert_allclose([c_l, c_t], weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(std**2, variance, rtol=1e-3)


def test_bridge_with_eta_zero_is_ddim():
    schedule = NoiseSchedule.linear()
    c_0, c_t, std = schedule.bridge(0, 300, 500, eta=0.0)
    x_0, eps = 0.7, -1.3
    x_t = schedule.abar(500) ** 0.5 * x_0 + (1 - schedule.abar(500)) ** 0.5 * eps
    assert std == 0
    np.testing.assert_allclose(
        c_0 * x_0 + c_t * x_t, schedule.abar(300) ** 0.5 * x_0 + (1 - schedule.abar(300)) ** 0.5 * eps, rtol=1e-12
    )


def test_sampled_transitions_have_their_mean_and_variance():
    schedule, n = NoiseSchedule.linear(), 4000
    noise = RNG(0, "sampler", "box", range(n), dtype=torch.float64)
    x_l, x_t = torch.full((n, 1), 0.5).double(), torch.full((n, 1), -1.0).double()
    c_l, c_t, std = schedule.bridge(20, 300, 600)
    x_s = schedule.sample_bridge(x_l, x_t, 20, 300, 600, noise)
    assert abs(x_s.mean() - (0.5 * c_l - c_t)) < 4 * std / n**0.5
    assert abs(x_s.std() / std - 1) < 4 / (2 * n) ** 0.5
    x = schedule.sample_forward(x_l, 300, 600, noise)
    ratio = schedule.abar(600) / schedule.abar(300)
    assert abs(x.mean() - 0.5 * ratio**0.5) < 4 * ((1 - ratio) / n) ** 0.5
    assert abs(x.var() / (1 - ratio) - 1) < 4 * (2 / n) ** 0.5


def test_table_and_grid():
    schedule = NoiseSchedule.linear()
    assert schedule.abar(0) == 1 and schedule.T == 1000
    assert schedule.abar(1) == pytest.approx(1 - 1e-4)
    assert schedule.sigma(1000) == pytest.approx(157, rel=0.01)
    assert schedule.grid(4) == [1000, 667, 334, 1, 0]
    torch.testing.assert_close(schedule.abar(torch.tensor([0, 1000])), schedule.table[[0, 1000]])


def test_karras_levels():
    levels = np.array(karras_levels(80.0, 0.002, 18))  # the example of EDM, appendix
    np.testing.assert_allclose(np.diff(levels ** (1 / 7)), (0.002 ** (1 / 7) - 80.0 ** (1 / 7)) / 17, rtol=1e-10)
    np.testing.assert_allclose(levels[[0, -1]], [80.0, 0.002], rtol=1e-12)
    assert karras_levels(3.0, 1.0, 1) == pytest.approx([3.0])
    schedule = NoiseSchedule.karras(0.002, 80.0, 7, T=18)
    np.testing.assert_allclose([schedule.sigma(t) for t in range(18, 0, -1)], levels, rtol=1e-9)


def test_time_travel_passes_a_stretch_again_where_it_may():
    again = [(5, 7), (7, 6), (6, 5)]
    first, second, third = [(9, 8), (8, 7)], [(7, 6), (6, 5)], [(5, 4)]
    levels = [9, 8, 7, 6, 5, 4]
    assert time_travel(levels, 2, 1) == first + second + third
    assert time_travel(levels, 2, 3) == first + second + again + again + third + 2 * [(4, 5), (5, 4)]
    assert time_travel(levels, 2, 2, lowest=6) == first + second + again + third
    assert time_travel(levels, 2, 2, lowest=7) == first + second + third


def handle_with_levels(T, family="gaussian"):
    """Handle of N(0, I_3) whose schedule has T levels."""

    def load(device="cpu"):
        prior = copy.copy(Prior("gaussian", (("dim", 3),)).load(device))
        prior.schedule = NoiseSchedule.linear(0.1 / T, 20 / T, T)
        return prior

    return SimpleNamespace(name="few levels", family=family, is_latent=False, load=load)


N_STEPS = [name for name in SOLVERS if "n_steps" in import_module(f"solvers.{name}").Solver.parameters]


@pytest.mark.parametrize("name", N_STEPS)
def test_a_preset_is_cut_to_the_levels_that_the_prior_has(name, capsys):
    problem, handle = fingerprint_problem()[0], handle_with_levels(50)
    Solver = import_module(f"solvers.{name}").Solver
    full, solver = Solver.get_instance(), Solver.get_instance()
    full.resolve_presets("gaussian", "gaussian")
    solver.set_objective(problem, handle, 2, 0)
    cut = full.n_steps > 50 and Solver.steps_are_levels  # else it has its own grid
    assert solver.n_steps == (50 if cut else full.n_steps)
    notice = f"{name}: its preset n_steps={full.n_steps} is cut to 50, the noise levels of the prior"
    assert (notice in capsys.readouterr().out) == cut
    if not solver.skip(problem, handle)[0]:
        solver.run(None)
        assert solver.get_result()["samples"].isfinite().all()


@pytest.mark.parametrize("name", ["dps", "mgdm", "ddnm"])
def test_more_steps_than_levels_are_refused_where_the_user_asks_for_them(name):
    problem, handle = fingerprint_problem()[0], handle_with_levels(50)
    with pytest.raises(ValueError, match="n_steps must lie in 1..50, the levels of the prior, got 51"):
        draw(import_module(f"solvers.{name}").Solver, problem, handle, 1, n_steps=51)


def test_levels_of_mgps_are_fractions_of_the_schedule():
    """The warm start, from 0.7 T up, and the second alpha, from T / 2 down, are where they are for T = 1000."""

    class Recording(import_module("solvers.mgps").Solver):
        def sample_x_m(self, problem, prior, rng, estimate, x_t, end, m, t, n_steps):
            self.moves.append((t / prior.schedule.T, end, m / prior.schedule.T))
            return x_t

        def sample_x_1(self, problem, prior, rng, x_m, m, n_steps):
            return x_m

    def moves(T):
        solver = Recording.get_instance(n_steps=T // 10, warm_start=0.7, alpha=(0.25, 1.0))
        solver.moves = []
        solver.set_objective(fingerprint_problem()[0], handle_with_levels(T), 1, 0)
        solver.run(None)
        return solver.moves

    for T in (200, 1000):
        warm = [t for t, end, _ in moves(T) if end == 1]
        assert min(warm) == pytest.approx(0.7, abs=10 / T) and max(warm) == 1
        late = [t for t, _, m in moves(T) if m > 0.3]
        assert max(late) == pytest.approx(0.5, abs=20 / T)


@pytest.mark.parametrize("call", [lambda s: s.grid(0), lambda s: s.grid(1001), lambda s: s.bridge(3, 2, 5)])
def test_impossible_levels_are_refused(call):
    with pytest.raises(ValueError):
        call(NoiseSchedule.linear())


def test_a_table_must_decrease():
    with pytest.raises(ValueError, match="decrease"):
        NoiseSchedule([0.5, 0.6])
