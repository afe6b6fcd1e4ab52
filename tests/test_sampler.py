"""What the base class checks of a solver: its class, its presets, the values of its parameters."""

import math
import re
from importlib import import_module

import pytest
import torch
from helpers import draw, fingerprint_problem
from test_invariance import SOLVERS

from benchmark_utils.checks.solver import FAMILIES, resolve_everywhere
from benchmark_utils.evaluate import evaluate
from benchmark_utils.particles import Particles
from benchmark_utils.sampler import PosteriorSampler

CLASSES = {name: import_module(f"solvers.{name}").Solver for name in SOLVERS}


class UnloadedPrior:
    family, name, is_latent = "gaussian", "unloaded", False

    def load(self, device):
        raise AssertionError("loaded before the parameters were checked")


def refuse(Solver, message, **parameters):
    """The parameters are refused with the message, before anything is loaded."""
    with pytest.raises(ValueError, match=message):
        Solver.get_instance(**parameters).set_objective(fingerprint_problem()[0], UnloadedPrior(), 1, 0)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_preset_is_complete_allowed_and_about_a_parameter(name, family):
    resolve_everywhere(CLASSES[name], family)


@pytest.mark.parametrize("name, option", [(name, option) for name in SOLVERS for option in CLASSES[name].choices])
def test_an_unknown_option_is_refused(name, option):
    refuse(CLASSES[name], f"^{name}: {option} must be .* got 'exakt'", **{option: "exakt"})


@pytest.mark.parametrize(
    "name, parameter, value, expected",
    [
        ("dps", "n_steps", 10.5, "a whole number of 1 or more"),
        ("dps", "n_steps", "20", "a whole number of 1 or more"),
        ("dps", "n_steps", 0, "a whole number of 1 or more"),
        ("dps", "n_steps", True, "a whole number of 1 or more"),
        ("dps", "n_steps", math.inf, "a whole number of 1 or more"),
        ("dps", "zeta", -0.5, "a number of 0 or more"),
        ("dps", "zeta", math.nan, "a number of 0 or more"),
        ("dps", "zeta", math.inf, "a number of 0 or more"),
        ("ddnm", "eta", 1.5, "a number from 0 to 1"),
        ("daps", "tau", "nose", "'noise' or a number of 0 or more"),
        ("mgdm", "n_steps", 3, "a whole number of 4 or more"),
        ("mgdm", "gradient_steps", 1, "2 whole numbers of 0 or more"),
        ("mgdm", "gradient_steps", (1, 2, 3), "2 whole numbers of 0 or more"),
        ("mgdm", "gradient_steps", (1, 2.5), "2 whole numbers of 0 or more"),
        ("msdm", "source", 4, "a whole number from 0 to 3"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(name, parameter, value, expected):
    refuse(CLASSES[name], rf"^{name}: {parameter} must be {expected}, got ", **{parameter: value})


def test_a_pair_that_benchopt_took_for_two_values_is_explained():
    refuse(CLASSES["mgdm"], r"got 1; write gradient_steps=\[\[5, 20\]\]", gradient_steps=1)


@pytest.mark.parametrize(
    "name, parameter, value, found",
    [
        ("dps", "n_steps", 10.0, 10),
        ("dps", "zeta", 1, 1.0),
        ("mgdm", "gradient_steps", [1, 2.0], (1, 2)),
        ("mgdm", "long_every", 0, 0),
        ("daps", "tau", "noise", "noise"),
        ("daps", "clamp", math.inf, math.inf),
        ("resample", "tolerance", 1e-3, 1e-3),
    ],
)
def test_a_value_takes_the_type_of_its_preset(name, parameter, value, found):
    solver = CLASSES[name].get_instance(**{parameter: value})
    solver.resolve_presets("gaussian", "gaussian")
    resolved = getattr(solver, parameter)
    assert resolved == found and type(resolved) is type(found)
    if isinstance(found, tuple):
        assert all(type(number) is int for number in resolved)


def test_order_of_the_presets():
    order = [("ffhq", "sr8"), ("ffhq", "sr*"), ("ffhq", "*"), ("*", "sr8"), ("*", "sr*"), ("*", "*")]
    presets = {key: {"value": float(i)} for i, key in enumerate(order)}
    for i in range(len(order)):
        members = {"name": "ordered", "parameters": {"value": [None]}, "PRESETS": dict(list(presets.items())[i:])}
        solver = type("Solver", (PosteriorSampler,), members).get_instance()
        solver.resolve_presets("ffhq", "sr8")
        assert solver.value == i


def test_a_preset_of_a_group_is_for_the_name_without_a_number_too():
    solver = CLASSES["diffpir"].get_instance()
    for task in ("random", "random50"):
        solver.resolve_presets("ffhq", task)
        assert solver.zeta == 1.0


def test_a_need_that_is_no_capability_is_an_error():
    with pytest.raises(ValueError, match="misspelt: needs has lineer, which is no capability; known: .*linear"):
        type("Solver", (PosteriorSampler,), {"name": "misspelt", "needs": {"lineer", "svd"}})


def old_sampler(problem, prior, noise):
    return noise.normal(*prior.event_shape)


def test_a_sampler_with_the_old_argument_is_told_the_new_one():
    message = "rename the third argument of sample from noise to rng.* noise.normal is now rng.randn, noise.uniform"
    with pytest.raises(TypeError, match=f"old: {message}"):
        type("Solver", (PosteriorSampler,), {"name": "old", "sample": lambda self, problem, prior, noise: None})
    with pytest.raises(TypeError, match=f"old_sampler: {message}"):
        evaluate(old_sampler, "gaussian[n_problems=1]")


def test_particles_without_weights_are_an_error():
    class Lost(PosteriorSampler):
        name = "lost"

        def sample(self, problem, prior, rng):
            particles = Particles(rng, len(problem.images))
            particles.systematic(torch.full((len(problem.images),), -torch.inf, dtype=torch.float64))
            self.ess = particles.ess_per_image(1)
            return rng.randn(*prior.event_shape)

    with pytest.raises(FloatingPointError, match="lost, images 1-1 of 1: the weights of the particles"):
        draw(Lost, *fingerprint_problem(), 2)


def test_steps_are_the_neighbouring_pairs():
    class Steps(PosteriorSampler):
        name = "steps"

        def sample(self, problem, prior, rng):
            assert list(self.steps([9, 4, 0])) == [(9, 4), (4, 0)]
            return rng.randn(*prior.event_shape)

    assert draw(Steps, *fingerprint_problem(), 2).shape == (1, 2, 3)


@pytest.mark.parametrize(
    "result, given",
    [
        (lambda x: x.numpy(), "a ndarray"),
        (lambda x: None, "a NoneType"),
        (lambda x: x[:1], "a tensor (1, 3) of torch.float64 on cpu"),
        (lambda x: x.unsqueeze(1), "a tensor (2, 1, 3) of torch.float64 on cpu"),
        (lambda x: x.float(), "a tensor (2, 3) of torch.float32 on cpu"),
        (lambda x: x.to("meta"), "a tensor (2, 3) of torch.float64 on meta"),
    ],
)
def test_what_is_no_sample_is_refused(result, given):
    members = {"name": "mine", "sample": lambda self, problem, prior, rng: result(rng.randn(*prior.event_shape))}
    message = f"mine: sample must return a tensor (2, 3) of torch.float64 on cpu, not {given}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        draw(type("Solver", (PosteriorSampler,), members), *fingerprint_problem(), 2)
