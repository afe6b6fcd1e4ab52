"""What the objective makes of the image tasks: noise of the right size where a pixel is seen, and nowhere else."""

from importlib import import_module

import pytest
import torch
from helpers import problem_of

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
@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_one_are_refused(name, value):
    objective = import_module("objective").Objective.get_instance(**{name: value})
    with pytest.raises(ValueError, match=f"the objective's {name} must be 1 or more, got {value}"):
        objective.set_data(**import_module("datasets.ffhq_hdr").Dataset.get_instance().get_data())
