"""The leaderboards of a run in the terminal, and whether every requested cell has its rows.

``python -m benchmark_utils.summary outputs/<run>.parquet [--expect configs/<config>.yml]`` exits 1 and names the
cells when a (dataset, solver) pair that the config asks for has no row. ``benchopt run`` itself ends with 0 as long
as one cell succeeds. Pairs that a solver or the objective skips with a reason are listed, they are no failure.
"""

import argparse
import sys
from pathlib import Path

import yaml
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from benchopt.results import read_results
from benchopt.utils.run_context import RunContext
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark_utils import results

ROOT = Path(__file__).parents[1]


def rich_table(table):
    """A :class:`benchmark_utils.results.Table` for the terminal."""
    shown = Table(title=Text(table.title), box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name in table.columns:
        shown.add_column(Text(name), justify="left" if name == "solver" else "right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in row))
    return shown


def print_leaderboards(df, console):
    """One table per task, as wide as it needs to be, and the definitions of all columns once."""
    definitions = {}
    for table in (results.leaderboard(df, task) for task in results.tasks(df)):
        shown = rich_table(table)
        needed = console.measure(shown, options=console.options.update(max_width=1000)).maximum
        console.width = max(console.width, needed)
        console.print(shown)
        for note in table.notes:
            console.print(Text(note, style="dim"), soft_wrap=True)
        console.print()
        definitions |= table.definitions
    for label, definition in definitions.items():
        console.print(Text(f"{label}: {definition}", style="dim"), soft_wrap=True)


def _instances(classes):
    """(instance, None) for each combination of parameters, (name, reason) where a package is missing."""
    for instance, installed in _list_parametrized_classes(*classes):
        yield instance, None if installed else "not installed: a package that it imports is missing"


def requested_cells(config):
    """(dataset, objective, solver, repetition, problem) for every cell of a run config.

    ``problem`` says why the cell cannot run, in which case a class that does not import is given by its name.
    """
    benchmark = Benchmark(ROOT)
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


def missing_cells(df, config):
    """(failures, skips) as lines of text: requested cells without a row, and those left out with a reason."""
    columns = ["dataset_name", "objective_name", "solver_name", "idx_rep"]
    present = set(df[columns].drop_duplicates().itertuples(index=False, name=None))
    failures, skips = [], []
    for dataset, objective, solver, repetition, problem in requested_cells(config):
        if (str(dataset), str(objective), str(solver), repetition) in present:
            continue
        where = f"{solver} on {dataset}, {objective}" + (f", repetition {repetition}" if repetition else "")
        reason = None if problem else skip_reason(dataset, objective, solver, repetition)
        if reason:
            skips.append(f"{where}: {reason}")
        else:
            failures.append(f"{where}: {problem or 'no row in the results; the output of the run says why'}")
    return failures, skips


def main(arguments=None):
    """Print the summary; return 1 if a requested cell is missing, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmark_utils.summary", description=__doc__.split("\n")[0])
    parser.add_argument("parquet", type=Path, help="results of a run, outputs/<run>.parquet")
    parser.add_argument("--expect", type=Path, metavar="CONFIG", help="the run's config; exit 1 if one cell is missing")
    options = parser.parse_args(arguments)
    for path in filter(None, (options.parquet, options.expect)):
        if not path.is_file():
            parser.error(f"{path} does not exist")
    console = Console()
    df = read_results(options.parquet)
    print_leaderboards(df, console)
    failures = []
    if options.expect:
        failures, skips = missing_cells(df, yaml.safe_load(options.expect.read_text()))
        for line in skips:
            console.print(Text(f"skipped: {line}"), soft_wrap=True)
        for line in failures:
            console.print(Text(f"missing: {line}", style="bold red"), soft_wrap=True)
    page = options.parquet.with_name(f"{Benchmark(ROOT).name}_{options.parquet.stem}.html")
    if page.exists():
        console.print(Text(f"page: {page.resolve()}"), soft_wrap=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
