"""The draws behind the table of MGDM's mixture on a mixture prior, against closed forms."""

import numpy as np
import pytest
import torch

from benchmark_utils.priors import Prior
from scripts.measure import mgdm_mixture
from scripts.measure.mgdm_mixture_modes import Modes, measure

T, S, NOISE_STD = 500, 200, 0.5
A = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.3, 1.0]], dtype=torch.float64)


@pytest.fixture
def gaussian():
    return Modes(Prior("gaussian").load("cpu"), A)


def test_one_component_has_the_closed_forms_of_the_gaussian(gaussian):
    """Exact score and a member's, under N(0, I)."""
    bed = mgdm_mixture.Bed(np.eye(3), A.numpy(), NOISE_STD, gaussian.schedule)
    x_t = torch.tensor([[0.7, -0.4, 1.1]], dtype=torch.float64)
    y = torch.tensor([[0.9, 0.2]], dtype=torch.float64)
    exact = mgdm_mixture.score(bed.exact(T), x_t.numpy(), y.numpy())
    np.testing.assert_allclose(gaussian.exact_score(x_t, T, y, NOISE_STD), exact, rtol=1e-9)
    c_0, c_t, std = gaussian.schedule.bridge(0, S, T)
    clean = gaussian.draw_clean(x_t, T, 200_000)
    x_s = c_0 * clean + c_t * x_t + std * gaussian.randn_like(clean)
    weights = gaussian.log_likelihood(gaussian.prior.denoise(x_s, S), y, NOISE_STD).softmax(0)
    directions = gaussian.backward_score(x_s, S, x_t, T)
    found = weights @ directions
    error = (weights.square() @ (directions - found).square()).sqrt()
    expected = torch.from_numpy(mgdm_mixture.score(bed.member(S, T), x_t.numpy(), y.numpy()))[0]
    assert ((found - expected).abs() < 4.5 * error).all()
    assert (error < 0.02).all()


def test_the_law_of_x_0_given_x_t_has_the_denoiser_as_its_mean():
    prior = Prior("gaussian_mixture", (("dim", 4), ("seed", 0))).load("cpu")
    modes = Modes(prior, torch.eye(4, dtype=torch.float64))
    x_t = modes.noise(prior.sample(6, modes.generator), T)
    log_weights, means, variance = modes.clean_law(x_t, T)
    torch.testing.assert_close((log_weights.exp()[..., None] * means).sum(1), prior.denoise(x_t, T))
    draws = modes.draw_clean(x_t[:1], T, 100_000)
    spread = (log_weights.exp()[0] @ (means[0] - prior.denoise(x_t[:1], T)).square()).sum() + 4 * variance
    assert draws.var(0).sum() == pytest.approx(spread.item(), rel=0.03)


def test_the_exact_score_is_that_of_weighted_draws_where_the_prior_has_modes():
    prior = Prior("gaussian_mixture", (("dim", 4), ("seed", 1))).load("cpu")
    modes = Modes(prior, torch.nn.functional.pad(A, (0, 1)))
    x_0 = prior.sample(1, modes.generator)
    x_t, y = modes.noise(x_0, T), x_0 @ modes.A.T + NOISE_STD
    draws = modes.draw_clean(x_t, T, 400_000)
    weights, directions = modes.log_likelihood(draws, y, NOISE_STD).softmax(0), modes.backward_score(draws, 0, x_t, T)
    found = weights @ directions
    error = (weights.square() @ (directions - found).square()).sqrt()
    assert ((found - modes.exact_score(x_t, T, y, NOISE_STD)[0]).abs() < 4.5 * error).all()


def test_errors_are_those_of_the_closed_form_and_cells_without_draws_are_left_out(gaussian):
    """Over pairs of their own, N(0, I): the error of a member is within a fifth of the Gaussian script's."""
    bed, random = mgdm_mixture.Bed(np.eye(3), A.numpy(), NOISE_STD, gaussian.schedule), np.random.default_rng(0)
    x_t, y = bed.draw(T, 4000, random)
    exact = mgdm_mixture.score(bed.exact(T), x_t, y)
    (errors,) = measure(gaussian, T, [NOISE_STD], n_pairs=60, n_draws=10_000).values()
    for name, s in {"t / 4": T // 4, "t / 2": T // 2, "plug-in": T - 1}.items():
        difference = mgdm_mixture.score(bed.member(s, T), x_t, y) - exact
        assert errors[name] == pytest.approx((np.square(difference).sum() / np.square(exact).sum()) ** 0.5, rel=0.2)
    assert errors["exact"] < 0.1
    (few,) = measure(gaussian, T, [0.01], n_pairs=2, n_draws=1000).values()
    assert np.isnan(few["exact"]) and not np.isnan(few["plug-in"])
