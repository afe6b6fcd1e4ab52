"""The datasets whose posterior is known: their operator, their exact scores, and that the scores catch cheats."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from benchmark_utils.operators.dense_svd import random_svd
from benchmark_utils.sampler import PosteriorSampler
from datasets.gaussian import Dataset as Gaussian
from datasets.gaussian_mixture import Dataset as GaussianMixture
from objective import Objective
from solvers.exact_posterior import Solver as ExactPosterior
from solvers.prior_sample import Solver as PriorSample
from solvers.pseudo_inverse import Solver as PseudoInverse

N_DRAWS = 400  # a mean error of 1 / 20 in root mean square


def objective_of(Dataset, n_samples=None, run_seed=0, **parameters):
    """The objective after it has drawn y for a dataset."""
    objective = Objective.get_instance(n_samples=n_samples)
    objective.get_seed = lambda **_: run_seed
    objective.set_data(**Dataset.get_instance(**parameters).get_data())
    return objective


def scores(objective, Solver, **parameters):
    """The rows of a solver as benchopt would store them, one list of values per score."""
    solver = Solver.get_instance(**parameters)
    solver.set_objective(**objective.get_objective())
    solver.run(None)
    rows = objective.evaluate_result(**solver.get_result())
    return {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "file"}


def matrix(operator):
    """A as an (m, d) matrix."""
    return operator.A(torch.eye(operator.mask.shape[1], dtype=torch.float64)).T


def random_normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("m, d", [(1, 8), (4, 8), (2, 80), (3, 3)])
def test_operator_is_its_matrix(m, d):
    operator = random_svd(m, d, torch.Generator().manual_seed(0))
    A, x, y = matrix(operator), random_normal(5, d), random_normal(5, m)
    left, singular, right = np.linalg.svd(A)
    assert A.shape == (m, d)
    np.testing.assert_allclose(operator.mask[0, :m], singular, atol=1e-12)
    assert (operator.mask[0, :m] <= 1).all() and (operator.mask[0, m:] == 0).all()
    torch.testing.assert_close(operator.A_adjoint(y), y @ A)
    torch.testing.assert_close(operator.A_dagger(y), y @ torch.linalg.pinv(A).T)
    gamma = 0.7
    proximal = torch.linalg.solve(A.T @ A + torch.eye(d) / gamma, (A.T @ y.T + x.T / gamma)).T
    torch.testing.assert_close(operator.prox_l2(x, y, gamma), proximal)
    torch.testing.assert_close(operator.V(operator.V_adjoint(x)), x)
    torch.testing.assert_close(operator.V_adjoint(operator.V(x)), x)
    torch.testing.assert_close(operator.U(operator.U_adjoint(y)), y)
    assert operator.U_adjoint(y).shape == (5, d) and (operator.U_adjoint(y)[:, m:] == 0).all()


@pytest.mark.parametrize("m", [0, 9])
def test_operator_rejects_a_number_of_measurements_outside_its_range(m):
    with pytest.raises(ValueError, match=f"must lie in 1..8, the dimension, got {m}"):
        random_svd(m, 8, torch.Generator())


@pytest.mark.parametrize("dim, dim_y", [(8, 1), (8, 4), (80, 2)])
def test_mixture_posterior_is_the_closed_form(dim, dim_y):
    """Covariance ``S = (I + A^T A / sigma^2)^-1``, means ``S (A^T y / sigma^2 + mu_k)``, weights ``w_k p(y | k)``."""
    objective = objective_of(GaussianMixture, dim=dim, dim_y=dim_y, seed=1)
    problem, prior = objective.problem, objective.prior.load()
    A, y, sigma = matrix(problem.operator), problem.y[0], problem.noise.std
    S = torch.linalg.inv(torch.eye(dim) + A.T @ A / sigma**2)
    evidence = MultivariateNormal(prior.means @ A.T, sigma**2 * torch.eye(dim_y) + A @ A.T)
    weights = (prior.log_weights + evidence.log_prob(y)).softmax(0)
    means = (A.T @ y / sigma**2 + prior.means) @ S
    mean = weights @ means
    trace = S.trace() + weights @ (means - mean).square().sum(1)
    posterior = prior.posterior(problem)
    torch.testing.assert_close(posterior.weights[0], weights, rtol=0, atol=1e-9)
    torch.testing.assert_close(posterior.mean[0], mean, rtol=0, atol=1e-6)  # the inverse loses 1 / sigma^2
    torch.testing.assert_close(posterior.trace_cov[0], trace, rtol=1e-8, atol=0)
    assert problem.capabilities >= {"differentiable", "likelihood", "gaussian", "linear", "svd", "closed_form", "truth"}
    assert not problem.capabilities & {"labelled", "latent", "mask"}
    assert 0 < sigma < problem.operator.mask.max() and problem.n_observed == dim_y


def test_same_seed_same_problem():
    a, same, other = (objective_of(GaussianMixture, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(a.problem.y, same.problem.y) and torch.equal(a.x_true, same.x_true)
    assert torch.equal(matrix(a.problem.operator), matrix(same.problem.operator))
    assert torch.equal(a.prior.load().log_weights, same.prior.load().log_weights)
    assert not torch.allclose(matrix(a.problem.operator), matrix(other.problem.operator))
    assert not torch.allclose(a.x_true, other.x_true)
    assert not torch.allclose(a.prior.load().log_weights, other.prior.load().log_weights)
    assert a.problem.noise.std != other.problem.noise.std


def test_noise_std_of_the_mixture_changes_nothing_but_the_size_of_the_noise():
    drawn, given = objective_of(GaussianMixture, seed=3), objective_of(GaussianMixture, seed=3, noise_std=0.01)
    assert given.problem.noise.std == 0.01 != drawn.problem.noise.std
    assert torch.equal(given.x_true, drawn.x_true)
    standard = [o.problem.residual(o.x_true) / o.problem.noise.std for o in (given, drawn)]
    torch.testing.assert_close(*standard, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("Dataset", [GaussianMixture, Gaussian])
def test_the_seed_of_the_run_changes_only_the_noise_of_y(Dataset):
    first, second = (objective_of(Dataset, run_seed=run_seed) for run_seed in (0, 1))
    assert torch.equal(first.x_true, second.x_true)
    assert torch.equal(matrix(first.problem.operator), matrix(second.problem.operator))
    noise = [(o.problem.residual(o.x_true) / o.problem.noise.std).abs() for o in (first, second)]
    assert not torch.equal(first.problem.y, second.problem.y)
    assert all((values < 5).all() for values in noise)  # standard normal numbers


def test_problems_of_the_gaussian_dataset_do_not_depend_on_their_number():
    two, five = (objective_of(Gaussian, n_problems=n) for n in (2, 5))
    assert torch.equal(two.problem.y, five.problem.y[:2]) and torch.equal(two.x_true, five.x_true[:2])


@pytest.fixture(scope="module")
def mixture_scores():
    """Scores of three solvers on 8 problems: {solver: {score: (8,)}}."""
    objectives = [objective_of(GaussianMixture, n_samples=N_DRAWS, dim_y=2, seed=seed) for seed in range(8)]
    parameters = {ExactPosterior: {}, PriorSample: {"n_steps": 20}, PseudoInverse: {}}
    found = {}
    for Solver, chosen in parameters.items():
        rows = [scores(objective, Solver, **chosen) for objective in objectives]
        found[Solver] = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return found


def test_exact_draws_reach_the_floor(mixture_scores):
    exact = mixture_scores[ExactPosterior]
    assert next(iter(exact)) == "sliced_wasserstein"  # the headline is the first column
    # the draws and the reference are two samples of one law, as the floor's two sets are; errors over 8 problems
    difference = exact["sliced_wasserstein"] - exact["sliced_wasserstein_floor"]
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / 8**0.5
    # n mean_error^2 has mean 1 and, for a posterior of one effective dimension, variance 2
    assert (N_DRAWS * exact["mean_error"] ** 2).mean() < 1 + 4 * (2 / 8) ** 0.5
    # E |w_hat_k - w_k| <= sqrt(w_k (1 - w_k) / n), and these sum to sqrt(K / n) at most
    assert exact["mode_tv"].mean() < (25 / N_DRAWS) ** 0.5 / 2
    assert (exact["mean_error_floor"] == 0.05).all()
    # over y its mean is 1; that of one problem is about ``chi^2_2 / 2``, with variance 1
    assert abs(exact["data_misfit"].mean() - 1) < 4 / 8**0.5


def test_baselines_do_not(mixture_scores):
    floor = mixture_scores[ExactPosterior]["sliced_wasserstein_floor"].mean()
    for Solver in (PriorSample, PseudoInverse):
        found = mixture_scores[Solver]
        assert found["sliced_wasserstein"].mean() > 20 * floor
        assert found["mode_tv"].mean() > 0.4
        assert found["mean_error"].mean() > 0.5
    assert (mixture_scores[PriorSample]["data_misfit"] > 10).all()


class ReadsTheTruth(PosteriorSampler):
    """A cheat: every draw is the true signal, which the benchmark does not hand out."""

    name = "reads_the_truth"
    truth = None

    def sample(self, problem, prior, rng):
        return self.truth.to(problem.y).repeat_interleave(problem.n_draws, 0)


class IgnoresThePrior(PosteriorSampler):
    """A cheat: the pseudo-inverse plus the noise that y carries, so that its spread looks honest where A sees."""

    name = "ignores_the_prior"

    def sample(self, problem, prior, rng):
        y = problem.y + problem.noise.std * rng.randn(*problem.y.shape[1:])
        return problem.operator.A_dagger(y)


class IgnoresTheMeasurement(PosteriorSampler):
    """A cheat: exact draws of the prior."""

    name = "ignores_the_measurement"

    def sample(self, problem, prior, rng):
        return rng.randn(*prior.event_shape)


@pytest.fixture(scope="module")
def gaussian_objective():
    return objective_of(Gaussian, n_samples=N_DRAWS)


def test_exact_draws_pass_on_the_gaussian(gaussian_objective):
    """8 problems. ``n mean_error^2`` has mean 1 and variance 2 tr(P^2) / tr(P)^2 < 2 each; the variance ratio, a
    sum of 3 chi-squared variables, has standard deviation below sqrt(2 / n) each."""
    found = scores(gaussian_objective, ExactPosterior)
    assert next(iter(found)) == "mean_error"
    assert (N_DRAWS * found["mean_error"] ** 2).mean() < 1 + 4 * (2 / 8) ** 0.5
    assert abs(found["variance_ratio"] - 1).max() < 5 * (2 / N_DRAWS) ** 0.5
    assert abs(found["data_misfit"].mean() - 1) < 4 / 8**0.5  # as in the mixture


def test_reading_the_truth_is_caught(gaussian_objective, monkeypatch):
    monkeypatch.setattr(ReadsTheTruth, "truth", gaussian_objective.x_true)
    found = scores(gaussian_objective, ReadsTheTruth)
    assert found["variance_ratio"].max() < 1e-20
    # the truth is one draw of the posterior: its distance to the mean is 1 posterior sd in root mean square
    assert (found["mean_error"] ** 2).mean() ** 0.5 > 10 * found["mean_error_floor"][0]


def test_ignoring_the_prior_is_caught(gaussian_objective):
    found = scores(gaussian_objective, IgnoresThePrior)
    assert found["mean_error"].mean() > 5 * found["mean_error_floor"][0]
    assert abs(found["variance_ratio"] - 1).min() > 5 * (2 / N_DRAWS) ** 0.5
    assert scores(gaussian_objective, PseudoInverse)["data_misfit"].max() < 1e-20  # it fits the noise


def test_ignoring_the_measurement_is_caught(gaussian_objective):
    found = scores(gaussian_objective, IgnoresTheMeasurement)
    assert found["mean_error"].mean() > 5 * found["mean_error_floor"][0]
    assert (found["variance_ratio"] > 1.5).all()
    assert (found["data_misfit"] > 5).all()


def test_one_draw_cannot_be_compared_with_a_posterior():
    data = GaussianMixture.get_instance().get_data()
    skipped, reason = Objective.get_instance(n_samples=1).skip(**data)
    assert skipped and "n_samples of 2 or more" in reason
    assert not Objective.get_instance().skip(**data)[0]


@pytest.mark.parametrize("parameters, message", [({"dim": 7}, "even dimension"), ({"dim_y": 9}, "must lie in 1..8")])
def test_bad_mixture_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture.get_instance(**parameters).get_data()


def test_bad_gaussian_parameters_are_named():
    with pytest.raises(ValueError, match="needs a dim .signal_dim. of 2 or more, got 1"):
        Gaussian.get_instance(dim=1).get_data()
