"""Score one sampler from Python: ``evaluate`` takes a function or a solver, and a task; one row per image."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from benchopt import BaseDataset, BaseObjective, BaseSolver
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from benchopt.utils.run_context import RunContext
from torch import Tensor

from benchmark_utils.priors.base import LoadedPrior
from benchmark_utils.problem import InverseProblem
from benchmark_utils.provenance import ROOT
from benchmark_utils.rng import RNG
from benchmark_utils.sampler import PosteriorSampler


def evaluate(
    sampler: Callable[[InverseProblem, LoadedPrior, RNG], Tensor] | type[PosteriorSampler],
    dataset: str,
    n_samples: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    repetition: int = 0,
    **parameters: object,
) -> pd.DataFrame:
    """Draw posterior samples with ``sampler`` and score them as ``benchopt run`` would.

    Parameters
    ----------
    sampler : function ``(problem, prior, rng) -> x_0``, or a solver class
        The method, with the arguments and the result of :meth:`benchmark_utils.sampler.PosteriorSampler.sample`.
        It runs without gradients: open ``torch.enable_grad()`` where it differentiates.
    dataset : str
        One task as on benchopt's command line, such as ``"ffhq_inpainting[mask=half,n_images=2]"``.
    n_samples, batch_size : int or None
        Posterior samples per image (None: as the dataset says) and images at a time (None: all).
    seed, repetition : int
        Those of ``benchopt run --seed`` and of its repetitions: they select the measurements and the noise.
    parameters
        Of a solver class, such as ``n_steps=20``; the others are left to its presets.

    Returns
    -------
    rows : pandas.DataFrame
        One row per image; ``benchmark_utils.metrics.METRICS`` defines the scores.

    Raises ValueError if ``dataset`` is not exactly one task, or lacks its files or weights, or if the solver skips
    it or lacks a parameter.
    """
    benchmark = Benchmark(ROOT, seed=seed)
    data = _only_task(benchmark, dataset)
    objective = benchmark.get_benchmark_objective().get_instance(n_samples=n_samples, batch_size=batch_size)
    if isinstance(sampler, type) and issubclass(sampler, BaseSolver):
        solver_class: Any = sampler
    else:
        name = getattr(sampler, "__name__", "sampler")
        solver_class = type(name, (PosteriorSampler,), {"name": name, "sample": staticmethod(sampler)})
    if unknown := parameters.keys() - solver_class.parameters.keys():
        raise ValueError(
            f"{solver_class.name} has no {', '.join(sorted(unknown))}; its parameters: {list(solver_class.parameters)}"
        )
    solver = solver_class.get_instance(**parameters)
    RunContext().set_run_context(objective, data, solver, repetition, base_seed=seed)
    skipped, reason = objective._set_dataset(data)
    if not skipped:
        skipped, reason = solver.skip(**objective.get_objective())
    if skipped:
        raise ValueError(f"{data}: {reason}")
    return score(solver, objective)


def score(solver: PosteriorSampler, objective: BaseObjective) -> pd.DataFrame:
    """The rows of a solver for an objective that has drawn y, a pandas.DataFrame."""
    solver.set_objective(**objective.get_objective())
    solver.run(None)
    return pd.DataFrame(objective.evaluate_result(**solver.get_result()))


def objective_of(dataset: BaseDataset, seed: int = 0, **parameters: object) -> BaseObjective:
    """The objective after it has drawn y for a dataset; its seed is ``seed`` itself, benchopt hashes it."""
    objective = Benchmark(ROOT).get_benchmark_objective().get_instance(**parameters)
    objective.get_seed = lambda **_: seed
    objective.set_data(**dataset.get_data())
    return objective


def _only_task(benchmark: Benchmark, pattern: str) -> BaseDataset:
    classes = benchmark.check_dataset_patterns([pattern])
    found = [dataset for dataset, installed in _list_parametrized_classes(*classes) if installed]
    if len(found) != 1:
        names = "; ".join(map(str, found)) or "none that is installed"
        raise ValueError(f"{pattern!r} must be one task; it names {names}. Give its parameters in brackets")
    return found[0]
