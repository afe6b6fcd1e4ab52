"""Same image, same result, whatever the batch or the shard: small closed-form problems on which a solver shows it."""

import torch
from deepinv.physics import DecomposablePhysics, Inpainting

from benchmark_utils.noise import GaussianNoise, LabelTilt
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.operators.label import ClassProbabilities
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities, count_observed

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


def find_suitable_problem(Solver):
    """(problem, prior, None) of the first of ``CASES`` that suits, (None, None, why the last one does not) else."""
    for prior, make_operator, task in CASES:
        problem = problem_of(prior, make_operator, task)
        skipped, reason = Solver.get_instance(**(Solver.test_config or {})).skip(problem=problem, prior=prior)
        if not skipped:
            return problem, prior, None
    return None, None, reason


def draw(Solver, problem, prior, n_draws, seed=0, batch_size=None, **parameters):
    """Samples (n_images, n_draws, *event) of a solver class with the given parameters, the others from its presets."""
    solver = Solver.get_instance(**parameters)
    solver.set_objective(problem, prior, n_draws, seed, batch_size)
    solver.run(None)
    return solver.get_result()["samples"]


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
