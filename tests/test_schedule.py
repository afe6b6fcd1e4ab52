import numpy as np
import pytest
import torch

from benchmark_utils.rng import RNG
from benchmark_utils.schedule import NoiseSchedule, karras_levels


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


@pytest.mark.parametrize("call", [lambda s: s.grid(0), lambda s: s.grid(1001), lambda s: s.bridge(3, 2, 5)])
def test_impossible_levels_are_refused(call):
    with pytest.raises(ValueError):
        call(NoiseSchedule.linear())


def test_a_table_must_decrease():
    with pytest.raises(ValueError, match="decrease"):
        NoiseSchedule([0.5, 0.6])
