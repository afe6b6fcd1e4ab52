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
from benchmark_utils.metrics import DIVERGED
from benchmark_utils.provenance import ROOT

# dataset parameters that only choose which images, tracks or random problems are run: not part of a task
SHARD_PARAMETERS = r"(?:first|n_images|n_records|n_problems|seed)=[^,\]]*|tracks=\d[^,\]]*"
OBJECTIVE_OPTIONS = r"(?:batch_size|fid|keep)=[^,]*(?:,|$)"  # they change no sample
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


class CellNote(NamedTuple):
    """What is to be said of a cell; ``status``: without a row it is missing, or skipped on purpose; or it diverged."""

    dataset: str
    objective: str
    solver: str
    repetition: int
    reason: str
    status: str

    def __str__(self):
        where = f"{self.solver} on {self.dataset}, {self.objective}"
        return f"{self.status}: {where}{f', repetition {self.repetition}' if self.repetition else ''}: {self.reason}"


def _instances(classes):
    """(instance, None) for each combination of parameters, (name, reason) of a file that cannot be imported."""
    for chosen in classes:
        for instance, imported in _list_parametrized_classes(chosen):
            yield instance, None if imported else f"not imported: {describe(chosen[0]._exc)}"


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


def skip_reason(dataset, objective, solver, repetition, has_data=False):
    """Why benchopt leaves a cell out on purpose, None if it does not: the objective's and the solver's ``skip``.

    With ``has_data`` other cells of the dataset have rows: that its files are not on this machine is then no reason.
    """
    RunContext().set_run_context(objective, dataset, solver, repetition, base_seed=0)
    skipped, reason = objective._set_dataset(dataset)
    if skipped:
        return None if has_data else reason
    skipped, reason = solver.skip(**objective.get_objective())
    return reason if skipped else None


def _find_missing(df, outputs, asked):
    """A :class:`CellNote` per cell of ``asked`` without a row.

    ``asked`` gives (cell by names, what is wrong with it or None, function that returns why it is skipped or None).
    Whether a solver can do a task is asked once, not for every shard and repetition.
    """
    present = set(df[CELL].drop_duplicates().itertuples(index=False, name=None))
    reasons, found = {}, []
    for cell, problem, ask in asked:
        if cell in present:
            continue
        key = task_label(*cell[:2]), cell[2]
        attempt = problem or last_attempt(outputs, cell)
        if not attempt and key not in reasons:
            try:
                reasons[key] = ask()
            except Exception as error:  # of this dataset alone: the next shard of its task may be whole
                attempt = f"{NO_ROW}; asking here whether it is skipped gave {describe(error)}"
        reason = attempt or reasons[key]
        found.append(CellNote(*cell, reason or NO_ROW, "missing" if attempt or reason is None else "skipped"))
    return sorted(found, key=lambda note: note.status == "missing")


def diverged_cells(df):
    """A :class:`CellNote` per cell that drew samples far outside the range of the signals."""
    if "objective_diverged" not in df:
        return []
    shares = df.groupby(CELL, sort=False)["objective_diverged"].mean()
    return [
        CellNote(*cell, f"{share:.1%} of its draws are {DIVERGED} times outside the range of the signals", "diverged")
        for cell, share in shares[shares > 0].items()
    ]


def missing_cells(df, config, outputs):
    """A :class:`CellNote` per cell of a run config without a row, the missing ones last.

    ``outputs`` is the folder of the results.
    """
    asked = (
        ((*map(str, instances), repetition), problem, functools.partial(skip_reason, *instances, repetition))
        for *instances, repetition, problem in requested_cells(config)
    )
    return _find_missing(df, outputs, asked)


def missing_among_rows(df, outputs):
    """As :func:`missing_cells`, of every combination of the datasets, solvers and repetitions that rows name."""
    problems = df[CELL[:2]].drop_duplicates().itertuples(index=False, name=None)
    combinations = itertools.product(problems, df[CELL[2]].unique(), map(int, df[CELL[3]].unique()))
    named = ((*problem, solver, repetition) for problem, solver, repetition in combinations)
    return _find_missing(df, outputs, ((cell, None, functools.partial(_reason_by_names, *cell)) for cell in named))


def _reason_by_names(dataset_name, objective_name, solver_name, repetition):
    """The solver's own reason to skip, None if it has none or the names are those of another version."""
    benchmark = _benchmark()
    try:
        ((dataset, dataset_problem),) = _instances(benchmark.check_dataset_patterns([dataset_name]))
        ((objective, _),) = _instances(benchmark.check_objective_filters([objective_name]))
        ((solver, solver_problem),) = _instances(benchmark.check_solver_patterns([solver_name]))
    except click.BadParameter:
        return None
    if dataset_problem or solver_problem:
        return None
    return skip_reason(dataset, objective, solver, repetition, has_data=True)


def read_expected(path):
    """The run config at ``path``; raises one of ``BAD_REQUEST`` for unknown names or parameters."""
    config = yaml.safe_load(path.read_text())
    next(requested_cells(config), None)
    return config


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
