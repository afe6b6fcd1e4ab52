"""What every solver must hold, for one file: ``python -m benchmark_utils check my_solver.py``.

The docstring names the paper; the file is short; every preset is complete; samples follow y on small problems with a
known posterior; a result depends neither on the batch nor on the other images; a GPU would not wait. A bias is stated
and no failure: docs/exactness.md has that of every method here.
"""

import contextlib
import io
from importlib import import_module
from typing import NamedTuple

from benchopt.benchmark import Benchmark
from rich.console import Console

from benchmark_utils.attempts import describe
from benchmark_utils.checks.batches import TOLERANCE, find_suitable_problem, largest_difference
from benchmark_utils.checks.meta import EXCEPTIONS, run_cells
from benchmark_utils.evaluate import objective_of, score
from benchmark_utils.metrics import METRICS
from benchmark_utils.provenance import ROOT
from benchmark_utils.results.docstrings import is_method, read_paper
from benchmark_utils.results.tables import Cell, Table
from benchmark_utils.results.terminal import print_table
from solvers.exact_posterior import Solver as ExactPosterior
from solvers.prior_sample import Solver as PriorSample

LONGEST_FILE = 110  # lines
FAMILIES = ("ffhq", "imagenet", "ffhq_latent", "audio", "ecg", "text", "mixture", "digits", "gaussian")
TASKS = ("box", "random50", "sr4", "sr8", "gaussian_blur", "jpeg2", "hdr", "phase_retrieval", "random_lead", "label")
TASKS += ("unheard_of",)
CLOSED_FORMS = (
    ("gaussian", {"n_problems": 4}),
    ("gaussian_latent", {"n_problems": 4}),
    ("gaussian_mixture", {"dim_y": 4}),
)
READS_ONCE = {"mcgdiff": "it reads once, before its loop, at which levels the values of y are used"}
N_DRAWS = 400
N_STANDARD_ERRORS = 4
FACES = {"prior": "faces64", "n_images": 2}
META_CELLS = [
    ("gaussian", {"n_problems": 2}),
    ("gaussian_mixture", {}),
    ("gaussian_latent", {"n_problems": 2}),
    ("ffhq_inpainting", {"mask": "half"} | FACES),
    ("ffhq_super_resolution", {"factor": 4} | FACES),
    ("ffhq_hdr", FACES),
    ("slakh2100", {"chunk_length": 8192, "chunks": 2}),
    ("ptbxl", {"prior": "ecg_stationary", "task": "random_lead", "length": 72, "n_records": 2}),
    ("labelled_mixture", {"n_problems": 2}),
]


class Finding(NamedTuple):
    """One line of the table: ``status`` is passes, fails, biased or skipped."""

    check: str
    status: str
    text: str


def load_solver(name):
    """The class of a solver by its name or the path of its file.

    Raises ValueError if there is none or more than one, and ImportError if its file cannot be imported.
    """
    found = Benchmark(ROOT).check_solver_patterns([name])
    if len(found) != 1:
        raise ValueError(f"{name!r} must be one solver, it names {', '.join(Solver.name for Solver, _ in found)}")
    Solver = found[0][0]
    if not Solver.is_installed():
        raise ImportError(f"{name} cannot be imported: {describe(Solver._exc)}")
    return Solver


def check_docstring(Solver):
    docstring = Solver.__doc__ or ""
    paper = read_paper(docstring)
    missing = [name for name, value in zip(paper._fields, paper, strict=True) if not value]
    if is_method(docstring) and missing:
        expected = 'NAME: "Title", authors, VENUE YEAR, https://…'
        return Finding("docstring", "fails", f"no {', no '.join(missing)}: it begins with {expected}")
    return Finding("docstring", "passes", f"{paper.title or docstring.strip().splitlines()[0]} {paper.url}".strip())


def check_length(path):
    n = len(path.read_text(encoding="utf-8").splitlines())
    return Finding("length", "passes" if n <= LONGEST_FILE else "fails", f"{n} lines, at most {LONGEST_FILE}")


def resolve_everywhere(Solver, family):
    """Raise ValueError if a preset of a family of priors lacks a parameter or has a value that is not allowed."""
    stated = {*Solver.choices, *Solver.ranges, *(key for preset in Solver.PRESETS.values() for key in preset)}
    if unknown := sorted(stated - set(Solver.parameters)):
        raise ValueError(f"choices, ranges or PRESETS name {', '.join(unknown)}, which is no parameter")
    for task in TASKS:
        solver = Solver.get_instance()
        solver.resolve_presets(family, task)
        for name in Solver.parameters:
            if name != "preset" and getattr(solver, name) is None:
                raise ValueError(f"no {name} for {family}, {task}")


def check_presets(Solver):
    for family in FAMILIES:
        resolve_everywhere(Solver, family)
    return Finding("presets", "passes", f"complete for {len(FAMILIES)} families of priors, known and unknown tasks")


def check_batches(Solver):
    problem, prior, reason = find_suitable_problem(Solver)
    if problem is None:
        return Finding("batches", "skipped", reason)
    found = largest_difference(Solver, problem, prior)
    text = f"an image's sample changes by {found:.1e} with the batch, at most {TOLERANCE:.0e}"
    return Finding("batches", "passes" if found <= TOLERANCE else "fails", text)


def check_meta_device(Solver):
    if reason := (EXCEPTIONS | READS_ONCE).get(Solver.name):
        return Finding("meta device", "skipped", reason)
    n = run_cells(Solver, META_CELLS)
    return Finding("meta device", "passes" if n else "skipped", f"{n} tasks without a value read on the host")


def check_exactness(Solver, dataset, options):
    """Distance to the exact posterior and variance ratio, beside those of exact draws and of draws that ignore y."""
    check = f"exactness: {dataset}"
    made = import_module(f"datasets.{dataset}").Dataset.get_instance(**options)
    objective = objective_of(made, n_samples=N_DRAWS)
    solver = Solver.get_instance()
    skipped, reason = solver.skip(**objective.get_objective())
    if skipped:
        return Finding(check, "skipped", reason)
    others = ExactPosterior.get_instance(), PriorSample.get_instance(n_steps=20)
    mine, exact, blind = (score(one, objective) for one in (solver, *others))
    first = objective.metrics[0]  # the headline of that dataset, a distance to the exact posterior
    distance, of_exact, of_blind = (float(rows[first].mean()) for rows in (mine, exact, blind))
    error, variance = float((mine.mean_error**2).mean() ** 0.5), float(mine.variance_ratio.mean())
    text = (
        f"{METRICS[first].label} {distance:.3f} (exact draws {of_exact:.3f}, draws that ignore y {of_blind:.3f}), "
        f"variance ratio {variance:.2f} (exact draws {exact.variance_ratio.mean():.2f}), "
        f"data misfit {mine.data_misfit.mean():.2f}"
    )
    if mine.diverged.any() or distance >= of_blind:
        return Finding(check, "fails", f"{text}: it diverged, or is as far from the posterior as without y")
    # Monte-Carlo error: n times the squared mean error has mean 1 and variance 2 at most, in units of tr P
    exact_mean = N_DRAWS * error**2 <= 1 + N_STANDARD_ERRORS * (2 / len(mine)) ** 0.5
    exact_variance = abs(variance - 1) <= N_STANDARD_ERRORS * (2 / (N_DRAWS * len(mine))) ** 0.5
    return Finding(check, "passes" if exact_mean and exact_variance else "biased", text)


def check_solver(Solver, path):
    """A :class:`Finding` for every check of a solver class, whose file lies at ``path``."""
    checks = [
        ("docstring", lambda: check_docstring(Solver)),
        ("length", lambda: check_length(path)),
        ("presets", lambda: check_presets(Solver)),
        ("batches", lambda: check_batches(Solver)),
        ("meta device", lambda: check_meta_device(Solver)),
    ]
    checks += [
        (f"exactness: {name}", lambda cell=(name, o): check_exactness(Solver, *cell)) for name, o in CLOSED_FORMS
    ]
    for name, run in checks:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                finding = run()
        except Exception as error:  # a solver may raise anything: that check fails, the others go on
            finding = Finding(name, "fails", describe(error))
        yield finding


def print_checks(Solver):
    """Check a solver's class, print the table, and return the exit code: 1 if a check fails."""
    findings = list(check_solver(Solver, Solver._module_filename))
    rows = [
        [Cell(found.check), Cell(found.status, best=found.status == "fails"), Cell(found.text)] for found in findings
    ]
    print_table(Table(f"{Solver.name}: what passes", [], {}, ["check", "result", "found"], rows), Console())
    n_failed = sum(found.status == "fails" for found in findings)
    print(f"{n_failed} of {len(findings)} checks fail" if n_failed else f"none of {len(findings)} checks fails")
    return 1 if n_failed else 0
