"""Same image, same result, whatever the batch or the shard: every file of ``solvers/``, on closed forms in float64."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmark_utils.checks.batches import (
    CASES,
    LABELLED,
    LATENT,
    SMALL,
    TOLERANCE,
    draw,
    find_suitable_problem,
    largest_difference,
    problem_of,
)
from benchmark_utils.sampler import PosteriorSampler

SOLVERS = sorted(path.stem for path in (Path(__file__).parents[2] / "solvers").glob("*.py") if path.stem[0] != "_")


def suitable_problem(Solver):
    """(problem, prior) of the first of ``CASES`` that suits; the test is skipped if there is none."""
    problem, prior, reason = find_suitable_problem(Solver)
    return (problem, prior) if problem else pytest.skip(reason)


@pytest.mark.parametrize("name", SOLVERS)
def test_result_does_not_depend_on_the_batch(name):
    Solver = import_module(f"solvers.{name}").Solver
    assert largest_difference(Solver, *suitable_problem(Solver)) <= TOLERANCE


@pytest.mark.parametrize("name", ["mgdm", "mgps", "exact_posterior"])
def test_result_given_a_label_does_not_depend_on_the_batch(name):
    Solver = import_module(f"solvers.{name}").Solver
    assert largest_difference(Solver, problem_of(*CASES[-1]), LABELLED) <= TOLERANCE


@pytest.mark.parametrize("name", ["mgdm", "dps", "daps", "pnp_dm"])
def test_result_in_latent_space_does_not_depend_on_the_batch(name):
    Solver = import_module(f"solvers.{name}").Solver
    (case,) = (case for case in CASES if case[0] is LATENT)
    assert largest_difference(Solver, problem_of(*case), LATENT) <= TOLERANCE


class CoupledNorm(PosteriorSampler):
    """Wrong on purpose: a norm over the whole batch."""

    name, test_config = "coupled_norm", {}

    def sample(self, problem, prior, rng):
        x = rng.randn(*prior.event_shape)
        return x / problem.residual(x).norm()


class GlobalNoise(PosteriorSampler):
    """Wrong on purpose: noise that belongs to no image."""

    name, test_config = "global_noise", {}

    def sample(self, problem, prior, rng):
        return torch.randn(len(problem.y), *prior.event_shape, dtype=prior.dtype)


@pytest.mark.parametrize("Solver", [CoupledNorm, GlobalNoise])
def test_a_coupled_solver_is_noticed(Solver):
    assert largest_difference(Solver, problem_of(*CASES[0]), SMALL) > TOLERANCE


class OutOfMemory(PosteriorSampler):
    """Needs more memory than there is for more than two images at once."""

    name, test_config = "out_of_memory", {}

    def sample(self, problem, prior, rng):
        x_hat = prior.denoise(rng.randn(*prior.event_shape), 500)
        if len(problem.images) > 2:
            raise torch.cuda.OutOfMemoryError("as a GPU would")
        return x_hat


def test_an_exhausted_gpu_halves_the_batch(capsys):
    problem = problem_of(*CASES[0])
    solver = OutOfMemory.get_instance()
    solver.set_objective(problem, SMALL, 1, 0)
    solver.run(None)
    result = solver.get_result()
    assert "out of GPU memory with 4 images at once, going on with 2" in capsys.readouterr().out
    assert result["nfe"] == 1 and result["samples"].shape == (4, 1, 8)
    torch.testing.assert_close(result["samples"], draw(OutOfMemory, problem, SMALL, 1, batch_size=1))
    with pytest.raises(torch.cuda.OutOfMemoryError, match="one image with n_samples=3 does not fit .* lower n_samples"):
        draw(OutOfMemory, problem, SMALL, 3)
