"""``benchopt run`` for long and distributed runs: it accounts for every requested cell.

``python -m benchmark_utils run`` takes the arguments that follow ``benchopt run .`` and does the same, but

* a run that breaks off (Ctrl-C, a killed worker) still ends with a result file and a page of the finished cells;
* the cells without rows are listed with the reason, and those whose samples diverged;
* it exits with 1 if a requested cell has no rows, unless ``--allow-failures`` is given: ``benchopt run`` exits with 0
  as long as one cell succeeds. Cells that a solver or the objective skips with a reason are no failure, but a run
  in which every cell was skipped is;
* a dataset that raises fails its own cells: ``benchopt run`` would stop there;
* on SLURM, a job that dies is a failed cell: ``benchopt run`` would cancel all other jobs.

The same command again runs the missing cells only.
"""

import contextlib
import traceback
from datetime import datetime
from pathlib import Path

import click
import pandas as pd
import yaml
from benchopt import _generate_runs
from benchopt.cli.main import run as benchopt_run
from benchopt.results import read_results
from benchopt.results.files_utils import uniquify_fname

from benchmark_utils.attempts import record_failure
from benchmark_utils.runs.cells import CELL, command_line_request, diverged_cells, missing_cells, requested_cells

INTERRUPTED = 130  # exit code of shells after Ctrl-C


def read_request(arguments):
    """What follows ``benchopt run .`` as (arguments of benchopt, run config, path of the results, parallel backend).

    Raises one of ``BAD_REQUEST`` for unknown names, parameters or files, and if results cannot be written.
    """
    arguments = arguments if arguments[:1] == ["."] else [".", *arguments]
    with benchopt_run.make_context("run", list(arguments)) as context:
        request = command_line_request()

    def option(name):
        given = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        return context.params[name] if given else request.get(name.replace("_", "-"), context.params[name])

    name = option("output")
    if name == "None":
        name = f"benchopt_run_{datetime.now():%Y-%m-%d_%Hh%Mm%S}"
    path = Path(name) if "/" in name else Path("outputs", name)
    parallel = option("parallel_config")
    backend = yaml.safe_load(Path(parallel).read_text())["backend"] if parallel else None
    next(requested_cells(request), None)
    path = uniquify_fname(path.with_suffix(".parquet"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return [*arguments, "--output", str(path)], request, path, backend


def survive_broken_datasets():
    """Make benchopt go on when a dataset raises."""
    get_solver_kwargs = _generate_runs.get_solver_kwargs

    def survivors(solver, terminal, **kwargs):
        try:
            yield from get_solver_kwargs(solver=solver, terminal=terminal, **kwargs)
        except Exception as error:
            traceback.print_exc()
            record_failure(solver, error)
            terminal.show_status("error")

    _generate_runs.get_solver_kwargs = survivors


class DeadJob:
    """Stands for a SLURM job that ended without a result: a failed cell, as benchopt's runner returns one."""

    def __init__(self, job):
        meta = job.submission().kwargs["meta"]
        self._cell = meta["dataset_name"], meta["objective_name"], meta["solver_name"]

    def exception(self):
        return None

    def results(self):
        return [([], self._cell, "error", "")]


def survive_dead_jobs():
    """Make benchopt go on when a SLURM job dies."""
    from benchopt.parallel_backends import slurm_executor  # imports submitit, which is optional

    as_completed = slurm_executor.as_completed

    def survivors(jobs):
        for job in as_completed(jobs):
            error = job.exception()
            if error is not None:
                print(error)
            yield job if error is None else DeadJob(job)

    slurm_executor.as_completed = survivors


def account(arguments, request, path):
    """Collect what is finished if the run broke off; list cells to note, and return how many are missing."""
    if not path.exists():
        with contextlib.suppress(SystemExit):  # benchopt exits if no cell is finished
            benchopt_run.main([*arguments, "--collect"], prog_name="run", standalone_mode=False)
    rows = read_results(path) if path.exists() else pd.DataFrame(columns=CELL)
    notes = [*missing_cells(rows, request, path.parent), *diverged_cells(rows)]
    print(*notes, sep="\n", end="\n" if notes else "")
    return sum(note.status == "missing" for note in notes)


def run_and_account(arguments, request, path, backend, allow_failures):
    """Run what :func:`read_request` has read, account for the cells, and return the exit code."""
    survive_broken_datasets()
    if backend == "submitit":
        survive_dead_jobs()
    interrupted, exit_code = False, 0
    try:
        benchopt_run.main(arguments, prog_name="run", standalone_mode=False)
    except click.Abort:
        interrupted = True
    except SystemExit as ended:
        exit_code = ended.code
    finally:
        n_failed = account(arguments, request, path)
    if interrupted:
        print("Interrupted. The same command runs the missing cells.")
        return INTERRUPTED
    if path.exists() and exit_code:  # benchopt wrote the results but could not draw the page
        return exit_code
    if not path.exists() and not n_failed:
        print("Every cell was skipped: a run without results is a failure, unless --allow-failures is given.")
    return 0 if allow_failures or path.exists() and not n_failed else 1
