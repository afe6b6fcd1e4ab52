"""The closed forms of MGDM's mixture against simulations of the laws that they stand for."""

import numpy as np
import pytest

from benchmark_utils.schedule import NoiseSchedule
from scripts.measure import mgdm_mixture

SCHEDULE = NoiseSchedule.linear()
LEVELS, T = (100, 200, 300, 400), 500
GAIN, NOISE_STD, Y = 0.8, 0.3, np.array([[1.5]])


@pytest.fixture
def scalar():
    """N(0, 1) seen through y = 0.8 x + noise."""
    return mgdm_mixture.Bed(np.eye(1), np.array([[GAIN]]), NOISE_STD, SCHEDULE)


def posterior(likelihood):
    """Mean and variance of N(x; 0, 1) N(y; H x, R) in one dimension."""
    H, R = (float(value[0, 0]) for value in likelihood)
    variance = 1 / (1 + H**2 / R)
    return variance * H * float(Y[0, 0]) / R, variance


def test_a_member_is_the_mean_of_the_plug_in_likelihood():
    """ghat_t^s(y | x_t) is the mean of N(y; A D_s(x_s), sigma^2) over the backward move of a correlated prior."""
    bed = mgdm_mixture.Bed(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 0.3]]), NOISE_STD, SCHEDULE)
    random, s, y = np.random.default_rng(0), 200, np.array([[0.7]])
    x_t = np.array([0.6, -0.4])
    c_0, c_t, std = SCHEDULE.bridge(0, s, T)
    joint = np.linalg.inv(np.linalg.inv(bed.covariance) + SCHEDULE.abar(T) / (1 - SCHEDULE.abar(T)) * np.eye(2))
    mean = joint @ x_t * SCHEDULE.abar(T) ** 0.5 / (1 - SCHEDULE.abar(T))  # of x_0 given x_t, from its density
    x_0 = random.multivariate_normal(mean, joint, 400_000)
    x_s = c_0 * x_0 + c_t * x_t + std * random.normal(size=x_0.shape)
    residual = y[0, 0] - x_s @ (bed.A @ bed.denoiser(s))[0]
    simulated = np.exp(-(residual**2) / (2 * NOISE_STD**2)) / NOISE_STD
    H, R = bed.member(s, T)
    found = np.exp(mgdm_mixture.log_normal(y - x_t @ H.T, R))[0]
    assert found == pytest.approx(simulated.mean(), abs=4 * simulated.std() / 400_000**0.5)


def test_the_exact_likelihood_is_that_of_the_joint_law(scalar):
    """Regression of y on x_t, both made from x_0."""
    random = np.random.default_rng(0)
    x_0, abar = random.normal(size=400_000), SCHEDULE.abar(T)
    x_t = abar**0.5 * x_0 + (1 - abar) ** 0.5 * random.normal(size=len(x_0))
    y = GAIN * x_0 + NOISE_STD * random.normal(size=len(x_0))
    H, R = (float(value[0, 0]) for value in scalar.exact(T))
    slope = (x_t * y).mean() / np.square(x_t).mean()
    assert H == pytest.approx(slope, abs=0.006)
    assert R == pytest.approx((y - slope * x_t).var(), rel=0.01)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_score_is_the_gradient_of_the_mixture(scalar, normalised):
    def log_mixture(x_t):
        values = 0.0
        for s in LEVELS:
            H, R = (float(value[0, 0]) for value in scalar.member(s, T))
            evidence = np.exp(scalar.log_evidence(scalar.member(s, T), T, Y))[0] if normalised else 1.0
            values += np.exp(-((Y[0, 0] - H * x_t) ** 2) / (2 * R)) / R**0.5 / evidence
        return np.log(values)

    difference = (log_mixture(0.3 + 1e-5) - log_mixture(0.3 - 1e-5)) / 2e-5
    found = mgdm_mixture.mixture_score(scalar, LEVELS, T, np.array([[0.3]]), Y, normalised)
    assert found[0, 0] == pytest.approx(difference, rel=1e-5)


def simulate_gibbs(redraw, n=3000, n_rounds=150):
    """States x_t and indices s after rounds of Algorithm 1, with s fixed, or of Algorithm 4, which draws it anew.

    ``redraw`` is "given x_s", as there, or "x_s integrated out", whose law is that of x_0 and x_t alone.
    """
    random = np.random.default_rng(0)
    abar_t, coefficients = SCHEDULE.abar(T), np.array([SCHEDULE.bridge(0, s, T) for s in LEVELS])
    abar = np.array([SCHEDULE.abar(s) for s in LEVELS])
    k = random.integers(len(LEVELS), size=n)
    x_0 = random.normal(size=n)
    x_t = abar_t**0.5 * x_0 + (1 - abar_t) ** 0.5 * random.normal(size=n)
    for _ in range(n_rounds):
        c_0, c_t, std = coefficients[k].T
        mean, seen = c_0 * x_0 + c_t * x_t, GAIN * abar[k] ** 0.5  # D_s(x) = sqrt(abar_s) x
        precision = 1 / std**2 + seen**2 / NOISE_STD**2
        x_s = (mean / std**2 + seen * Y[0, 0] / NOISE_STD**2) / precision + random.normal(size=n) / precision**0.5
        x_t = (abar_t / abar[k]) ** 0.5 * x_s + (1 - abar_t / abar[k]) ** 0.5 * random.normal(size=n)
        x_0 = abar[k] ** 0.5 * x_s + (1 - abar[k]) ** 0.5 * random.normal(size=n)
        if redraw:
            c_0, c_t, std = coefficients.T
            mean, gain = c_0 * x_0[:, None] + c_t * x_t[:, None], GAIN * abar**0.5
            if redraw == "given x_s":
                move, misfit = (x_s[:, None] - mean) / std, (Y[0, 0] - gain * x_s[:, None]) / NOISE_STD
                logs = -(move**2 + misfit**2) / 2 - np.log(std)
            else:
                variance = NOISE_STD**2 + (gain * std) ** 2
                logs = -((Y[0, 0] - gain * mean) ** 2) / (2 * variance) - np.log(variance) / 2
            weights = np.exp(logs - logs.max(1, keepdims=True)).cumsum(1)
            k = (weights < random.random((n, 1)) * weights[:, -1:]).sum(1)
    return x_t, k


@pytest.mark.parametrize("redraw", [None, "given x_s", "x_s integrated out"])
def test_an_index_driven_by_the_observation_has_the_law_of_the_mixture_of_likelihoods(scalar, redraw):
    """Drawn outside, s keeps its weights (eq. 12); drawn by the likelihood, members count by their evidence."""
    x_t, k = simulate_gibbs(redraw)
    members = [scalar.member(s, T) for s in LEVELS]
    evidence = np.array([np.exp(scalar.log_evidence(member, T, Y))[0] for member in members])
    weights = evidence / evidence.sum() if redraw else np.full(len(LEVELS), 1 / len(LEVELS))
    share = np.bincount(k, minlength=len(LEVELS)) / len(k)
    assert np.abs(share - weights).max() < 4 * 0.5 / len(k) ** 0.5
    means, variances = np.array([posterior(member) for member in members]).T
    mean = weights @ means
    variance = weights @ (variances + means**2) - mean**2
    assert x_t.mean() == pytest.approx(mean, abs=4 * (variance / len(x_t)) ** 0.5)
    assert x_t.var() == pytest.approx(variance, rel=4 * (2 / len(x_t)) ** 0.5)


def test_a_likelihood_that_sees_little_diffusion_noise_is_nearly_exact():
    """s = 10 leaves D_s(x_s) near x_0; at s = t - 1 it is the plug-in of DPS, which takes x_0 for known."""
    errors = mgdm_mixture.measure(0.2, 250)
    assert errors["s = 10"] < 0.05 < 1 < errors["t - 1"]
