"""The cells (dataset, objective, solver, repetition) that a run was asked for, those without a row, and why."""

import functools
import itertools
import re
from pathlib import Path
from typing import NamedTuple

import click
import yaml
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from benchopt.utils.run_context import RunContext

from benchmark_utils.attempts import describe, last_attempt

# dataset parameters that only choose which images, tracks or random problems are run: not part of a task
SHARD_PARAMETERS = r"(?:first|n_images|n_problems|seed)=[^,\]]*|tracks=\d[^,\]]*"
OBJECTIVE_OPTIONS = r"(?:batch_size|fid)=[^,]*(?:,|$)"  # they change no sample
ROOT = Path(__file__).parents[2]
CELL = ["dataset_name", "objective_name", "solver_name", "idx_rep"]
OPTIONS = {"dataset": "dataset", "solver": "solver", "objective": "objective", "n_repetitions": "n-repetitions"}
NO_ROW = "no row in the results; the output of the run says why"
BAD_REQUEST = (click.ClickException, OSError, ValueError, yaml.YAMLError)  # options, files, names, parameters


@functools.cache
def _benchmark():
    return Benchmark(ROOT)


def output_folder():
    """Where benchopt writes the results of this benchmark."""
    return _benchmark().get_output_folder()


class Missing(NamedTuple):
    """A cell without a row; ``skipped`` if benchopt leaves it out on purpose."""

    dataset: str
    objective: str
    solver: str
    repetition: int
    reason: str
    skipped: bool

    def __str__(self):
        where = f"{self.solver} on {self.dataset}, {self.objective}"
        return f"{where}{f', repetition {self.repetition}' if self.repetition else ''}: {self.reason}"


def _instances(classes):
    """(instance, None) for each combination of parameters, (name, reason) where a package is missing."""
    for instance, installed in _list_parametrized_classes(*classes):
        yield instance, None if installed else "not installed: a package that it imports is missing"


def requested_cells(config):
    """(dataset, objective, solver, repetition, problem) for every cell of a run config.

    ``problem`` says why the cell cannot run, in which case a class that does not import is given by its name.
    """
    benchmark = _benchmark()
    datasets = benchmark.check_dataset_patterns(config.get("dataset"))
    solvers = benchmark.check_solver_patterns(config.get("solver"))
    objectives = benchmark.check_objective_filters(config.get("objective"))
    for dataset, dataset_problem in _instances(datasets):
        for objective, _ in _list_parametrized_classes(*objectives, check_installed=False):
            for solver, solver_problem in _instances(solvers):
                for repetition in range(config.get("n-repetitions") or 1):
                    yield dataset, objective, solver, repetition, dataset_problem or solver_problem


def skip_reason(dataset, objective, solver, repetition):
    """Why benchopt leaves a cell out on purpose, None if it does not: the objective's and the solver's ``skip``."""
    RunContext().set_run_context(objective, dataset, solver, repetition, base_seed=0)
    skipped, reason = objective._set_dataset(dataset)
    if not skipped:
        skipped, reason = solver.skip(**objective.get_objective())
    return reason if skipped else None


def missing_cells(df, config, outputs):
    """The cells of a run config without a row, each a :class:`Missing`; ``outputs`` is the folder of the results."""
    present = set(df[CELL].drop_duplicates().itertuples(index=False, name=None))
    reasons = {}  # whether a solver can do a task is asked once, not for every shard and repetition
    found = []
    for dataset, objective, solver, repetition, problem in requested_cells(config):
        cell = (str(dataset), str(objective), str(solver), repetition)
        if cell in present:
            continue
        attempt = problem or last_attempt(outputs, cell)
        if attempt:
            found.append(Missing(*cell, attempt, False))
            continue
        key = task_label(*cell[:2]), cell[2]
        if key not in reasons:
            try:
                reasons[key] = skip_reason(dataset, objective, solver, repetition)
            except Exception as error:  # of this dataset alone: the next shard of its task may be whole
                found.append(Missing(*cell, describe(error), False))
                continue
        found.append(Missing(*cell, reasons[key] or NO_ROW, reasons[key] is not None))
    return found


def read_expected(path, parser):
    """The run config at ``path``; one that asks for what does not exist is an error of the command line."""
    try:
        config = yaml.safe_load(path.read_text())
        next(requested_cells(config), None)
    except BAD_REQUEST as error:
        parser.error(f"{path}: {error}")
    return config


def missing_among_rows(df, outputs):
    """As :func:`missing_cells`, of every combination of the datasets, solvers and repetitions that rows name."""
    present = set(df[CELL].drop_duplicates().itertuples(index=False, name=None))
    problems = df[CELL[:2]].drop_duplicates().itertuples(index=False, name=None)
    reasons = {}
    found = []
    for problem, solver, repetition in itertools.product(problems, df[CELL[2]].unique(), df[CELL[3]].unique()):
        cell = (*problem, solver, int(repetition))
        if cell in present:
            continue
        attempt = last_attempt(outputs, cell)
        key = task_label(*problem), solver
        if not attempt and key not in reasons:
            reasons[key] = _reason_by_names(*cell)
        found.append(Missing(*cell, *((attempt, False) if attempt else reasons[key])))
    return found


def _reason_by_names(dataset_name, objective_name, solver_name, repetition):
    """(the solver's own reason to skip, True), or (what else is known of the cell, False).

    Names of another version cannot be asked. A dataset that raises here is told, and the page goes on.
    """
    benchmark = _benchmark()
    try:
        ((dataset, dataset_problem),) = _instances(benchmark.check_dataset_patterns([dataset_name]))
        ((objective, _),) = _instances(benchmark.check_objective_filters([objective_name]))
        ((solver, solver_problem),) = _instances(benchmark.check_solver_patterns([solver_name]))
        if dataset_problem or solver_problem:
            return NO_ROW, False
        RunContext().set_run_context(objective, dataset, solver, repetition, base_seed=0)
        if objective._set_dataset(dataset)[0]:
            return NO_ROW, False
        reason = solver.skip(**objective.get_objective())[1]
        return reason or NO_ROW, reason is not None
    except click.BadParameter:
        return NO_ROW, False
    except Exception as error:
        return f"{NO_ROW}; asking here whether it is skipped gave {describe(error)}", False


def command_line_request():
    """The run config of the ``benchopt run`` that this process is, None if it is another command."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run":
        return None
    path = context.params["config_file"]
    config = yaml.safe_load(Path(path).read_text()) if path else {}
    for name, key in OPTIONS.items():
        if context.get_parameter_source(name).name != "DEFAULT" or key not in config:
            config[key] = context.params[name]
    for key in ("dataset", "solver", "objective"):
        config[key] = [config[key]] if isinstance(config[key], str | dict) else list(config[key] or [])
    config["solver"] += context.params["force_solver"]
    return config


def task_label(dataset_name, objective_name):
    """The dataset with its parameters, but not those of a shard or left at None, and the objective's that are set."""
    left_out = rf"(?<=[\[,])({SHARD_PARAMETERS}|\w+=None)(,|(?=\]))"
    label = re.sub(left_out, "", dataset_name).replace(",]", "]").removesuffix("[]")
    shared = re.search(r"\[(.*)\]$", objective_name)
    chosen = re.sub(OBJECTIVE_OPTIONS, "", shared[1]).rstrip(",") if shared else ""
    return f"{label} {chosen}".rstrip()
