"""Each form of MGDM against its own law on N(0, I), where all its draws are Gaussian and the denoiser is linear.

Coordinate by coordinate the pair (x_0, x_t) is an affine recursion, whose mean and covariance are carried along here,
for the index sequence of the run. An index that y drives couples the coordinates: its law is simulated. The posterior
has means (0.962, 1.154, 0) and variances (0.038, 0.308, 1).
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import draw, fingerprint_problem

from benchmark_utils.checks.batches import TOLERANCE, find_suitable_problem, largest_difference
from benchmark_utils.rng import RNG
from benchmark_utils.schedule import NoiseSchedule
from scripts.measure import mgdm_forms

SCHEDULE = NoiseSchedule.linear()
K, M, NOISE_STD = 20, 5, 0.2
GAINS, Y = (1.0, 0.3, 0.0), (1.0, 0.5, 0.0)


def exact_draw(extra):
    """x_s given its bridge's mean m, as (coefficient of m, of x_t, constant, variance); y has ``extra`` r^2 more."""

    def conditional(a, y, s, c_0, c_t, std):
        slope, noise = SCHEDULE.abar(s) ** 0.5, NOISE_STD**2 + extra * a**2 * (1 - SCHEDULE.abar(s))
        precision = 1 / std**2 + (a * slope) ** 2 / noise
        return 1 / (std**2 * precision), 0.0, a * slope * y / (noise * precision), 1 / precision

    return conditional


def proximal_draw(a, y, s, c_0, c_t, std):
    gain = a / (a**2 + NOISE_STD**2 / (1 - SCHEDULE.abar(s)))
    return c_0 * (1 - gain * a) * SCHEDULE.abar(s) ** 0.5, c_t, c_0 * gain * y, std**2


def moments(conditional, a, y, n_gibbs, eta=1.0, quiet=False):
    """Mean and variance of the last x_0, by those of the vector (x_0, x_t, x_s)."""
    mean, covariance = np.zeros(3), np.zeros((3, 3))
    generator = RNG(0, "sampler", "gaussian", [0]).shared
    levels = np.linspace(0, 999, K).astype(int).tolist()

    def move(row, coefficients, constant=0.0, variance=0.0):
        nonlocal mean, covariance
        map_ = np.eye(3)
        map_[row] = coefficients
        mean, covariance = map_ @ mean, map_ @ covariance @ map_.T
        mean[row] += constant
        covariance[row, row] += variance

    move(1, (0, 0, 0), variance=1.0)
    move(0, (0, SCHEDULE.abar(999) ** 0.5, 0))
    for i in range(K - 2, 1, -1):
        t_next, t, t_prev = levels[i + 1], levels[i], levels[i - 1]
        s = t_prev if i <= K // 4 else int(generator.integers(10, t_prev, endpoint=True))
        c_0, c_t, std = SCHEDULE.bridge(0, t, t_next)
        move(1, (c_0, c_t, 0), variance=std**2)
        c_0, c_t, std = SCHEDULE.bridge(0, s, t)
        of_mean, of_x_t, constant, variance = conditional(a, y, s, c_0, c_t, std)
        for _ in range(n_gibbs):
            move(2, (of_mean * c_0, of_mean * c_t + of_x_t, 0), constant, variance)
            move(0, (0, 0, 1))
            for k in range(M - 1, 0, -1):
                high, low = s * k // (M - 1), s * (k - 1) // (M - 1)
                b_0, b_k, b_std = SCHEDULE.bridge(0, low, high, eta)
                move(0, (b_0 * SCHEDULE.abar(high) ** 0.5 + b_k, 0, 0), variance=b_std**2)
            abar, abar_t = SCHEDULE.abar(s), SCHEDULE.abar(t)
            if quiet:
                kept = ((1 - abar_t) / (1 - abar)) ** 0.5
                move(1, (abar_t**0.5 - kept * abar**0.5, 0, kept))
            else:
                move(1, (0, 0, (abar_t / abar) ** 0.5), variance=1 - abar_t / abar)
    return mean[0], covariance[0, 0]


class ExactDraw(mgdm_forms.MGDM):
    """The exact draw of x_s in place of Adam's."""

    def sample_x_s(self, problem, prior, rng, x_0, x_t, s, t, n_steps, learning_rate):
        return mgdm_forms.Linearised.get_instance().sample_x_s(problem, prior, rng, x_0, x_t, s, t)


class ExactQuietRefresh(ExactDraw, mgdm_forms.QuietRefresh):
    pass


class ExactQuietNoising(ExactDraw, mgdm_forms.QuietNoising):
    pass


class ExactQuiet(ExactDraw, mgdm_forms.Quiet):
    pass


class ExactDriven(ExactDraw, mgdm_forms.Driven):
    pass


@pytest.mark.parametrize("n_gibbs", [1, 4])
@pytest.mark.parametrize(
    "form, conditional, options",
    [
        (mgdm_forms.Linearised, exact_draw(0), {}),
        (mgdm_forms.Widened, exact_draw(1), {}),
        (mgdm_forms.Proximal, proximal_draw, {}),
        (ExactQuietRefresh, exact_draw(0), {"eta": 0.0}),
        (ExactQuietNoising, exact_draw(0), {"quiet": True}),
        (ExactQuiet, exact_draw(0), {"eta": 0.0, "quiet": True}),
    ],
)
def test_a_form_has_its_law(form, conditional, options, n_gibbs):
    n = 4000
    x = draw(form, *fingerprint_problem(), n, n_steps=K, n_denoise=M, n_gibbs=n_gibbs)[0]
    expected = np.array([moments(conditional, a, y, n_gibbs, **options) for a, y in zip(GAINS, Y, strict=True)])
    print(form.__name__, n_gibbs, expected.T.round(3).tolist(), x.mean(0), x.var(0))  # the table of docs/mgdm.md
    assert (np.abs(x.mean(0).numpy() - expected[:, 0]) < 4 * (expected[:, 1] / n) ** 0.5).all()
    assert x.var(0).numpy() == pytest.approx(expected[:, 1], rel=4 * (2 / n) ** 0.5)


FAR_Y = np.array([3.0, 2.0, 0.0])  # so far from the prior that it matters which s is drawn


def simulate_driven(n_gibbs, n, by_likelihood=True):
    """Draws of the last x_0, (n, 3): each row draws s by the likelihood of one bridge draw at each candidate."""
    random, shared = np.random.default_rng(0), RNG(0, "sampler", "gaussian", [0]).shared
    levels, gains, y = np.linspace(0, 999, K).astype(int).tolist(), np.array(GAINS), FAR_Y
    x_t = random.normal(size=(n, 3))
    x_0 = SCHEDULE.abar(999) ** 0.5 * x_t
    for i in range(K - 2, 1, -1):
        t_next, t, t_prev = levels[i + 1], levels[i], levels[i - 1]
        late = i <= K // 4
        candidates = [t_prev] if late else sorted({int(shared.integers(10, t_prev, endpoint=True)) for _ in range(4)})
        c_0, c_t, std = SCHEDULE.bridge(0, t, t_next)
        x_t = c_0 * x_0 + c_t * x_t + std * random.normal(size=(n, 3))
        for _ in range(n_gibbs):
            shared.integers(2**62, size=len(candidates))
            logs = []
            for s in candidates:
                c_0, c_t, std = SCHEDULE.bridge(0, s, t)
                x_s = c_0 * x_0 + c_t * x_t + std * random.normal(size=(n, 3))
                misfit = np.square(y - gains * SCHEDULE.abar(s) ** 0.5 * x_s).sum(1) / NOISE_STD**2
                logs.append(-by_likelihood * misfit / 2)
            chosen = (np.array(logs) + random.gumbel(size=(len(logs), n))).argmax(0)
            for k, s in enumerate(candidates):
                own, abar, ratio = chosen == k, SCHEDULE.abar(s), SCHEDULE.abar(t) / SCHEDULE.abar(s)
                c_0, c_t, std = SCHEDULE.bridge(0, s, t)
                seen = gains * abar**0.5
                precision = 1 / std**2 + seen**2 / NOISE_STD**2
                mean = ((c_0 * x_0[own] + c_t * x_t[own]) / std**2 + seen * y / NOISE_STD**2) / precision
                x_s = mean + random.normal(size=mean.shape) / precision**0.5
                x = x_s
                for move in range(M - 1, 0, -1):
                    high, low = s * move // (M - 1), s * (move - 1) // (M - 1)
                    b_0, b_k, b_std = SCHEDULE.bridge(0, low, high)
                    x = b_0 * SCHEDULE.abar(high) ** 0.5 * x + b_k * x + b_std * random.normal(size=x.shape)
                x_0[own] = x
                x_t[own] = ratio**0.5 * x_s + (1 - ratio) ** 0.5 * random.normal(size=x.shape)
    return x_0


@pytest.mark.parametrize("n_gibbs", [1, 4])
def test_a_driven_index_has_the_law_of_its_simulation(n_gibbs):
    n, (problem, prior) = 4000, fingerprint_problem()
    problem = replace(problem, y=torch.from_numpy(FAR_Y)[None])
    x = draw(ExactDriven, problem, prior, n, n_steps=K, n_denoise=M, n_gibbs=n_gibbs)[0]
    expected = simulate_driven(n_gibbs, 40_000)
    mean, variance = expected.mean(0), expected.var(0)
    print(n_gibbs, mean.round(3), x.mean(0), variance.round(3), x.var(0))  # the table of docs/mgdm.md
    error = (1.1 * variance / n) ** 0.5
    assert (np.abs(x.mean(0).numpy() - mean) < 4 * error).all()
    assert x.var(0).numpy() == pytest.approx(variance, rel=4 * (2.2 / n) ** 0.5)
    if n_gibbs == 1:
        uniform = simulate_driven(n_gibbs, 40_000, by_likelihood=False)
        assert np.abs(uniform.mean(0) - mean)[1] > 8 * error[1]  # any s would show


def test_candidates_are_chosen_by_their_likelihood():
    """Shares of the candidates at one state, against those of simulated bridge draws."""
    (problem, handle), n, t, levels = fingerprint_problem(), 4000, 700, (10, 200, 400, 600)
    x_0, x_t = np.array([0.5, 0.9, 0.0]), np.array([-0.2, 0.4, 0.1])
    states = (torch.from_numpy(value).expand(n, 3) for value in (x_0, x_t))
    rng = RNG(0, "sampler", "gaussian", [0] * n, range(n), dtype=torch.float64)
    prior = handle.load("cpu")
    chosen = mgdm_forms.Driven().choose(problem.rows([0], n), prior, rng, *states, levels, t)
    random, logs = np.random.default_rng(1), []
    for s in levels:
        c_0, c_t, std = SCHEDULE.bridge(0, s, t)
        x_s = c_0 * x_0 + c_t * x_t + std * random.normal(size=(100_000, 3))
        logs.append(
            -np.square(np.array(Y) - np.array(GAINS) * SCHEDULE.abar(s) ** 0.5 * x_s).sum(1) / (2 * NOISE_STD**2)
        )
    weights = np.exp(np.array(logs))
    shares = (weights / weights.sum(0)).mean(1)
    assert np.ptp(shares) > 0.1
    assert np.bincount(chosen, minlength=4) / n == pytest.approx(shares, abs=4 * 0.5 / n**0.5)


def test_a_driven_index_is_the_row_s_own():
    problem, prior, _ = find_suitable_problem(mgdm_forms.Driven)
    assert largest_difference(mgdm_forms.Driven, problem, prior) < TOLERANCE


def test_the_scalar_slope_is_the_jacobian_under_n_0_i():
    """There D_s(x) = sqrt(abar_s) x, so that form (a) is MGDM, with the same random numbers."""
    problem = fingerprint_problem()
    settings = {"n_steps": 12, "n_denoise": M}
    found, expected = (draw(form, *problem, 20, **settings) for form in (mgdm_forms.Scalar, mgdm_forms.MGDM))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
