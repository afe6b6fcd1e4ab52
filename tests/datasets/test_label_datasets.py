"""The datasets whose measurement is a label: what they hand out, who runs on them, their scores, and bad input."""

from importlib import import_module

import numpy as np
import pytest
import torch
from helpers import ROOT

from benchmark_utils.evaluate import objective_of, score
from datasets.digits import Dataset as Digits
from datasets.labelled_mixture import Dataset as LabelledMixture

SOLVERS = sorted(path.stem for path in (ROOT / "solvers").glob("*.py"))
GUIDED = {"apg", "cfg", "cfgig", "cfgpp", "conditional_sample", "fkc", "pcg"}


def skipped(name, objective):
    solver = import_module(f"solvers.{name}").Solver.get_instance()
    return solver.skip(problem=objective.problem, prior=objective.prior)


@pytest.mark.parametrize("Dataset, extra", [(LabelledMixture, {"tilted_ideal"}), (Digits, set())])
def test_who_runs_on_a_label(Dataset, extra):
    objective = objective_of(Dataset.get_instance(n_problems=1))
    runs = {name for name in SOLVERS if not skipped(name, objective)[0]}
    assert runs == GUIDED | extra | {"exact_posterior", "mgdm", "mgps", "prior_sample"}
    assert "dps needs differentiable" in skipped("dps", objective)[1]


def test_guided_samplers_are_skipped_without_a_label():
    objective = objective_of(import_module("datasets.gaussian").Dataset.get_instance(n_problems=1))
    assert skipped("cfg", objective) == (True, "cfg needs labelled, which gaussian with gaussian has not")
    assert not skipped("mgdm", objective)[0]


@pytest.mark.parametrize(
    "Dataset, parameters, message",
    [
        (LabelledMixture, {"label": 5}, "unknown label 5; prior labelled_mixture has the labels 0 to 4"),
        (LabelledMixture, {"label": -1}, "unknown label -1"),
        (LabelledMixture, {"label": "cat"}, "unknown label 'cat'"),
        (LabelledMixture, {"label": 1.0}, "unknown label 1.0"),
        (Digits, {"label": True}, "unknown label True"),
        (LabelledMixture, {"weight": -1.0}, "weight must be a number of 0 or more, got -1"),
        (LabelledMixture, {"dim": 5}, "needs an even dimension, got dim=5"),
        (LabelledMixture, {"n_problems": 0}, "n_problems must be a whole number of 1 or more, got 0"),
        (Digits, {"label": 10}, "unknown label 10; prior digits has the labels 0 to 9"),
    ],
)
def test_bad_input_is_named(Dataset, parameters, message):
    with pytest.raises(ValueError, match=message):
        Dataset.get_instance(**parameters).get_data()


def test_rows_of_a_digit():
    objective = objective_of(Digits.get_instance(n_problems=2), n_samples=60)
    solver = import_module("solvers.conditional_sample").Solver.get_instance(n_steps=8)
    rows = score(solver, objective)
    assert next(iter(rows)) == "sliced_wasserstein" and len(rows) == 2
    assert (rows["class_accuracy"] > 0.6).all() and (rows["class_accuracy_floor"] > 0.8).all()
    balls = ("precision", "recall", "density", "coverage")
    for name in ("mode_tv", "mmd", "label_probability", "sliced_wasserstein", *balls):
        assert np.isfinite(rows[name]).all() and np.isfinite(rows[f"{name}_floor"]).all()
    assert rows["sliced_wasserstein"][0] != rows["sliced_wasserstein"][1]  # repetitions differ


def test_a_digit_is_stored_as_pictures():
    objective = objective_of(Digits.get_instance(label=3, n_problems=1), n_samples=5)
    solver = import_module("solvers.conditional_sample").Solver.get_instance(n_steps=4)
    solver.set_objective(**objective.get_objective())
    solver.run(None)
    result = solver.get_result()
    stored = objective.save_final_results(**result)
    assert stored["sample"].shape == stored["observation"].shape == (1, 8, 8, 1)
    assert stored["draws"].shape == (1, 4, 8, 8, 1)
    # the measurement is shown as a real 3
    picture = torch.from_numpy(stored["observation"]).double().movedim(-1, 1) / 127.5 - 1
    assert objective.problem.A(picture).argmax().item() == 3
