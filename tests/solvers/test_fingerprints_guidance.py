"""Samplers that are guided by a label: their law on two Gaussians, and against the exact tilted law of the mixture.

On ``p = N(0, s0^2)`` and ``p(. | c) = N(m, s^2)`` every method is a scalar recursion, which is computed here by
quadrature; the solvers are run with 20,000 draws. On the labelled mixture the windows are three standard deviations
over seeds of what each method measures against exact draws.
"""

from importlib import import_module

import pytest
import torch
from helpers import draw
from scipy.integrate import quad
from torch.distributions import Normal

from benchmark_utils.evaluate import objective_of, score
from benchmark_utils.guidance import guide, guided_levels
from benchmark_utils.noise import LabelTilt
from benchmark_utils.operators.label import ClassProbabilities
from benchmark_utils.priors import Prior
from benchmark_utils.priors.base import LoadedPrior
from benchmark_utils.problem import InverseProblem, capabilities
from benchmark_utils.rng import RNG
from benchmark_utils.sampler import CountingPrior
from benchmark_utils.schedule import NoiseSchedule
from datasets.labelled_mixture import Dataset as LabelledMixture

M, S, S0 = 1.0, 0.5, 1.0
N_DRAWS = 20_000
GUIDED = ("cfg", "cfgig", "apg", "pcg", "fkc", "tilted_ideal")


class TwoGaussians(LoadedPrior):
    """``N(0, S0^2)`` without and ``N(M, S^2)`` with the label, in one dimension."""

    event_shape = signal_shape = (1,)
    dtype, device = torch.float64, torch.device("cpu")
    schedule = NoiseSchedule.linear()

    def denoise_sigma(self, x, sigma, label=None):
        if label is None:
            return S0**2 / (S0**2 + sigma**2) * x
        return (S**2 * x + sigma**2 * M) / (S**2 + sigma**2)


def moments(name, weight=3.0, n_draws=N_DRAWS, **parameters):
    """Mean and standard deviation of a solver's draws under :class:`TwoGaussians`."""
    solver = import_module(f"solvers.{name}").Solver.get_instance(**parameters)
    solver.resolve_presets("mixture", "label")
    solver._label, solver._batches_done, solver._n_batches = name, 0, 1
    y = torch.ones(1, 1, dtype=torch.float64)
    problem = InverseProblem(
        Fixed(), LabelTilt(weight), y.expand(n_draws, 1), "label", 1, (0,) * n_draws, n_draws=n_draws
    )
    rng = RNG(0, "sampler", "label", problem.images, range(n_draws), dtype=torch.float64, block=512)
    x = solver.sample(problem, TwoGaussians(), rng)
    return x.mean().item(), x.std().item()


class Fixed:
    """An operator that no sampler calls."""


def assert_moments(found, mean, std, n_draws=N_DRAWS):
    assert found[0] == pytest.approx(mean, abs=4 * std / n_draws**0.5 + 0.005)
    assert found[1] == pytest.approx(std, abs=4 * std / (2 * n_draws) ** 0.5 + 0.005)


def contraction(v, w):
    """By how much the guided ODE from noise variance v shrinks distances."""
    return (S**2 / (S**2 + v)) ** (w / 2) * ((S0**2 + v) / S0**2) ** ((w - 1) / 2)


def drift(v, w):
    """Where the guided ODE takes 0 from noise variance v to."""
    return quad(lambda u: w * M / (2 * (S**2 + u)) * contraction(u, w), 0, v, limit=200)[0]


def rounds(sigma, n_rounds, w=3.0):
    """Mean and standard deviation after rounds of CFGiG from the conditional law, an AR(1)."""
    mean, variance = M, S**2
    for _ in range(n_rounds):
        slope = contraction(sigma**2, w)
        mean, variance = slope * mean + drift(sigma**2, w), slope**2 * (variance + sigma**2)
    return mean, variance**0.5


PRINTED = {  # sigma*: after 1 and 8 rounds
    0.1: ("1.010/.486", "1.066/.409"),
    0.25: ("1.053/.425", "1.196/.296"),
    0.5: ("1.146/.312", "1.262/.246"),
    1.0: ("1.276/.200", "1.337/.182"),
    2.0: ("1.379/.147", "1.408/.143"),
}


def cfgig_rounds(sigma, n_rounds):
    n_start, n_round = 64, 64
    return {"n_start": n_start, "n_steps": n_start + n_rounds * n_round, "n_gibbs": n_rounds, "sigma_gibbs": sigma}


@pytest.mark.parametrize("sigma", PRINTED)
def test_rounds_of_cfgig_are_an_autoregression(sigma):
    for n_rounds, printed in zip((1, 8), PRINTED[sigma], strict=True):
        expected = rounds(sigma, n_rounds)
        assert expected == pytest.approx([float(number) for number in printed.split("/")], abs=1e-3)
        assert_moments(moments("cfgig", **cfgig_rounds(sigma, n_rounds)), *expected)


@pytest.mark.slow
@pytest.mark.parametrize("n_rounds", [2, 4, 32, 128])
@pytest.mark.parametrize("sigma", PRINTED)
def test_more_rounds_of_cfgig(sigma, n_rounds):
    assert_moments(moments("cfgig", **cfgig_rounds(sigma, n_rounds)), *rounds(sigma, n_rounds))


def test_cfg_by_the_ode_is_too_sure():
    """Whatever the mean of the label, its standard deviation is s^w s0^(1 - w): .125 where the target has .316."""
    mean = drift(80**2, 3.0)  # to infinity 1.5
    assert (mean, S**3 * S0**-2) == pytest.approx((1.499, 0.125), abs=5e-3)
    assert_moments(moments("cfg", n_steps=64), mean, S**3 * S0**-2)


def test_cfg_by_ddpm_is_another_law():
    """With the 1000 levels of the prior, against its scalar recursion."""
    levels = guided_levels(TwoGaussians.schedule, 1000, "ddpm")
    mean, variance = 0.0, levels[0] ** 2
    for sigma, lower in zip(levels, levels[1:], strict=False):
        v, ratio = sigma**2, (lower / sigma) ** 2
        slope = 3 * S**2 / (S**2 + v) - 2 * S0**2 / (S0**2 + v)
        gain = slope + ratio * (1 - slope)
        mean = gain * mean + (1 - ratio) * 3 * v * M / (S**2 + v)
        variance = gain**2 * variance + lower**2 * (1 - ratio)
    assert (mean, variance**0.5) == pytest.approx((1.314, 0.256), abs=4e-3)
    found = moments("cfg", sampler="ddpm", n_steps=1000)
    assert_moments(found, mean, variance**0.5)


def ddim(mean, variance, levels, w):
    """Mean and variance after DDIM steps of the guided ODE."""
    for sigma, lower in zip(levels, levels[1:], strict=False):
        v = sigma**2
        slope = w * S**2 / (S**2 + v) + (1 - w) * S0**2 / (S0**2 + v)
        gain = slope + lower / sigma * (1 - slope)
        mean, variance = gain * mean + (1 - lower / sigma) * w * v * M / (S**2 + v), gain**2 * variance
    return mean, variance


def test_cfg_by_ddim_is_a_recursion_on_the_levels_of_the_prior():
    levels = guided_levels(TwoGaussians.schedule, 30, "ddim")
    mean, variance = ddim(0.0, levels[0] ** 2, levels, 3.0)
    assert_moments(moments("cfg", n_draws=2000, sampler="ddim", n_steps=30), mean, variance**0.5, 2000)


def test_rounds_of_cfgig_by_ddim_start_at_a_level_of_the_prior():
    """From the largest level up to sigma_gibbs; a sigma_gibbs above all levels is the largest."""
    schedule = TwoGaussians.schedule
    mean, variance = ddim(0.0, schedule.sigma(1000) ** 2, guided_levels(schedule, 10, "ddim"), 1.0)
    for sigma_gibbs, t in ((1.0, sum(schedule.sigma(t) <= 1 for t in range(1, 1001))), (1000.0, 1000)):
        levels = [schedule.sigma(1 + round(i * (t - 1) / 9)) for i in reversed(range(10))] + [0.0]
        expected = ddim(mean, variance + schedule.sigma(t) ** 2, levels, 3.0)
        options = {"n_steps": 20, "n_start": 10, "n_gibbs": 1, "sigma_gibbs": sigma_gibbs}
        found = moments("cfgig", n_draws=2000, sampler="ddim", **options)
        assert_moments(found, expected[0], expected[1] ** 0.5, 2000)


def test_guidance_in_an_interval_costs_one_evaluation_outside_and_is_the_guided_recursion_inside():
    """Against DDIM's recursion with the weight of each level; only levels strictly inside (0.16, 1) have w = 3."""
    levels = guided_levels(TwoGaussians.schedule, 40, "ddim")
    mean, variance, n_inside = 0.0, levels[0] ** 2, sum(0.16 < sigma < 1 for sigma in levels)
    for pair in zip(levels, levels[1:], strict=False):
        mean, variance = ddim(mean, variance, pair, 3.0 if 0.16 < pair[0] < 1 else 1.0)
    options = {"sampler": "ddim", "n_steps": 40, "interval": (0.16, 1.0)}
    assert_moments(moments("cfg", n_draws=2000, **options), mean, variance**0.5, 2000)
    assert variance**0.5 < 0.9 * S and n_inside > 3  # guided somewhere, and less than the conditional law
    counting = CountingPrior(TwoGaussians())
    denoise = guide(counting, torch.zeros(1).long(), 3.0, (0.16, 1.0))
    for sigma in levels[:-1]:
        denoise(torch.zeros(1, 1, dtype=torch.float64), sigma)
    assert counting.nfe == 40 + n_inside


@pytest.mark.parametrize(
    "name, parameters, extra",
    [
        ("pcg", {}, 0.015),
        # one filter: its draws share ancestors
        ("fkc", {"n_steps": 200}, 0.02),
    ],
)
def test_methods_with_a_corrector_end_at_the_target(name, parameters, extra):
    precision = 3 / S**2 - 2 / S0**2
    mean, std = moments(name, n_draws=4000, **parameters)
    assert mean == pytest.approx(3 * M / S**2 / precision, abs=extra + 4 * 0.316 / 4000**0.5)
    assert std == pytest.approx(precision**-0.5, abs=extra + 4 * 0.316 / 8000**0.5)


@pytest.mark.parametrize("form", ["delayed", "delayed-code"])
def test_the_delayed_forms_are_cfg_at_delta_w_minus_1(form):
    """There sigma_1 = sigma_2 = sigma and the weights are CFG's; with another delta they are not."""
    same = moments("cfgig", n_draws=50, form=form, delta=2.0)
    assert same == pytest.approx(moments("cfgig", n_draws=50), abs=1e-12)
    assert moments("cfgig", n_draws=50, form=form, delta=0.1) != pytest.approx(same, abs=0.05)


def log_normal(x, mean, std):
    return Normal(x.new_tensor(mean), x.new_tensor(std)).log_prob(x)


def test_the_delayed_form_is_the_score_of_the_two_noised_laws():
    """``D = x + s^2 grad log(p_{s_1}(x | c)^w p_{s_2}(x)^(1 - w))`` by autograd of the normal densities.

    The noise kernels at s_1 and s_2 multiply to that at s: ``N(x; x_0, s_1^2)^w N(x; x_0, s_2^2)^(1 - w)`` differs from
    ``N(x; x_0, s^2)`` by a factor without x.
    """
    solver = import_module("solvers.cfgig").Solver.get_instance(form="delayed", delta=0.3)
    solver.resolve_presets("mixture", "label")
    w, sigma, label = 3.0, 0.7, torch.zeros(5).long()
    first, second = sigma * (w / 1.3) ** 0.5, sigma * ((w - 1) / 0.3) ** 0.5
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).requires_grad_()
    kernels = w * log_normal(x, 0.4, first) - (w - 1) * log_normal(x, 0.4, second)
    factor = kernels - log_normal(x, 0.4, sigma)
    torch.testing.assert_close(factor, factor[:1].expand(5))
    noised = w * log_normal(x, M, (S**2 + first**2) ** 0.5)
    noised = noised - (w - 1) * log_normal(x, 0.0, (S0**2 + second**2) ** 0.5)
    (gradient,) = torch.autograd.grad(noised.sum(), x)
    found = solver.round_denoiser(TwoGaussians(), label, w)(x.detach()[:, None], sigma)
    torch.testing.assert_close(found[:, 0], x.detach() + sigma**2 * gradient)


@pytest.mark.parametrize("family, weight", [("mixture", "problem"), ("imagenet", 2.3)])
def test_the_preset_of_the_delayed_form(family, weight):
    solver = import_module("solvers.cfgig").Solver.get_instance(preset="delayed")
    solver.resolve_presets(family, "label")
    assert (solver.form, solver.delta, solver.sigma_gibbs, solver.weight) == ("delayed", 0.1, 2.0, weight)


@pytest.mark.parametrize("name", [name for name in GUIDED if name != "tilted_ideal"])
def test_weight_one_is_the_conditional_law(name):
    extra = {"fkc": {"n_steps": 100}, "pcg": {"n_langevin": 8}}.get(name, {})
    mean, std = moments(name, weight=1.0, n_draws=4000, **extra)
    assert mean == pytest.approx(M, abs=0.01 + 4 * S / 4000**0.5)
    assert std == pytest.approx(S, abs=0.012 + 4 * S / 8000**0.5)


@pytest.mark.parametrize("sampler", ["heun", "ddim"])
def test_cfgpp_is_euler_cfg_with_a_weight_of_the_grid(sampler):
    levels, lam, x = guided_levels(TwoGaussians.schedule, 8, sampler), 0.3, 0.0
    assert levels[0] == (80 if sampler == "heun" else TwoGaussians.schedule.sigma(1000))
    prior, label, variance = TwoGaussians(), torch.zeros(1).long(), levels[0] ** 2
    for sigma, lower in zip(levels, levels[1:], strict=False):
        w = lam * sigma / (sigma - lower)
        gain = 1 + (lower - sigma) / sigma * (1 - w * S**2 / (S**2 + sigma**2) - (1 - w) / (1 + sigma**2))
        x = gain * x + (sigma - lower) / sigma * w * sigma**2 * M / (S**2 + sigma**2)
        variance = gain**2 * variance
    assert prior.denoise_sigma(torch.zeros(1, 1), 1.0, label).item() == pytest.approx(M / (1 + S**2))
    assert_moments(moments("cfgpp", n_draws=4000, n_steps=8, sampler=sampler), x, variance**0.5, 4000)


def test_apg_is_cfg_where_nothing_is_projected():
    found = moments("apg", n_draws=50, eta=1.0, beta=0.0)
    assert found == pytest.approx(moments("cfg", n_draws=50), abs=1e-9)
    # in one dimension all of the update lies along D_c
    assert moments("apg", n_draws=50, eta=0.0, beta=0.0) == pytest.approx(moments("conditional_sample", n_draws=50))


class Plane(TwoGaussians):
    """D_c = (2, 0) and D_u = (-1, -4), wherever x is."""

    event_shape = (2,)

    def denoise_sigma(self, x, sigma, label=None):
        return torch.tensor([[2.0, 0.0]] if label is not None else [[-1.0, -4.0]], dtype=torch.float64)


def sample_in_plane(name, **parameters):
    """One draw in :class:`Plane`, and the number of evaluations."""
    solver = import_module(f"solvers.{name}").Solver.get_instance(**parameters)
    solver.resolve_presets("mixture", "label")
    solver._label, solver._batches_done, solver._n_batches = name, 0, 1
    problem = InverseProblem(Fixed(), LabelTilt(3.0), torch.ones(1, 1), "label", 1, (0,))
    prior = CountingPrior(Plane())
    return solver.sample(problem, prior, RNG(0, "sampler", "label", (0,), dtype=torch.float64)), prior.nfe


def test_apg_shrinks_and_projects():
    """A step of two dimensions against the formula by hand."""
    x, _ = sample_in_plane("apg", n_steps=1, radius=1.0, eta=0.5, beta=0.0)
    # Delta = (3, 4), shrunk to (.6, .8); along D_c lies (.6, 0), of which half is left
    torch.testing.assert_close(x, torch.tensor([[2 + 2 * 0.3, 2 * 0.8]], dtype=torch.float64))


def test_apg_weakens_what_repeats():
    """Two Heun steps, whose third evaluation is the draw: Delta is (3, 4), (1.5, 2), then (2.25, 3)."""
    x, _ = sample_in_plane("apg", n_steps=2, eta=0.0, beta=-0.5)
    torch.testing.assert_close(x, torch.tensor([[2.0, 2 * 3.0]], dtype=torch.float64))


def test_pcg_predicts_with_the_conditional_model_and_corrects_with_the_guided_one():
    """One step to 0, which nothing corrects, is D_c; of four levels three have corrections of two evaluations."""
    x, n_evaluations = sample_in_plane("pcg", n_steps=1)
    torch.testing.assert_close(x, torch.tensor([[2.0, 0.0]], dtype=torch.float64))
    assert n_evaluations == 1
    assert sample_in_plane("pcg", n_steps=4, n_langevin=3)[1] == 4 + 3 * 3 * 2


# Against the exact law of the mixture


@pytest.fixture(scope="module")
def objective():
    return objective_of(LabelledMixture.get_instance(n_problems=1))


def row_of(objective, name, **parameters):
    solver = import_module(f"solvers.{name}").Solver.get_instance(**parameters)
    (row,) = score(solver, objective).to_dict("records")
    return row


def test_exact_draws(objective):
    row = row_of(objective, "exact_posterior")
    assert row["mode_tv"] < 0.05 and row["sliced_wasserstein"] < 0.2 and row["mean_error"] < 0.07
    assert row["label_probability_floor"] == pytest.approx(0.7771, abs=1e-4)
    assert row["label_probability"] == pytest.approx(row["label_probability_floor"], abs=0.02)
    assert abs(row["mmd"]) < 2e-3 and row["recall"] > 0.97 and row["coverage"] > 0.94


def test_cfg_is_too_sure_of_the_label_and_loses_coverage(objective):
    row = row_of(objective, "cfg")
    assert 0.34 < row["sliced_wasserstein"] < 0.48
    assert row["label_probability"] == pytest.approx(0.885, abs=0.01)
    assert row["coverage"] < 0.7 and row["precision"] > 0.99
    assert row["nfe"] == 126 and row["vjp"] == 0


def test_cfgig_at_its_published_budget(objective):
    row = row_of(objective, "cfgig")
    assert row["sliced_wasserstein"] < 0.22
    assert row["label_probability"] == pytest.approx(0.845, abs=0.015)
    assert row["nfe"] == 99


@pytest.mark.slow
def test_cfgig_with_many_small_rounds(objective):
    row = row_of(objective, "cfgig", n_steps=12 + 128 * 4, n_gibbs=128, sigma_gibbs=0.25)
    assert row["sliced_wasserstein"] < 0.22
    assert row["label_probability"] == pytest.approx(0.790, abs=0.015)


@pytest.mark.slow
def test_the_corrected_denoiser_reaches_the_floor():
    row = row_of(objective_of(LabelledMixture.get_instance(n_problems=1), n_samples=500), "tilted_ideal")
    assert row["sliced_wasserstein"] < 0.4 and row["mode_tv"] < 0.08
    assert row["label_probability"] == pytest.approx(0.7771, abs=0.04)


@pytest.mark.slow
def test_the_corrected_denoiser_with_all_draws(objective):
    row = row_of(objective, "tilted_ideal")
    assert row["sliced_wasserstein"] < 0.2
    assert row["label_probability"] == pytest.approx(0.7771, abs=0.02)


@pytest.mark.slow
def test_local_rounds_move_no_mass_between_modes():
    """Label 3, whose modes must change their weights: small rounds stay near the conditional law."""
    label_3 = objective_of(LabelledMixture.get_instance(label=3, n_problems=1))
    small = row_of(label_3, "cfgig", n_steps=12 + 128 * 4, n_gibbs=128, sigma_gibbs=0.25)
    large = row_of(label_3, "cfgig", n_steps=12 + 8 * 10, n_gibbs=8, sigma_gibbs=2.0)
    assert small["sliced_wasserstein"] > 0.45 > large["sliced_wasserstein"]
    assert row_of(label_3, "tilted_ideal")["sliced_wasserstein"] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mgdm", "mgps"])
def test_general_posterior_samplers_run_on_the_same_target(name, objective):
    """They need the likelihood only, and get nearer to the target than draws that ignore the label."""
    row = row_of(objective, name)
    unguided = row_of(objective, "prior_sample", n_steps=32)
    assert row["sliced_wasserstein"] < unguided["sliced_wasserstein"] / 2 and row["vjp"] > 0


def problem_and_prior(weight):
    prior = Prior("labelled_mixture")
    operator, noise = ClassProbabilities(prior), LabelTilt(weight)
    found = capabilities(operator, noise, prior)
    y = torch.eye(5, dtype=torch.float64)[[1, 3]]
    return InverseProblem(operator, noise, y, "label", 5, (0, 1), capabilities=found), prior


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "tilted_ideal" else name for name in GUIDED]
)
def test_weight_one_gives_the_draws_of_the_conditional_model(name):
    """Draw by draw where the method is an ODE, of the same law elsewhere."""
    problem, prior = problem_and_prior(1.0)
    x = draw(import_module(f"solvers.{name}").Solver, problem, prior, 200)
    conditional = draw(import_module("solvers.conditional_sample").Solver, problem, prior, 200)
    if name in ("cfg", "apg", "tilted_ideal"):
        torch.testing.assert_close(x, conditional)
    else:
        probabilities = problem.A(x.flatten(0, 1)).exp().unflatten(0, (2, 200))
        found, expected = (p.mean(1)[[0, 1], [1, 3]] for p in (probabilities, reference(problem, conditional)))
        torch.testing.assert_close(found, expected, rtol=0, atol=0.14)  # 4 standard errors of a difference


def reference(problem, x):
    return problem.A(x.flatten(0, 1)).exp().unflatten(0, x.shape[:2])


def test_a_guided_step_counts_two_evaluations():
    problem, prior = problem_and_prior(3.0)
    counting = CountingPrior(prior.load("cpu"))
    x = torch.zeros(2, 2, dtype=torch.float64)
    counting.denoise(x, 500, problem.label), counting.denoise_sigma(x, 1.0)
    assert counting.nfe == 4
    abar, sigma = counting.schedule.abar(500), counting.schedule.sigma(500)
    conditional = counting.denoise(x + 1, 500, problem.label)
    torch.testing.assert_close(conditional, counting.denoise_sigma((x + 1) / abar**0.5, sigma, problem.label))
    assert not torch.allclose(conditional, counting.denoise(x + 1, 500))


def test_rounds_without_steps_are_refused():
    problem, prior = problem_and_prior(3.0)
    with pytest.raises(ValueError, match="leaves no step for each of n_gibbs=32 .*n_steps must be at least 44"):
        draw(import_module("solvers.cfgig").Solver, problem, prior, 2, n_gibbs=32)


def test_a_delayed_form_needs_a_weight_above_one():
    problem, prior = problem_and_prior(0.5)
    with pytest.raises(ValueError, match="form=delayed needs a weight of 1 or more"):
        draw(import_module("solvers.cfgig").Solver, problem, prior, 2, form="delayed")


def test_one_ddim_step_starts_where_several_do():
    schedule = NoiseSchedule.linear()
    for n_steps in (1, 2, 7):
        levels = guided_levels(schedule, n_steps, "ddim", first=1.0)
        assert len(levels) == n_steps + 1 and levels[-1] == 0 and levels == sorted(levels, reverse=True)
        assert levels[0] == max(schedule.sigma(t) for t in range(1, 1001) if schedule.sigma(t) <= 1)


def test_levels_and_intervals_that_guide_nowhere_are_refused():
    schedule = NoiseSchedule.linear()
    with pytest.raises(ValueError, match="sigma_gibbs must be above it, got 0.002"):
        guided_levels(schedule, 5, first=0.002)
    with pytest.raises(ValueError, match=r"low < high, got \(3.0, 0.16\)"):
        guide(None, None, 3.0, (3.0, 0.16))
