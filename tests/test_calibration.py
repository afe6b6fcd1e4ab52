"""Calibration scores against the scoringrules package and draws of known laws."""

import math

import numpy as np
import pytest
import scoringrules
import torch
from scipy.stats import kstest

from benchmark_utils.calibration import central_coverage, crps, energy_score, ranks, tarp
from benchmark_utils.evaluate import evaluate
from benchmark_utils.sampler import PosteriorSampler
from solvers.exact_posterior import Solver as ExactPosterior
from solvers.pseudo_inverse import Solver as PseudoInverse


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def paired_draws(n, n_draws, dim, scale=1.0, seed=0):
    """Draws and truths of N(m, I) with another m for each truth; the draws' standard deviation is ``scale``."""
    mean = 3 * normal(n, dim, seed=seed)
    return mean[:, None] + scale * normal(n, n_draws, dim, seed=seed + 1), mean + normal(n, dim, seed=seed + 2)


@pytest.mark.parametrize("n_draws", [2, 5, 16])
def test_crps_and_energy_score_are_those_of_scoringrules(n_draws):
    samples, truth = paired_draws(7, n_draws, 12)
    expected = scoringrules.crps_ensemble(truth.numpy(), samples.movedim(1, -1).numpy(), estimator="fair").mean(1)
    np.testing.assert_allclose(crps(samples.view(7, n_draws, 3, 4), truth.view(7, 3, 4)), expected, rtol=1e-10)
    expected = scoringrules.es_ensemble(truth.numpy(), samples.numpy(), estimator="fair")
    np.testing.assert_allclose(energy_score(samples.view(7, n_draws, 3, 4), truth.view(7, 3, 4)), expected, rtol=1e-10)


@pytest.mark.parametrize("n_draws", [2, 16])
def test_scores_of_exact_gaussian_draws_do_not_depend_on_their_number(n_draws):
    """E CRPS = 1 / sqrt(pi) for N(0, 1), E energy score = E ||x - x'|| / 2 = Gamma(2) / Gamma(3/2) in d = 3."""
    samples, truth = paired_draws(4000, n_draws, 3)
    for scores, expected in ((crps(samples, truth), math.pi**-0.5), (energy_score(samples, truth), 2 / math.pi**0.5)):
        assert abs(scores.mean() - expected) < 4 * scores.std() / 4000**0.5


@pytest.mark.parametrize("n_draws", [2, 5, 16])
def test_exact_draws_have_the_nominal_coverage_and_uniform_ranks(n_draws):
    n = 2000
    samples, truth = paired_draws(n, n_draws, 3)
    histogram = ranks(samples, truth)
    for coverage, nominal in (central_coverage(histogram, level) for level in (0.5, 0.8, 0.9, 1.0)):
        assert abs(coverage.mean() - nominal) < 4 * coverage.std() / n**0.5
    assert histogram.shape == (n, n_draws + 1)
    torch.testing.assert_close(histogram.sum(1), torch.ones(n, dtype=torch.float64))
    assert ((histogram.mean(0) - 1 / (n_draws + 1)).abs() < 4 * histogram.std(0) / n**0.5).all()


def test_nominal_values_are_the_nearest_that_the_number_of_draws_allows():
    assert [central_coverage(torch.ones(1, 17), level)[1] for level in (0.5, 0.8, 0.9)] == [9 / 17, 13 / 17, 15 / 17]
    assert central_coverage(torch.ones(1, 3), 0.9)[1] == pytest.approx(1 / 3)


def test_intervals_by_hand():
    samples = torch.tensor([[1.0, 2, 3, 4, 5]]).T[None]  # five draws of one entry
    for value, rank in ((0.5, 0), (1.5, 1), (3.5, 3), (9.0, 5)):
        truth = torch.tensor([[value]])
        histogram = ranks(samples, truth)
        assert histogram[0].argmax() == rank and histogram[0].max() == 1
        assert central_coverage(histogram, 1.0)[0] == (0 < rank < 5)
        assert central_coverage(histogram, 1 / 3)[0] == (1 < rank < 4)
    tie = ranks(samples, torch.tensor([[2.0]]))
    assert tie[0].tolist() == [0, 0.5, 0.5, 0, 0, 0]
    assert central_coverage(tie, 1 / 3)[0] == 0.5


def test_tarp_values_are_uniform_for_exact_draws_and_not_for_others():
    n, n_draws = 1000, 17
    jitter = torch.rand(n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def p_value(samples, truth):
        counts = (tarp(samples, truth) * (n_draws - 1)).round()
        return kstest((counts + jitter) / n_draws, "uniform").pvalue

    assert p_value(*paired_draws(n, n_draws, 20)) > 0.01
    assert p_value(*paired_draws(n, n_draws, 20, scale=0.5)) < 1e-6
    assert p_value(*paired_draws(n, n_draws, 20, scale=2.0)) < 1e-6
    assert p_value(*paired_draws(n, n_draws, 20, scale=0.0)) < 1e-6, "the mean"
    samples, truth = paired_draws(n, n_draws, 20)
    assert p_value(samples + 0.5, truth) < 1e-6, "shifted"


def test_tarp_by_hand():
    samples = torch.tensor([[[0.0], [1], [2], [-3], [4]]])  # centre 0, distances 1, 2, 3, 4
    assert [tarp(samples, torch.tensor([[x]])).item() for x in (0.5, -2.5, 9.0, 3.0)] == [0, 0.5, 1, 0.625]


@pytest.mark.parametrize("score", [crps, energy_score, ranks, tarp])
def test_scores_refuse_one_draw_and_other_shapes_and_do_not_couple_rows(score):
    samples, truth = paired_draws(4, 5, 3)
    with pytest.raises(ValueError, match="n_samples"):
        score(samples[:, :1], truth)
    with pytest.raises(ValueError, match=r"\(n, D, \*signal\)"):
        score(samples[:, :, :2], truth)
    torch.testing.assert_close(score(samples, truth)[2:3], score(samples[2:3], truth[2:3]), rtol=0, atol=0)


# Rows of the objective


class Halved(PosteriorSampler):
    """Exact draws with half their deviation from the mean."""

    name, needs, factor = "halved", {"closed_form"}, 0.5

    def sample(self, problem, prior, rng):
        posterior = prior.posterior(problem.with_draws(1))
        mean = posterior.mean.repeat_interleave(problem.n_draws, 0)
        return mean + self.factor * (posterior.sample(rng) - mean)


class Mean(Halved):
    """The posterior mean, as every draw."""

    name, factor = "mean", 0.0


@pytest.mark.parametrize("dataset", ["gaussian[n_problems=3]", "gaussian_latent[n_problems=2]", "gaussian_mixture"])
def test_rows_have_calibration_columns_beside_what_exact_draws_reach(dataset):
    rows = evaluate(ExactPosterior, dataset, n_samples=16)
    assert rows["n_draws"].eq(16).all() and rows["coverage_80_floor"].eq(13 / 17).all()
    histograms, null = np.stack(rows["rank_histogram"]), np.stack(rows["rank_null"]).reshape(len(rows), -1, 17)
    np.testing.assert_allclose(histograms.sum(1), 1, rtol=1e-5)
    # each of the 17 exact draws is the truth once, so together their ranks are uniform
    np.testing.assert_allclose(null.mean(1), 1 / 17, rtol=1e-5)
    assert {"crps", "crps_floor", "energy_score", "energy_score_floor", "tarp"} <= set(rows)


def test_many_draws_are_binned_and_one_draw_has_no_columns():
    rows = evaluate(ExactPosterior, "gaussian[n_problems=2]", n_samples=250)
    assert rows["rank_histogram"][0].shape == (20,) and rows["rank_null"][0].size == 100 * 20
    rows = evaluate(PseudoInverse, "ffhq_denoising[prior=faces64_mfa,n_images=1]", n_samples=1)
    assert not {"crps", "tarp", "coverage_50"} & set(rows)


def test_truths_drawn_from_the_prior_are_the_same_whatever_the_range():
    """Two images of three, in the same order; the number of an image seeds its truth. Real faces stay the default."""
    from datasets.ffhq_denoising import Dataset

    several = Dataset.get_instance(prior="faces64_mfa", truth="prior", n_images=3).get_data()
    one = Dataset.get_instance(prior="faces64_mfa", truth="prior", first=2, n_images=1).get_data()
    torch.testing.assert_close(one["x_true"][0], several["x_true"][2])
    assert one["files"] == ("draw 00002",)
    faces = Dataset.get_instance(prior="faces64_mfa", n_images=1).get_data()
    assert faces["files"] == ("00000.png",)
    for options in ({"prior": "faces64", "truth": "prior"}, {"prior": "faces64_mfa", "truth": "posterior"}):
        with pytest.raises(ValueError, match="faces64_mfa"):
            Dataset.get_instance(n_images=1, **options).get_data()


def test_exact_draws_are_calibrated_on_truths_of_the_prior_and_not_on_faces():
    truths = "ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2{}]"
    drawn, faces = (evaluate(ExactPosterior, truths.format(t), n_samples=8) for t in (",truth=prior", ""))
    nominal = drawn["coverage_80_floor"][0]
    assert abs(drawn["coverage_80"] - nominal).max() < 0.05
    assert (faces["coverage_80"] < nominal - 0.05).all(), "the prior's misfit"
