"""deepinv's samplers work on [0, 1]: the problem they get is the same one, and their noise belongs to the row."""

import pytest
import torch
from helpers import draw

from benchmark_utils.deepinv_adapter import UnitRangeDenoiser, in_unit_range
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.operators.super_resolution import BlockAverage
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities, count_observed
from solvers.deepinv_ddrm import Solver as DDRM
from solvers.deepinv_diffpir import Solver as DiffPIR
from solvers.deepinv_dps import Solver as DPS

SHAPE = (3, 64, 64)
PRIOR = Prior("faces64_mfa")


def problem_of(task, x):
    operator = (inpainting("half", SHAPE) if task == "half" else BlockAverage(4, SHAPE)).double()
    noise = GaussianNoise(0.05)
    y = operator.A(x)
    noisy = y + 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = noisy * operator.mask if task == "half" else noisy
    found = capabilities(operator, noise, PRIOR)
    return InverseProblem(operator, noise, y, task, count_observed(operator, y), tuple(range(len(x))), 1, found)


def faces(n):
    return PRIOR.load().sample(n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("task", ["half", "sr4"])
def test_the_problem_is_the_same_on_the_unit_range(task):
    x = faces(1)
    problem = problem_of(task, x)
    y, physics = in_unit_range(problem)
    torch.testing.assert_close(y - physics.A((x + 1) / 2), problem.residual(x) / 2)
    assert float(physics.noise_model.sigma) == pytest.approx(0.025)
    assert physics.mask.shape == physics.U_adjoint(y).shape
    if task == "half":
        assert (y[..., 32:] == 0).all()


def test_the_denoiser_is_the_same_on_the_unit_range():
    prior, x = PRIOR.load(), faces(2)
    denoised = UnitRangeDenoiser(prior)((x + 1) / 2, 0.3)
    torch.testing.assert_close(2 * denoised - 1, prior.denoise_sigma(x, 0.6))
    assert torch.equal(UnitRangeDenoiser(prior)(x, 0.0), x)


@pytest.mark.parametrize("Solver, n_steps", [(DDRM, 20), (DiffPIR, 20), (DPS, 20)])
def test_rows_have_their_own_noise_and_the_global_generator_is_left_alone(Solver, n_steps):
    problem = problem_of("half", faces(1))
    before = torch.random.get_rng_state()
    samples = draw(Solver, problem, PRIOR, 2, n_steps=n_steps)[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (samples[0] - samples[1]).std() > 0.01
    assert torch.equal(samples[:1], draw(Solver, problem, PRIOR, 1, n_steps=n_steps)[0])


@pytest.mark.parametrize("Solver, bound", [(DDRM, 3), (DiffPIR, 6)])
def test_samples_follow_the_measurement(Solver, bound):
    """Far below the misfit of the prior's own draws, which is above 50."""
    problem = problem_of("half", faces(1))
    assert problem.misfit(faces(2)[1:]) > 50
    assert problem.misfit(draw(Solver, problem, PRIOR, 1, n_steps=50)[0]) < bound
