"""Same image, same result, whatever the batch or the shard: every file of ``solvers/``, on closed forms in float64."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from deepinv.physics import DecomposablePhysics, Inpainting
from helpers import draw

from benchmark_utils.priors.base import Prior
from benchmark_utils.problem import GaussianNoise, InverseProblem, capabilities
from benchmark_utils.sampler import PosteriorSampler

SOLVERS = sorted(path.stem for path in (Path(__file__).parents[1] / "solvers").glob("*.py") if path.stem[0] != "_")
PRIOR = Prior("gaussian", (("dim", 8), ("correlation", 0.5)))
N_IMAGES = 4
TOLERANCE = 1e-6


def svd_operator():
    """A random 4 x 8 matrix with the singular values 1, 0.7, 0.4, 0.1, as ``U diag(s) V^T``."""
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0] for d in (4, 8))
    return DecomposablePhysics(
        U=lambda spectrum: spectrum[:, :4] @ U.T,
        U_adjoint=lambda y: torch.cat([y @ U, torch.zeros_like(y)], 1),
        V=lambda spectrum: spectrum @ V.T,
        V_adjoint=lambda x: x @ V,
        mask=torch.tensor([[1.0, 0.7, 0.4, 0.1, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
    )


def mask_operator():
    return Inpainting(img_size=(8,), mask=torch.tensor([1.0, 0.0] * 4, dtype=torch.float64))


def problem_of(operator, task):
    """Four images with different measurements; a third of the values are large, so a coupled norm shows."""
    noise, images = GaussianNoise(0.1), tuple(range(N_IMAGES))
    x = torch.randn(N_IMAGES, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = operator.A(x * torch.tensor([[0.3], [1.0], [2.0], [4.0]], dtype=torch.float64))
    found = capabilities(operator, noise, PRIOR, task)
    return InverseProblem(operator, noise, y, task, 4, images, capabilities=found)


def suitable_problem(Solver):
    """The first closed-form problem that the solver does not skip; the test is skipped if there is none."""
    for problem in (problem_of(svd_operator(), "gaussian"), problem_of(mask_operator(), "random")):
        skipped, reason = Solver.get_instance(**Solver.test_config).skip(problem=problem, prior=PRIOR)
        if not skipped:
            return problem
    pytest.skip(reason)


def largest_difference(Solver, problem):
    """Over the images, between one batch of four and batches of 1 and 2, two images in the other order, and halves."""

    def run(index, batch_size):
        return draw(Solver, problem.rows(index), PRIOR, 1, batch_size=batch_size, **Solver.test_config)

    whole = run([0, 1, 2, 3], 4)
    others = {
        (0, 1, 2, 3): [run([0, 1, 2, 3], 1), run([0, 1, 2, 3], 2), torch.cat([run([0, 1], 4), run([2, 3], 4)])],
        (3, 1): [run([3, 1], 4)],
    }
    return max(float((x - whole[list(index)]).abs().max()) for index, runs in others.items() for x in runs)


@pytest.mark.parametrize("name", SOLVERS)
def test_result_does_not_depend_on_the_batch(name):
    Solver = import_module(f"solvers.{name}").Solver
    assert largest_difference(Solver, suitable_problem(Solver)) <= TOLERANCE


class CoupledNorm(PosteriorSampler):
    """Wrong on purpose: a norm over the whole batch."""

    name, test_config = "coupled_norm", {}

    def sample(self, problem, prior, noise):
        x = noise.normal(*prior.event_shape)
        return x / problem.residual(x).norm()


class GlobalNoise(PosteriorSampler):
    """Wrong on purpose: noise that belongs to no image."""

    name, test_config = "global_noise", {}

    def sample(self, problem, prior, noise):
        return torch.randn(len(problem.y), *prior.event_shape, dtype=prior.dtype)


@pytest.mark.parametrize("Solver", [CoupledNorm, GlobalNoise])
def test_a_coupled_solver_is_noticed(Solver):
    assert largest_difference(Solver, problem_of(svd_operator(), "gaussian")) > TOLERANCE
