"""What the objective makes of the image tasks: noise of the right size where a pixel is seen, and nowhere else."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from helpers import problem_of

from benchmark_utils.evaluate import objective_of
from benchmark_utils.rng import PURPOSES, RNG
from datasets.gaussian import Dataset as Gaussian

POISSON = ["super_resolution", "deblurring", "denoising"]
TASKS = {  # dataset: its parameter, and the values
    "inpainting": ("mask", ["box", "half", "random"]),
    "super_resolution": ("factor", [4, 16]),
    "deblurring": ("blur", ["gaussian", "motion"]),
    "phase_retrieval": (None, [None]),
    "hdr": (None, [None]),
    "denoising": (None, [None]),
    "colorization": (None, [None]),
    "jpeg": ("codec", ["soft"]),
    "ct": ("angles", [10]),
    "mri": (None, [None]),
    "single_pixel": (None, [None]),
    "compressed_sensing": ("fraction", [0.02]),
}
CASES = [(name, parameter, value) for name, (parameter, values) in TASKS.items() for value in values]
PRIORS = ["faces64", "faces64_latent"]


def observed(name, parameter, value, **parameters):
    """The dataset, and the problem that the objective makes of it."""
    dataset = import_module(f"datasets.ffhq_{name}").Dataset
    dataset = dataset.get_instance(**({parameter: value} if parameter else {}) | parameters)
    return dataset.get_data()["x_true"].double(), problem_of(dataset)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name, parameter, value", CASES)
def test_misfit_of_the_truth_is_one(name, parameter, value, prior):
    x_true, problem = observed(name, parameter, value, prior=prior)
    assert problem.misfit(x_true) == pytest.approx(torch.ones(4).double(), abs=5 * (2 / problem.n_observed) ** 0.5)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", POISSON)
def test_misfit_of_the_truth_is_one_under_poisson_noise(name, prior):
    x_true, problem = observed(name, None, None, prior=prior, poisson_rate=0.05)
    assert problem.misfit(x_true).mean() == pytest.approx(1, abs=0.1)
    assert "gaussian" not in problem.capabilities


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("mask", ["box", "half", "random"])
def test_hidden_pixels_carry_no_noise(mask, prior):
    _, problem = observed("inpainting", "mask", mask, prior=prior)
    seen = problem.operator.mask.expand(problem.y.shape).bool()
    assert (problem.y[~seen] == 0).all() and (problem.y[seen] != 0).all()
    assert ("mask" in problem.capabilities) == (prior == "faces64")


@pytest.mark.parametrize("name", ["n_samples", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "two"])
def test_counts_below_one_are_refused(name, value):
    objective = import_module("objective").Objective.get_instance(**{name: value})
    with pytest.raises(
        ValueError, match=f"Posterior sampling: {name} must be a whole number of 1 or more, got {value!r}"
    ):
        objective.set_data(**import_module("datasets.ffhq_hdr").Dataset.get_instance().get_data())


def test_a_solver_cannot_rebuild_the_noise_of_y_from_its_seed():
    objective = objective_of(Gaussian.get_instance())
    seen = objective.get_objective()
    problem = seen["problem"]
    noise = (problem.y - problem.operator.A(objective.x_true)) / problem.noise.std

    def rebuild(seed, purpose):
        return RNG(seed, purpose, problem.task, problem.images, dtype=torch.float64).randn(*noise.shape[1:])

    torch.testing.assert_close(rebuild(objective.seed, "measurement"), noise)
    for purpose in PURPOSES:
        assert not torch.isclose(rebuild(seen["seed"], purpose), noise, rtol=1e-3).any()


@pytest.mark.parametrize(
    "where, message", [("x_true", "^problem 2 of"), ("operator", "^the operator of gaussian gives")]
)
def test_data_that_are_no_numbers_are_not_blamed_on_a_solver(where, message):
    data = Gaussian.get_instance().get_data()
    if where == "x_true":
        data["x_true"][2, 0] = torch.nan
    else:
        data["operator"].measure = lambda x: x / 0
    with pytest.raises(ValueError, match=f"{message} .* no finite numbers: mend"):
        objective_of(SimpleNamespace(get_data=lambda: data))
