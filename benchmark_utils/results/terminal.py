"""The tables of a run in the terminal, and whether every requested cell has its rows.

``benchopt run`` ends with 0 as long as one cell succeeds. Pairs of dataset and solver that a solver or the objective
skips with a reason are listed, they are no failure.
"""

from benchopt.benchmark import Benchmark
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark_utils.provenance import ROOT
from benchmark_utils.results import beside, scores, tables
from benchmark_utils.runs.cells import diverged_cells, missing_cells


def rich_table(table):
    """A :class:`benchmark_utils.results.tables.Table` for the terminal."""
    shown = Table(title=Text(table.title), box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for j, name in enumerate(table.columns):
        is_text = all(row[j].value is None for row in table.rows)
        shown.add_column(Text(name), justify="left" if is_text else "right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in row))
    return shown


def _tables(df, own):
    """Of every task the leaderboard, the paired differences of ``own``, and what samples and a closed form add."""
    for task in scores.tasks(df):
        yield tables.leaderboard(df, task)
        for solver in sorted(own.intersection(scores.rows_of(df, task)["solver_name"])):
            yield beside.differences(df, task, solver)
        if task in tables.samples_tasks(df):
            yield tables.samples(df, task)
        if task in tables.exactness_tasks(df):
            yield tables.exactness(df, task)


def print_table(table, console):
    """A table, as wide as it needs to be, and how to read it."""
    shown = rich_table(table)
    needed = console.measure(shown, options=console.options.update(max_width=1000)).maximum
    console.width = max(console.width, needed)
    console.print(shown)
    for note in table.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)


def print_tables(df, console, own=frozenset()):
    """The tables of all tasks, as wide as it needs to be, and the definitions of all columns once."""
    definitions = {}
    for table in _tables(df, own):
        print_table(table, console)
        console.print()
        definitions |= table.definitions
    for label, definition in definitions.items():
        console.print(Text(f"{label}: {definition}", style="dim"), soft_wrap=True)


def print_results(path, config, reference=None):
    """Print the tables of the results at ``path`` and which cells of a run config, if given, they lack.

    With ``reference``, rows of other solvers, the results are compared with these. Returns 1 if a requested cell is
    missing, else 0.
    """
    console = Console()
    df = scores.read_file(path)
    if reference is None:
        print_tables(df, console)
    else:
        rows, own, warnings = beside.compare(df, reference)
        print_tables(rows, console, own)
        for warning in warnings:
            console.print(Text(warning, style="bold"), soft_wrap=True)
    notes = [*(missing_cells(df, config, path.parent) if config else []), *diverged_cells(df)]
    for note in notes:
        console.print(Text(str(note), style="" if note.status == "skipped" else "bold red"), soft_wrap=True)
    page = path.with_name(f"{Benchmark(ROOT).name}_{path.stem}.html")
    if page.exists():
        console.print(Text(f"page: {page.resolve()}"), soft_wrap=True)
    return 1 if any(note.status == "missing" for note in notes) else 0
