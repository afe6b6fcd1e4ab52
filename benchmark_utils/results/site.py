"""The static site of finished rows: overall ranking, a page per task and per method, exactness, how to add yours.

It shows the tables, charts and pictures of the report, and loads nothing from elsewhere.
"""

import html
import importlib
from typing import NamedTuple

import pandas as pd

from benchmark_utils.files.paths import write_atomically
from benchmark_utils.problem import CAPABILITIES
from benchmark_utils.provenance import ROOT
from benchmark_utils.results import beside, calibration, report, scores, tables
from benchmark_utils.results.docstrings import Paper, read_paper
from benchmark_utils.results.export import name_of
from benchmark_utils.results.tables import MISSING, Cell, Table

REPOSITORY = "https://github.com/benchopt/benchmark_diffusion_posterior"
TITLE = "Posterior samplers with diffusion priors"
PAGES = {
    "index.html": "Ranking",
    "tasks.html": "Tasks",
    "methods.html": "Methods",
    "exactness.html": "Exactness and calibration",
    "add.html": "Add yours",
}
INTRODUCTION = (
    "Given a pretrained diffusion prior and a measurement y = A(x) + noise, which training-free sampler draws from the "
    "posterior best, and at what cost? The methods of a task meet the same prior, measurements, seeds and metrics, "
    "except where a warning says otherwise. LPIPS, SI-SDRi and CRPS compare with the truth: they say who is near it, "
    "not who draws from the posterior. Where that is known, sliced W1 does, and mean error with the variance ratio. "
    "Exact draws and oracles are not ranked, baselines are. Parameters in brackets differ from a "
    "method's own, often to cost less. Seconds are on the pages of the tasks; those of different runs do not compare."
)
MARK = '<span class="links" id="pages-of-the-site">'  # in every page, so that no other is removed
REFERENCES = (tables.FLOOR, calibration.NOMINAL)  # rows of these tables that are no solver


class Method(NamedTuple):
    """What the site says of a solver's file; ``solver_class`` is None where ``solvers`` has no file of that name."""

    name: str
    solver_class: type | None
    docstring: str
    paper: Paper
    variants: list[str]


def read_methods(df):
    """A :class:`Method` for every name of a solver in the rows, in alphabetical order."""
    methods = []
    for name in sorted({solver.split("[")[0] for solver in df["solver_name"]}):
        variants = [solver for solver in df["solver_name"].unique() if solver.split("[")[0] == name]
        rows = df[df["solver_name"] == variants[0]]
        solver_class, docstring = None, ""
        if (ROOT / "solvers" / f"{name}.py").is_file():
            solver_class = importlib.import_module(f"solvers.{name}").Solver
            docstring = solver_class.__doc__
        elif "solver_description" in rows and rows["solver_description"].notna().any():
            docstring = rows["solver_description"].dropna().iloc[0]
        methods.append(Method(name, solver_class, docstring, read_paper(docstring), variants))
    return methods


def task_page(task):
    return f"task_{name_of(task)}.html"


def method_page(name):
    return f"method_{name_of(name)}.html"


def find_links(df, methods):
    """``{text of a table's cell: page}`` for tasks, methods and solvers, also where these are marked as diverged."""
    links = {task: task_page(task) for task in scores.tasks(df)}
    for method in methods:
        texts = [method.name, *method.variants, *(f"{name} (diverged)" for name in method.variants)]
        links |= dict.fromkeys(texts, method_page(method.name))
    return links


def tasks_table(boards, df):
    """Every task with its images and its best solver; ``boards`` is ``{task: leaderboard}``."""
    body = []
    for number, (task, board) in enumerate(boards.items(), 1):
        rows = scores.rows_of(df, task)
        n = max(scores.counts(scores.scores(rows)).values())
        best = next((row for row in board.rows if row[0].text == "1"), None)
        named = (best[1], Cell(f"{board.columns[2]} {best[2].text}")) if best else (Cell(MISSING), Cell(MISSING))
        n_solvers = Cell(str(len(board.rows)), len(board.rows))
        body.append([Cell(str(number), number), Cell(task), Cell(f"{n} {scores.unit_of(rows)}", n), n_solvers, *named])
    return Table("tasks", [], {}, ["#", "task", "of", "solvers", "best", "its score"], body)


def methods_table(methods, boards):
    """Every method with its paper, what it needs, and on how many tasks it has rows."""
    body = []
    for number, method in enumerate(methods, 1):
        needs = sorted(method.solver_class.needs) if method.solver_class else []
        n_tasks = sum(any(solver in method.variants for solver in solvers_of(board)) for board in boards.values())
        paper = method.paper
        cells = [Cell(method.name), Cell(paper.title or MISSING), Cell(paper.venue or MISSING)]
        cells += [Cell(", ".join(needs) or MISSING), Cell(str(n_tasks), n_tasks)]
        body.append([Cell(str(number), number), *cells])
    return Table("methods", [], {}, ["#", "method", "paper", "venue", "needs", "tasks"], body)


def solvers_of(board):
    """Names of the solvers of a table, without the mark of those that diverged."""
    return [row[1].text.removesuffix(" (diverged)") for row in board.rows]


def laws_of_method(df, method):
    """(what it is, table) of :func:`known_laws`, rows of one method only, tasks of equal columns and notes together."""
    found = {}
    for heading, task, table in known_laws(df):
        rows = dict(zip(solvers_of(table), table.rows, strict=True))
        own = [solver for solver in rows if solver in method.variants]
        shown = [solver for solver in rows if solver in (*own, *REFERENCES)] if own else []
        body = [[Cell(task), *rows[solver][1:]] for solver in shown]
        columns = ["task", *table.columns[1:]]
        joined = Table(heading, table.notes, table.definitions, columns, [], table.origin)
        found.setdefault((heading, *columns, *table.notes, table.origin), joined).rows.extend(body)
    return [(heading, table) for (heading, *_), table in found.items() if table.rows]


def ranks_table(df, method, boards):
    """Rank, headline score and cost of a method on every task that it ran."""
    body = []
    for task, board in boards.items():
        rows = scores.rows_of(df, task)
        competitors = scores.ranked(rows)
        for row, solver in zip(board.rows, solvers_of(board), strict=True):
            if solver not in method.variants:
                continue
            rank = Cell("not ranked")
            if solver in competitors:
                rank = Cell(f"{row[0].text} of {len(competitors)}", row[0].value)
            costs = {name: cell for name, cell in zip(board.columns, row, strict=True)}
            named = [scores.metric(name).label for name in scores.COSTS[:3]]
            origin = rows[rows["solver_name"] == solver]
            commits = [] if "objective_git_commit" not in rows else origin["objective_git_commit"].dropna().unique()
            score = Cell(f"{board.columns[2]} {row[2].text}")
            cells = [Cell(task), row[1], rank, score, *(costs.get(label, Cell(MISSING)) for label in named)]
            body.append([*cells, Cell(", ".join(map(beside.short_commit, commits)) or MISSING)])
    columns = [
        "task",
        "solver",
        "rank",
        "headline",
        *(scores.metric(name).label for name in scores.COSTS[:3]),
        "commit",
    ]
    return Table("ranks", [], tables.define(scores.COSTS[:3]), columns, body)


def settings_table(df, method):
    """The value of every parameter in the rows of a method, and the tasks that have it."""
    rows = df[df["solver_name"].isin(method.variants)]
    body = [
        [Cell(solver), Cell(settings), Cell(", ".join(scores.tasks(group)))]
        for (solver, settings), group in rows.groupby(["solver_name", "objective_settings"], sort=False)
    ]
    return Table("settings", [], {}, ["solver", "settings", "tasks"], body)


def presets_table(solver_class):
    """The settings of a solver's file, by family of the prior and task."""
    names = list(solver_class.parameters)
    body = [
        [Cell(family), Cell(task), *(Cell(str(preset[name]) if name in preset else "") for name in names)]
        for (family, task), preset in solver_class.PRESETS.items()
    ]
    note = (
        "* is any, sr* the group of sr8; a parameter takes its first value of (family, task), (family, group), "
        "(family, *), (*, task), (*, group), (*, *); before these (preset, family or task), if a preset is named"
    )
    return Table("presets", [note], {}, ["family of the prior, or preset", "task, or family", *names], body)


def method_parts(df, method, boards, links):
    """Everything about one method."""
    paper = method.paper
    named = ", ".join(html.escape(text) for text in (paper.authors, paper.venue) if text)
    yield f"<p>{named}</p>" if named else ""
    addresses = {"paper": paper.url}
    if method.solver_class:
        addresses["code"] = f"{REPOSITORY}/blob/main/solvers/{method.name}.py"
    shown = (f'<a href="{html.escape(url)}">{name}</a>' for name, url in addresses.items() if url)
    yield f'<p class="links">{"".join(shown)}</p>'
    if method.solver_class:
        needs = sorted(method.solver_class.needs)
        items = "".join(f"<li><b>{name}</b>: {html.escape(CAPABILITIES[name])}</li>" for name in needs)
        yield f"<h3>What it needs</h3>{f'<ul>{items}</ul>' if needs else '<p>Nothing of the task.</p>'}"
    yield f"<h3>Rank and cost on each task</h3>{report.table_html(ranks_table(df, method, boards), links)}"
    if "objective_settings" in df:
        yield f"<h3>Settings of these rows</h3>{report.table_html(settings_table(df, method), links)}"
    for heading, table in laws_of_method(df, method):
        yield f"<h3>{heading}</h3>{report.table_html(table, links)}"
    if method.solver_class and method.solver_class.PRESETS:
        yield f"<h3>Presets</h3>{report.table_html(presets_table(method.solver_class))}"
    yield f"<h3>Method and departures</h3><pre>{html.escape(clean(method.docstring))}</pre>"


def clean(docstring):
    """A docstring without its indentation."""
    first, _, rest = docstring.strip().partition("\n")
    return "\n".join([first, *(line.removeprefix("    ") for line in rest.splitlines())])


@scores.once_per_frame
def known_laws(df):
    """[(what it is, task, table)]: exactness where the law is known, several samples per image, calibration."""
    views = {
        "Exactness": (tables.exactness_tasks(df), tables.NO_CLOSED_FORM, tables.exactness),
        "Several samples": (tables.samples_tasks(df), tables.ONE_SAMPLE, tables.samples),
        "Calibration": (calibration.calibration_tasks(df), calibration.ONE_DRAW, calibration.calibration_table),
    }
    return [
        (heading, task, table(df, task))
        for heading, (found, placeholder, table) in views.items()
        for task in found
        if task != placeholder
    ]


def add_parts():
    """How a method gets into the tables."""
    template = (ROOT / "examples" / "template_solver.py").read_text(encoding="utf-8")
    commands = (
        f"git clone {REPOSITORY} && cd benchmark_diffusion_posterior\nmake .venv && . .venv/bin/activate\n"
        "cp examples/template_solver.py my_sampler.py    # write your method into it\n"
        "python -m benchmark_utils check my_sampler.py\n"
        'benchopt run . -s my_sampler.py -d "ffhq_inpainting[mask=half,n_images=8]" --output mine --no-plot\n'
        "python -m benchmark_utils report outputs/mine.parquet --beside results/"
    )
    yield (
        "<p>A method is one file. <code>check</code> says what passes: docstring, length, presets, the same result in "
        "every batch, no wait for a GPU, and the distance to posteriors that are known. <code>report --beside</code> "
        "shows it among the methods of this site on the same images, measurements and seeds, with paired differences."
        f"</p><pre>{html.escape(commands)}</pre><p>A pull request that adds the file to <code>solvers/</code> is run "
        "on the closed forms and on two faces, and its table is posted there. More: "
        f'<a href="{REPOSITORY}/blob/main/docs/add_a_sampler.md">Add a sampler</a>, '
        f'<a href="{REPOSITORY}/blob/main/CONTRIBUTING.md">Contribute</a>.</p>'
        f"<h3>The template, complete</h3><pre>{html.escape(template)}</pre>"
    )


def rankings(df, links):
    """``{id: (heading, parts)}``: mean ranks for each unit and headline score, the kind of most rows first."""
    kinds = {}
    for task in scores.tasks(df):
        rows = scores.rows_of(df, task)
        kinds.setdefault((scores.unit_of(rows), scores.metric(scores.headline(rows)).label), []).append(rows)
    found = []
    for (unit, score), rows in sorted(kinds.items(), key=lambda kind: -sum(map(len, kind[1]))):
        compared = report.overall_parts(pd.concat(rows), links)
        several = {label: parts for label, parts in compared.items() if not label.startswith("1 task,")}
        found += [(f"{unit} by {score}: {label}", parts) for label, parts in (several or compared).items()]
    return {f"ranking{number}": section for number, section in enumerate(found)}


def build_pages(df):
    """``{file name: text}`` of the whole site."""
    methods = read_methods(df)
    links = find_links(df, methods)
    boards = {task: tables.leaderboard(df, task) for task in scores.tasks(df)}
    facts = "; ".join(f"{name}: {value}" for name, value in scores.facts(df).items())

    def page(name, title, sections, introduction=""):
        line = "".join(
            f'<a href="{other}"{" aria-current=page" if other == name else ""}>{text}</a>'
            for other, text in PAGES.items()
        )
        return report.page_html(title, introduction, sections, f"{MARK}{line}</span>")

    laws = {}
    for heading, task, table in known_laws(df):
        part = f"<h3>{heading}</h3>{report.table_html(table, links)}"
        laws.setdefault(task, []).append(part)
    laws = laws or {"no known law": ["<p>No task of these rows has a closed form or several samples per image.</p>"]}
    warnings = {task: beside.mixed_data(scores.rows_of(df, task)) for task in boards}
    mixed = [f"{task}: {text}" for task, found in warnings.items() for text in found]
    mixed = report.warnings_html([*mixed, *beside.changes_of_solvers(df)])
    origin = f"<details><summary>Versions, commits and weights</summary>{html.escape(facts)}</details>"
    introduction = f'<p>{INTRODUCTION} Click a heading to sort.</p>{mixed}<p class="note">{origin}</p>'
    absent = sorted({path.stem for path in (ROOT / "solvers").glob("*.py")} - {method.name for method in methods})
    without = f'<p class="note">without rows here: {", ".join(absent)}</p>' if absent else ""
    tasks_html = report.table_html(tasks_table(boards, df), links)
    methods_html = report.table_html(methods_table(methods, boards), links) + without
    pages = {
        "index.html": page("index.html", TITLE, rankings(df, links), introduction),
        "tasks.html": page("tasks.html", "Tasks", {"tasks": ("All tasks", [tasks_html])}),
        "methods.html": page("methods.html", "Methods", {"methods": ("All methods", [methods_html])}),
        "exactness.html": page(
            "exactness.html", PAGES["exactness.html"], {f"task{i}": found for i, found in enumerate(laws.items())}
        ),
        "add.html": page("add.html", "Add yours", {"add": ("A method is one file", add_parts())}),
    }
    for task in boards:
        parts = report.task_parts(df, task, links=links)
        shown = {"task": ("Scores and costs", parts)}
        pages[task_page(task)] = page(task_page(task), task, shown, report.warnings_html(warnings[task]))
    for method in methods:
        parts = method_parts(df, method, boards, links)
        name = method_page(method.name)
        pages[name] = page(name, method.name, {"method": (method.paper.title or method.name, parts)})
    return pages


def write_site(folder, output):
    """Write the site of all rows of a folder, or of a results file, to the folder ``output``, and print its address.

    Pages of an earlier site there are removed. Raises BadResults if there are no rows, FileExistsError if ``output``
    holds something and no site: what is removed are pages that this function wrote.
    """
    df = beside.read_rows(folder)
    older = sorted(output.iterdir()) if output.exists() else []
    foreign = [path.name for path in older if path.suffix != ".html" or MARK not in path.read_text("utf-8", "replace")]
    if foreign:
        raise FileExistsError(
            f"{output} holds {', '.join(foreign[:3])}, which is no page of a site: name another folder"
        )
    pages = build_pages(df)
    for path in older:
        path.unlink()
    for name, text in pages.items():
        write_atomically(output / name, lambda partial, text=text: partial.write_text(text, encoding="utf-8"))
    print((output / "index.html").resolve())
