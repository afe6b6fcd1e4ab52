"""Guided denoisers of deepinv and azula beside ours, by the same noise: two implementations that agree."""

import importlib.util
from dataclasses import replace

import pytest
import torch
from helpers import diagonal_operator, draw, fingerprint_problem

from benchmark_utils.azula_adapter import adapt_prior
from benchmark_utils.checks.batches import SMALL, svd_operator
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.problem import InverseProblem, capabilities
from solvers.azula_jfps import Solver as AzulaJFPS
from solvers.azula_mmps import Solver as AzulaMMPS
from solvers.azula_tmpd import Solver as AzulaTMPD
from solvers.deepinv_pgdm import Solver as DeepinvPGDM
from solvers.jfps import Solver as JFPS
from solvers.mmps import Solver as MMPS
from solvers.pgdm import Solver as PGDM
from solvers.tmpd import Solver as TMPD


def correlated_problem():
    """Two images of eight correlated values, four observed through a random matrix."""
    operator, noise = svd_operator(), GaussianNoise(0.1)
    y = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = capabilities(operator, noise, SMALL)
    return InverseProblem(operator, noise, y, "gaussian", 4, (0, 1), capabilities=found), SMALL


def assert_exact(samples, rounding=0.02):
    """The posterior of ``fingerprint_problem`` within 4 standard errors and ``rounding``, relative for the variance."""
    mean = torch.tensor([1 / 1.04, 0.15 / 0.13, 0.0], dtype=torch.float64)
    variance = torch.tensor([0.04 / 1.04, 0.04 / 0.13, 1.0], dtype=torch.float64)
    n = len(samples)
    assert ((samples.mean(0) - mean).abs() <= 4 * (variance / n).sqrt() + rounding).all(), samples.mean(0)
    assert ((samples.var(0) - variance).abs() <= (4 * (2 / n) ** 0.5 + rounding) * variance).all(), samples.var(0)


@pytest.mark.parametrize("n_conjugate", [1, 4])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_azula_s_mmps_is_ours(n_conjugate, eta):
    settings = {"n_steps": 20, "n_conjugate": n_conjugate, "eta": eta}
    ours, theirs = (draw(Solver, *correlated_problem(), 3, **settings) for Solver in (MMPS, AzulaMMPS))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-9)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_azula_s_tmpd_and_jfps_are_ours(eta):
    """TMPD where no row sum is negative: ours bounds them."""
    ours, theirs = (draw(Solver, *fingerprint_problem(), 3, n_steps=20, eta=eta) for Solver in (TMPD, AzulaTMPD))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-12)
    ours = draw(JFPS, *correlated_problem(), 3, n_steps=20, eta=eta, precision=2.0)
    theirs = draw(AzulaJFPS, *correlated_problem(), 3, n_steps=20, eta=eta, n_conjugate=4, signal_variance=0.5)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_deepinv_s_pgdm_is_ours(eta):
    problem, prior = correlated_problem()
    theirs = draw(DeepinvPGDM, problem, prior, 3, n_steps=20, eta=eta)
    ours = draw(PGDM, problem, prior, 3, n_steps=20, eta=eta, weight="score")
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)  # its state is rounded to float32


def test_azula_s_mmps_counts_what_passes_the_network():
    solvers = [Solver.get_instance(n_steps=5, n_conjugate=2) for Solver in (MMPS, AzulaMMPS)]
    results = []
    for solver in solvers:
        solver.set_objective(*fingerprint_problem(), 2, 0)
        solver.run(None)
        results.append(solver.get_result())
    assert [(result["nfe"], result["vjp"]) for result in results] == [(5, 15), (5, 15)]


@pytest.mark.slow
def test_azula_s_tmpd_is_exact_where_the_covariance_of_y_is_diagonal():
    assert_exact(draw(AzulaTMPD, *fingerprint_problem(), 2000, n_steps=1000)[0])


def test_one_guided_denoiser_of_tmpd_by_hand():
    """Row sums stand for the diagonal: under a correlated prior it differs from the exact one."""
    problem, handle = correlated_problem()
    prior, t, x = handle.load(), 400, torch.linspace(-1, 1, 16, dtype=torch.float64).view(2, 8)
    abar = prior.schedule.abar(t)
    J = torch.autograd.functional.jacobian(lambda x: prior.denoise(x, t), x[:1])[0, :, 0]
    A = problem.operator.A(torch.eye(8, dtype=torch.float64)).T
    V = (1 - abar) / abar**0.5 * J
    x_hat = prior.denoise(x, t)
    weights = (problem.y - x_hat @ A.T) / (0.01 + (A @ V @ A.T).sum(1))
    guided = AzulaTMPD.get_instance().guide(adapt_prior(prior), problem.y, problem.A, 0.01)
    torch.testing.assert_close(guided(x, t).mean, x_hat + weights @ A @ V.T)


@pytest.mark.slow
def test_azula_s_jfps_is_exact_for_the_right_variance_only():
    settings = {"n_steps": 1000, "n_conjugate": 3}  # three different singular values
    assert_exact(draw(AzulaJFPS, *fingerprint_problem(), 2000, **settings)[0])
    wrong = draw(AzulaJFPS, *fingerprint_problem(), 500, **settings, signal_variance=0.25)[0]
    assert wrong.mean(0)[1] < 1.0 and wrong.var(0)[1] > 0.33  # simulated: .908 and .393


def test_images_keep_their_shape_in_azula_s_solvers():
    """Its conjugate gradients sum over the last axis: an image must not be taken for rows of its own."""
    settings = {"n_steps": 10, "n_conjugate": 2}
    problem, prior = correlated_problem()
    square = diagonal_operator(1.0, 0.7, 0.4, 0.1)

    def as_image(x):
        return problem.operator.A(x).view(-1, 2, 2)

    square.A = as_image
    images = replace(problem, operator=square, y=problem.y.view(-1, 2, 2), capabilities=problem.capabilities - {"svd"})
    theirs = draw(AzulaMMPS, images, prior, 2, **settings)
    torch.testing.assert_close(theirs, draw(AzulaMMPS, problem, prior, 2, **settings))


@pytest.mark.parametrize("Solver", [AzulaMMPS, AzulaTMPD, AzulaJFPS])
def test_without_azula_they_say_what_to_install(Solver, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    skipped, reason = Solver.get_instance().skip(*fingerprint_problem())
    assert skipped and 'pip install ".[azula]"' in reason
