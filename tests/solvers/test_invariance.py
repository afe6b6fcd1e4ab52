"""Same image, same result, whatever the batch or the shard: every file of ``solvers/``, on closed forms in float64."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from deepinv.physics import DecomposablePhysics, Inpainting
from helpers import draw

from benchmark_utils.noise import GaussianNoise, LabelTilt
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.operators.label import ClassProbabilities
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities, count_observed
from benchmark_utils.sampler import PosteriorSampler

SOLVERS = sorted(path.stem for path in (Path(__file__).parents[2] / "solvers").glob("*.py") if path.stem[0] != "_")
SMALL = Prior("gaussian", (("dim", 8), ("correlation", 0.5)))
LATENT = Prior("gaussian_latent")
FACES = Prior("faces64_mfa")
LABELLED = Prior("labelled_mixture")
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


CASES = [  # prior, operator, task: a solver is tested on the first one that it does not skip
    (SMALL, svd_operator, "gaussian"),
    (SMALL, mask_operator, "random"),
    (LATENT, lambda: Inpainting(img_size=(5,), mask=torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64)), "random"),
    (FACES, lambda: inpainting("half", (3, 64, 64)).double(), "half"),
    (LABELLED, lambda: ClassProbabilities(LABELLED), "label"),
]


def problem_of(prior, make_operator, task):
    """Four images of very different size, or four labels, so that a coupled norm or step shows."""
    operator, noise = make_operator(), LabelTilt(3.0) if task == "label" else GaussianNoise(0.1)
    if task == "label":
        found = capabilities(operator, noise, prior)
        y = torch.eye(5, dtype=torch.float64)[[1, 3, 0, 2]]
        return InverseProblem(operator, noise, y, task, 5, (0, 1, 2, 3), capabilities=found)
    size = torch.tensor([0.3, 1.0, 2.0, 4.0], dtype=torch.float64).view(-1, *[1] * len(prior.signal_shape))
    generator = torch.Generator().manual_seed(1)
    y = operator.A(size * torch.randn(4, *prior.signal_shape, generator=generator, dtype=torch.float64))
    found = capabilities(operator, noise, prior)
    return InverseProblem(operator, noise, y, task, count_observed(operator, y), (0, 1, 2, 3), capabilities=found)


def suitable_problem(Solver):
    """(problem, prior) of the first of ``CASES`` that suits; the test is skipped if there is none."""
    for prior, make_operator, task in CASES:
        problem = problem_of(prior, make_operator, task)
        skipped, reason = Solver.get_instance(**(Solver.test_config or {})).skip(problem=problem, prior=prior)
        if not skipped:
            return problem, prior
    pytest.skip(reason)


def largest_difference(Solver, problem, prior):
    """Over the images, between one batch of four and batches of 1 and 2, two images in the other order, and halves."""

    def run(index, batch_size):
        parameters = Solver.test_config or {}
        return draw(Solver, problem.rows(index), prior, 1, batch_size=batch_size, **parameters)

    whole = run([0, 1, 2, 3], 4)
    others = {
        (0, 1, 2, 3): [run([0, 1, 2, 3], 1), run([0, 1, 2, 3], 2), torch.cat([run([0, 1], 4), run([2, 3], 4)])],
        (3, 1): [run([3, 1], 4)],
    }
    return max(float((x - whole[list(index)]).abs().max()) for index, runs in others.items() for x in runs)


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
    with pytest.raises(torch.cuda.OutOfMemoryError):
        draw(OutOfMemory, problem, SMALL, 3)
