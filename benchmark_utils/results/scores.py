"""What the page, the terminal summary and the report know of a run: its tasks, and scores with intervals and ranks.

Every function takes the dataframe of a run, as ``benchopt.results.read_results`` returns it: one row per image,
scores in columns ``objective_<metric>``, pictures in ``final_results`` of the last row of each cell.
"""

import functools
import re
import weakref
from typing import NamedTuple

import numpy as np
from benchopt.results import read_results
from pandas.api.types import is_numeric_dtype
from scipy.stats import rankdata

from benchmark_utils.metrics import METRICS, Metric, mean_and_ci
from benchmark_utils.runs.cells import CELL, task_label

COSTS = ("nfe", "vjp", "seconds_per_image", "peak_memory_gb")
NO_SCORES = ("objective_image", "objective_diverged", "objective_n_draws")
N_RESAMPLES = 2000


class BadResults(ValueError):
    """A file that has no rows of this benchmark; the message names it."""


class Score(NamedTuple):
    """Mean over the n images that have a value, half-width of its 95 % confidence interval (NaN if n = 1)."""

    mean: float
    half_width: float
    n: int

    def __str__(self):
        decimals = count_decimals(self.mean)
        mean = f"{self.mean:.{decimals}f}"
        # one image, or the same value for all: no interval
        return f"{mean} ± {self.half_width:.{decimals}f}" if self.half_width > 1e-12 * abs(self.mean) else mean


class Standing(NamedTuple):
    """A solver's mean rank over tasks, its 95 % interval, how surely it is ahead of the next one, and tasks won.

    Interval and certainty are NaN where a task has a single image.
    """

    solver: str
    mean_rank: float
    low: float
    high: float
    ahead: float
    n_won: int


# Tasks and their rows


def read_file(path):
    """The rows of a results file.

    Raises BadResults, with the path, if it cannot be read or has no rows of this benchmark.
    """
    if not path.exists():
        raise BadResults(f"{path} does not exist")
    try:
        df = read_results(path)
    except (OSError, ValueError) as error:
        raise BadResults(f"{path} cannot be read as results: {error}") from error
    if df.empty or not {*CELL, "objective_headline"} <= set(df):
        raise BadResults(f"{path} has no rows of this benchmark: name the .parquet file of a run, in outputs/")
    return df


def once_per_frame(function):
    """Keep ``function(df)`` as long as the dataframe lives: the page asks hundreds of times, and changes nothing."""
    kept = {}

    @functools.wraps(function)
    def keeping(df):
        key = id(df)
        if key not in kept:
            kept[key] = weakref.ref(df, lambda _: kept.pop(key)), function(df)
        return kept[key][1]

    return keeping


@once_per_frame
def _rows_by_task(df):
    groups = {}
    for names, rows in df.groupby(["dataset_name", "objective_name"], sort=False).indices.items():
        groups.setdefault(task_label(*names), []).append(rows)
    positions = {task: np.sort(np.concatenate(rows)) for task, rows in groups.items()}
    return {task: df.iloc[positions[task]] for task in sorted(positions, key=lambda task: positions[task][0])}


def tasks(df):
    """Labels of the tasks of a run, in order of appearance; the shards of one task share its label."""
    return list(_rows_by_task(df))


def rows_of(df, task):
    """The rows of one task, all shards and solvers together."""
    return _rows_by_task(df)[task]


def cell_columns(rows):
    """What tells one cell from another: its names, the repetition and the seed."""
    return [column for column in (*CELL, "base_seed") if column in rows]


def share_stored(df):
    """The rows with their ``place`` in their cell, and in each what the cell stored, of which the i-th is place i.

    benchopt has it in the last row of a cell only, which is lost where that row is left out.
    """
    if "final_results" not in df or "place" in df:
        return df
    cells = df.groupby(cell_columns(df), sort=False, dropna=False)
    return df.assign(place=cells.cumcount(), final_results=cells["final_results"].transform("first"))


def unit_of(rows):
    """What a row of a task is: images, problems, records."""
    return rows["objective_unit"].iloc[0] if "objective_unit" in rows else "images"


def metrics_of(rows):
    """Names of the numeric scores that these rows have, in the order of the objective."""
    columns = [c for c in rows.columns if c.startswith("objective_") and is_numeric_dtype(rows[c])]
    return [c.removeprefix("objective_") for c in columns if rows[c].notna().any() and c not in NO_SCORES]


def metric(name):
    """Label, direction and definition of a score; one that ``METRICS`` does not list is shown by its name."""
    return METRICS.get(name, Metric(name, 0, "not defined in benchmark_utils.metrics"))


def headline(rows):
    """The score that ranks the solvers of a task: the first one of its dataset's list."""
    return rows["objective_headline"].iloc[0]


def references(rows):
    """``{solver: why it does not compete}``: oracles, as the objective marked them, and exact draws, by their name."""
    solvers = rows["solver_name"].unique()
    found = {s: "draws from the exact posterior" for s in solvers if re.fullmatch("exact_posterior( @.*)?", s)}
    informed = rows["solver_name"][rows["objective_oracle"].notna()] if "objective_oracle" in rows else []
    return found | dict.fromkeys(sorted(set(informed)), "sees the truth")


@once_per_frame
def diverged(rows):
    """``{solver: share of its draws}`` that left the range of the signals: these solvers do not compete either."""
    if "objective_diverged" not in rows:
        return {}
    share = rows.groupby("solver_name", sort=False)["objective_diverged"].mean()
    return share[share > 0].to_dict()


def solver_label(rows, solver):
    """A solver's name, with a mark if it diverged."""
    return f"{solver} (diverged)" if solver in diverged(rows) else solver


def out_of_competition(rows):
    """References and solvers that diverged."""
    return {*references(rows), *diverged(rows)}


@once_per_frame
def ranked(rows):
    """Solvers that compete and have a headline score."""
    return set(_headline_table(rows)) - out_of_competition(rows)


def unit_columns(rows):
    """What tells one problem from another: the image, and the seed where problems are drawn at random."""
    return [c for c in ("p_dataset_seed", "objective_image") if c in rows and rows[c].notna().any()]


def unequal_rows(rows):
    """A note where solvers of a task lack images or repetitions that others have: their means are of other data."""
    unit = [*unit_columns(rows), "idx_rep"]
    present = rows[["solver_name", *unit]].drop_duplicates()
    n_all, n_rows = len(present.drop_duplicates(unit)), present["solver_name"].value_counts(sort=False)
    named = ", ".join(f"{solver} has {n} of {n_all}" for solver, n in n_rows.items() if n < n_all)
    return [f"not the same {unit_of(rows)} or repetitions for all solvers: {named}"] if named else []


def per_image(rows, names):
    """Scores of each solver and image of a task; repetitions, and shards that overlap, are averaged first."""
    columns = [f"objective_{name}" for name in names]
    return rows.groupby(["solver_name", *unit_columns(rows)], sort=False)[columns].mean()


@once_per_frame
def scores(rows):
    """``{solver: {metric: Score}}`` over the images of a task that have a value: the images are the sample."""
    names = metrics_of(rows)
    found = {}
    for solver, table in per_image(rows, names).groupby("solver_name", sort=False):
        values = {name: table[f"objective_{name}"].dropna() for name in names}
        found[solver] = {name: Score(*mean_and_ci(v), len(v)) for name, v in values.items() if len(v)}
    return found


def fids(rows):
    """``{solver: {"fid": Score}}`` of the rows of a task, where at least two images have features; no interval.

    The Fréchet Inception distance: Heusel et al. 2017, https://arxiv.org/abs/1706.08500.
    """
    if "final_results" not in rows:
        return {}
    rows = share_stored(rows[rows["idx_rep"] == rows["idx_rep"].min()])
    rows = rows[[isinstance(cell, dict) and "sample_features" in cell for cell in rows["final_results"]]]
    found = {}
    for solver, images in rows.drop_duplicates(["solver_name", *unit_columns(rows)]).groupby("solver_name", sort=False):
        stored = list(zip(images["final_results"], images["place"], strict=True))
        if len(stored) > 1:
            drawn, real = ([cell[f"{name}_features"][i] for cell, i in stored] for name in ("sample", "truth"))
            found[solver] = {"fid": Score(frechet_distance(drawn, real), np.nan, len(stored))}
    return found


def frechet_distance(features, other):
    """``||m_1 - m_2||^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` of two sets (n, d) and (k, d), n and k at least 2.

    With ``S = X^T X`` of centred and scaled features, the last trace is the nuclear norm of ``X_1 X_2^T``: an n x k
    matrix, so that few images cost little and the singular covariances do no harm.
    """
    means, scaled = [], []
    for x in (np.asarray(features, np.float64), np.asarray(other, np.float64)):
        if len(x) < 2:
            raise ValueError(f"a Fréchet distance needs at least 2 images, got {len(x)}")
        means.append(x.mean(0))
        scaled.append((x - x.mean(0)) / (len(x) - 1) ** 0.5)
    cross = np.linalg.norm(scaled[0] @ scaled[1].T, "nuc")
    return float(sum(np.square(x).sum() for x in scaled) + np.square(means[0] - means[1]).sum() - 2 * cross)


@once_per_frame
def scores_and_fid(rows):
    """:func:`scores` with the FID where features were stored."""
    distances = fids(rows)
    return {solver: row | distances.get(solver, {}) for solver, row in scores(rows).items()}


def ranking(summary, name):
    """Solvers of :func:`scores` from best to worst by one score; those without it last."""
    direction = metric(name).direction
    loss = {solver: -direction * row[name].mean if name in row else np.nan for solver, row in summary.items()}
    return sorted(summary, key=lambda solver: (np.isnan(loss[solver]), loss[solver]))


def numbered(rows, summary, name):
    """(number, solver) from best to worst by one score: first references, numbered 0; last those that diverged."""
    aside, order = references(rows), ranking(summary, name)
    others = sorted((solver for solver in order if solver not in aside), key=diverged(rows).__contains__)
    return [*((0, solver) for solver in order if solver in aside), *enumerate(others, 1)]


def counts(summary):
    """Number of images of each solver."""
    return {solver: max(score.n for name, score in row.items() if name != "fid") for solver, row in summary.items()}


def interval_note(rows, summary):
    """What the numbers behind ± are."""
    n_repetitions, found = rows["idx_rep"].nunique(), set(counts(summary).values())
    n = found.pop() if len(found) == 1 else "n"
    averaged = f", after averaging {n_repetitions} repetitions of each" if n_repetitions > 1 else ""
    fewer = {}
    for solver, n_images in counts(summary).items():
        for name, score in summary[solver].items():
            if score.n < n_images:
                fewer.setdefault(metric(name).label, set()).add(score.n)
    without = "".join(f"; {label}: over the {min(n_with)} with a value" for label, n_with in fewer.items())
    return f"mean ± t sd / √n (Student's 95 % interval) over {n} {unit_of(rows)}{averaged}{without}"


FACTS = {
    "benchmark": "objective_benchmark_version",
    "torch": "objective_torch",
    "diffusers": "objective_diffusers",
    "deepinv": "objective_deepinv",
    "numpy": "version-numpy",
    "device": "objective_device",
    "processor": "system-processor",
    "CPU cores": "system-cpus",
    "CUDA": "version-cuda",
    "system": "platform",
    "commit": "objective_git_commit",
    "weights": "objective_weights",
    "seed": "base_seed",
    "date": "run_date",
}


def facts(rows):
    """``{name: value}`` of the origin of rows; different values are joined by "and"; missing columns are left out."""
    found = {}
    for name, column in FACTS.items():
        values = rows[column].dropna().astype(str).unique() if column in rows else []
        if len(values):
            found[name] = " and ".join(values)
    return found


def origin_note(rows):
    """Versions, device and weights of rows as one line, digests shortened."""
    found = facts(rows)
    versions = ("benchmark", "torch", "diffusers", "deepinv", "numpy")
    shown = [f"{name} {found[name]}" for name in versions if name in found]
    shown += [f"{name}: {found[name]}" for name in ("device", "processor", "commit", "weights") if name in found]
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", "; ".join(shown))


# Ranks over tasks


@once_per_frame
def comparisons(df):
    """``{label: (tasks, solvers)}``: sets of solvers with the tasks that all of them ran, the largest first.

    Solvers are added one by one, those with the most tasks first; each time that leaves fewer common tasks, a new entry
    begins. A solver has not run a task on which it does not compete; one placeholder where none competes.
    """
    ran = {task: ranked(rows_of(df, task)) for task in tasks(df)}
    solvers = [solver for solver in df["solver_name"].unique() if any(solver in found for found in ran.values())]
    n_tasks = {solver: sum(solver in found for found in ran.values()) for solver in solvers}
    by_coverage = sorted(solvers, key=lambda solver: -n_tasks[solver])
    found = {}
    for k in range(1, len(solvers) + 1):
        shared = tuple(task for task in ran if ran[task].issuperset(by_coverage[:k]))
        if shared:
            found[shared] = [solver for solver in by_coverage if all(solver in ran[task] for task in shared)]
    if not found:
        return {"no solver to rank": ([], [])}
    of_several = {shared: chosen for shared, chosen in found.items() if len(chosen) > 1}
    found = of_several or found
    size = {shared: len(shared) * len(chosen) for shared, chosen in found.items()}
    return {
        f"{_plural(len(shared), 'task')}, {_plural(len(found[shared]), 'solver')}": (list(shared), found[shared])
        for shared in sorted(found, key=size.get, reverse=True)
    }


def _plural(n, noun):
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _headline_table(rows):
    """The headline of each image (row) and solver (column)."""
    return per_image(rows, [headline(rows)]).iloc[:, 0].unstack("solver_name", sort=False).dropna(axis=1, how="all")


def standings(df, chosen_tasks, solvers):
    """A :class:`Standing` per solver, best first, and per task the number of images that all of them have.

    Images are resampled with replacement: the same resample for all solvers, and for all tasks of the same images.
    """
    random = np.random.default_rng(0)
    mean_ranks, resampled_ranks, won, n_images, resamples = 0.0, 0.0, 0, {}, {}
    for task in chosen_tasks:
        rows = rows_of(df, task)
        table = _headline_table(rows)[list(solvers)].dropna().sort_index()
        n_images[task] = len(table)
        if table.empty:
            continue
        truths = task + rows["objective_file"]  # a "problem 0" of another task is another signal
        if "objective_truth_digest" in rows:
            truths = rows["objective_truth_digest"].fillna(truths)
        images = tuple(truths.groupby([rows[column] for column in unit_columns(rows)]).first().loc[table.index])
        if images not in resamples:
            counts = random.multinomial(len(images), np.full(len(images), 1 / len(images)), N_RESAMPLES)
            resamples[images] = counts / len(images)
        losses = -metric(headline(rows)).direction * table.to_numpy()
        ranks = rankdata(losses.mean(0))
        won = won + (ranks == ranks.min())
        mean_ranks = mean_ranks + ranks
        resampled_ranks = resampled_ranks + rankdata(resamples[images] @ losses, axis=1)
    n_tasks = sum(n > 0 for n in n_images.values())
    if not n_tasks:
        return [], n_images
    mean_ranks, resampled_ranks = mean_ranks / n_tasks, resampled_ranks / n_tasks
    if 1 in n_images.values():  # all resamples of one image are the same
        resampled_ranks = np.full_like(resampled_ranks, np.nan)
    low, high = np.quantile(resampled_ranks, (0.025, 0.975), axis=0)
    order = np.argsort(mean_ranks, kind="stable")
    found = []
    for place, i in enumerate(order):
        ahead = np.nan
        if place + 1 < len(order):
            lead = resampled_ranks[:, order[place + 1]] - resampled_ranks[:, i]
            ahead = (1 + np.sign(lead).mean()) / 2  # ties count half
        found.append(Standing(solvers[i], *(float(v[i]) for v in (mean_ranks, low, high)), float(ahead), int(won[i])))
    return found, n_images


# Numbers as text


def count_decimals(value):
    """Decimals that show four significant digits of a value from 1 on and three of a smaller one; 3 below 0.00001."""
    size = abs(value)
    if not np.isfinite(size) or size < 1e-5:
        return 3
    exponent = int(np.floor(np.log10(size)))
    return max(0, 3 - exponent) if exponent >= 0 else 2 - exponent


def format_number(value):
    """A number as text, whole numbers without decimals."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.{count_decimals(value)}f}"
