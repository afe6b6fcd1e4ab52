"""The tables of a run: leaderboard, mean ranks over tasks, exactness, comparison with the paper, missing cells."""

import csv
import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import yaml

from benchmark_utils.files.paths import asset
from benchmark_utils.metrics import STEMS
from benchmark_utils.results.fid import fids
from benchmark_utils.results.scores import (
    COSTS,
    N_RESAMPLES,
    Score,
    comparisons,
    counts,
    format_number,
    headline,
    interval_note,
    metric,
    metrics_of,
    once_per_frame,
    oracles,
    origin_note,
    ranking,
    rows_of,
    scores,
    standings,
    tasks,
)
from benchmark_utils.runs.cells import (
    ROOT,
    command_line_request,
    missing_among_rows,
    missing_cells,
    output_folder,
    requested_cells,
    task_label,
)

OF_SAMPLES = ("lpips_best", "psnr_mean", "si_sdri_mean", "spread", "ess")
EXACTNESS = ("sliced_wasserstein", "mean_error", "variance_ratio", "mode_tv")
ARROWS = {1: " ↑", -1: " ↓", 0: ""}
MISSING = "–"
FIGURE_SPACE = "\u2007"  # as wide as a digit, and before the digits in text order
LONG = 30  # characters
NO_BREAK_SPACE = "\u00a0"
MISSING_COLUMNS = ["#", "solver", "task", "status", "cells", "why"]
ONE_SAMPLE = "one sample per image"
NO_CLOSED_FORM = "no task with a closed form"

MGDM_PRIORS = {"ffhq256": "ffhq_pixel", "imagenet256": "imagenet_pixel", "ffhq256_latent": "ffhq_ldm"}
MGDM_TASKS = {
    "box": "Box inpainting",
    "half": "Half mask",
    "sr4": "SR ×4",
    "sr16": "SR ×16",
    "gaussian_blur": "Gaussian deblur",
    "motion_blur": "Motion deblur",
    "jpeg2": "JPEG QF 2",
    "phase_retrieval": "Phase retrieval",
    "nonlinear_blur": "Nonlinear blur",
    "hdr": "HDR",
    "separation": "Separation",
}
MGDM_IMAGES, MGDM_TRACKS = (0, 299), (1876, 2100)
MGDM_BEST_OF = 4  # samples of phase retrieval
PUBLISHED = (
    "published: the datasets of configs/paper_*.yml with their parameters, images {} to {}, whole tracks {} to {}, "
    "phase retrieval with n_samples={}"
).format(*MGDM_IMAGES, *MGDM_TRACKS, MGDM_BEST_OF)
MGDM_ROUNDING = 0.005  # the tables have two decimals, so neither a mean nor a half-width is known better


class Cell(NamedTuple):
    """A table cell: what is shown, the number it sorts by, whether it is the best of its column."""

    text: str
    value: float | None = None
    best: bool = False


@dataclass
class Table:
    """Rows of cells with what a reader needs: the task, how to read it, ``{label: definition}`` of its columns.

    ``origin`` says which versions and device the numbers come from.
    """

    title: str
    notes: list
    definitions: dict
    columns: list
    rows: list
    origin: str = ""


def heading(name):
    return metric(name).label + ARROWS[metric(name).direction]


def _labels(names):
    return [metric(name).label for name in names]


def _score_cell(row, name, best=None):
    if name not in row:
        return Cell(MISSING)
    return Cell(str(row[name]), row[name].mean, best is not None and str(row[name]) == str(best))


def _cost_cell(row, name):
    return Cell(format_number(row[name].mean), row[name].mean) if name in row else Cell(MISSING)


def _numbered(rows, summary, name):
    """(number, solver) from best to worst by one score, after the oracles, which have number 0."""
    informed, order = oracles(rows), ranking(summary, name)
    competing = [solver for solver in order if solver not in informed]
    return [*((0, solver) for solver in order if solver in informed), *enumerate(competing, 1)]


def _oracle_notes(rows):
    return [f"number 0: no competitors, they see the truth: {', '.join(oracles(rows))}"] if oracles(rows) else []


def _best(rows, summary, name):
    """The best score of a column, None where no direction is better or nobody but oracles is measured."""
    direction, informed = metric(name).direction, oracles(rows)
    found = [row[name] for solver, row in summary.items() if name in row and solver not in informed]
    return max(found, key=lambda score: direction * score.mean) if direction and found else None


def _definitions(names):
    return {metric(name).label: metric(name).definition for name in names}


def definitions_text(definitions):
    """Definitions as one line."""
    return "; ".join(f"{label}: {definition}" for label, definition in definitions.items())


# Tables


def _note_table(task, note):
    return Table(task, [], {}, ["note"], [[Cell(note)]])


@once_per_frame
def _scores_and_fid(rows):
    """:func:`benchmark_utils.results.scores` with the FID where features were kept."""
    distances = {solver: {"fid": Score(distance, np.nan, n)} for solver, (distance, n) in fids(rows).items()}
    return {solver: row | distances.get(solver, {}) for solver, row in scores(rows).items()}


def leaderboard(df, task):
    """Scores and costs of every solver of a task, best first."""
    rows = rows_of(df, task)
    summary, first, measured = _scores_and_fid(rows), headline(rows), metrics_of(rows)
    elsewhere = (first, *COSTS, *EXACTNESS, *OF_SAMPLES)
    others = [name for name in measured if name not in elsewhere and not name.endswith("_floor")]
    quality = [first, *others, *(["fid"] if any("fid" in row for row in summary.values()) else [])]
    costs = [name for name in COSTS if name in measured]
    best = {name: _best(rows, summary, name) for name in quality}
    n_images = counts(summary)
    unequal = len(set(n_images.values())) > 1
    body = []
    for number, solver in _numbered(rows, summary, first):
        row = summary[solver]
        cells = [Cell(str(number), number), Cell(solver)]
        cells += [_score_cell(row, name, best[name] if number else None) for name in quality]
        cells += [_cost_cell(row, name) for name in costs]
        body.append([*cells, Cell(str(n_images[solver]), n_images[solver])] if unequal else cells)
    notes = [
        f"{interval_note(rows, summary)}; sorted by {metric(first).label}, best in bold; "
        "↑ higher is better, ↓ lower; costs without an arrow",
        *_oracle_notes(rows),
    ]
    columns = ["#", "solver", *map(heading, quality), *_labels(costs), *(["n"] if unequal else [])]
    return Table(task, notes, _definitions([*quality, *costs]), columns, body, origin_note(rows))


def overall(df, compared):
    """Mean ranks over the tasks of one of :func:`benchmark_utils.results.comparisons`."""
    chosen, solvers = comparisons(df)[compared]
    notes = []
    for solver in df["solver_name"].unique():
        if solver in oracles(df):
            notes.append(f"not ranked: {solver}, sees the truth")
        elif solver not in solvers:
            lacking = [task for task in chosen if solver not in scores(rows_of(df, task))]
            notes.append(f"not ranked: {solver}, no score on {', '.join(lacking)}")
    for task in tasks(df):
        if task not in chosen:
            lacking = [solver for solver in solvers if solver not in scores(rows_of(df, task))]
            notes.append(f"not compared: {task}, no score of {', '.join(lacking)}")
    if len(solvers) < 2:
        return _note_table(compared, "; ".join(["a rank needs two solvers on the same task", *notes]))
    found, n_images = standings(df, chosen, solvers)
    if not found:
        return _note_table(compared, "the solvers have no image in common")
    ranked_by = ", ".join(dict.fromkeys(heading(headline(rows_of(df, task))) for task in chosen))
    body = []
    for number, standing in enumerate(found, 1):
        interval = "" if np.isnan(standing.low) else f" [{standing.low:.2f}, {standing.high:.2f}]"
        mean_rank = Cell(f"{standing.mean_rank:.2f}{interval}", standing.mean_rank, number == 1)
        ahead = Cell(MISSING) if np.isnan(standing.ahead) else Cell(f"{standing.ahead:.3f}", standing.ahead)
        won = Cell(str(standing.n_won), standing.n_won)
        body.append([Cell(str(number), number), Cell(standing.solver), mean_rank, ahead, won])
    images = ", ".join(f"{task}: {n}" for task, n in n_images.items())
    notes.insert(
        0, f"{len(solvers)} solvers on {len(chosen)} tasks, ranked by {ranked_by}; images of each task: {images}"
    )
    if single := [task for task, n in n_images.items() if n == 1]:
        notes.insert(1, f"no interval and no certainty, since one image shows no variation: {', '.join(single)}")
    definitions = {
        "mean rank": "rank 1 is the best mean score over the images that all these solvers have, equal means share "
        "their ranks; averaged over the tasks; in brackets the 2.5 % and 97.5 % quantiles over "
        f"{N_RESAMPLES} paired bootstrap resamples of the images, the same images for every solver and for all tasks "
        "that share them. The interval holds the variation between images, not between seeds or tasks",
        "ahead of the next": "share of the resamples in which the mean rank is below that of the next row, ties count "
        "half: below 0.975 the order of the two may be chance",
        "tasks won": "tasks on which its mean is the best",
    }
    columns = ["#", "solver", "mean rank ↓", "ahead of the next", "tasks won"]
    return Table(compared, notes, definitions, columns, body, origin_note(df))


def missing(df, config=None, outputs=None):
    """The cells that were asked for and have no row, with the reason.

    Asked for is a run config, else what the running ``benchopt run`` was told, else every combination of the
    datasets and solvers that the rows name. ``outputs`` is the folder of the results, by default benchopt's.
    """
    outputs = outputs or output_folder()
    config = config or command_line_request()
    if config:
        found, asked = missing_cells(df, config, outputs), "of those that the run was asked for"
    else:
        found = missing_among_rows(df, outputs)
        asked = (
            "of every solver on every dataset that the results name; solvers and datasets without any row do not show"
        )
    groups = {}
    for cell in found:
        key = (cell.skipped, cell.solver, task_label(cell.dataset, cell.objective), cell.reason)
        groups[key] = groups.get(key, 0) + 1
    if not groups:
        return _note_table("missing cells", f"no cell is missing, {asked}")
    body = []
    for number, ((skipped, solver, task, reason), n) in enumerate(sorted(groups.items()), 1):
        status = Cell("skipped" if skipped else "missing", best=not skipped)
        cells = [Cell(str(number), number), Cell(solver), Cell(task), status, Cell(str(n), n), Cell(reason)]
        body.append(cells)
    definitions = {
        "missing": "asked for and not finished: a rerun of the same command computes only these",
        "skipped": "the solver cannot do the task, or the data are not there",
        "cells": "image ranges and repetitions",
    }
    return Table("missing cells", [f"cells without a row, {asked}"], definitions, MISSING_COLUMNS, body)


def _tasks_with(df, names):
    """Tasks that have one of some scores."""
    return [task for task in tasks(df) if not set(names).isdisjoint(metrics_of(rows_of(df, task)))]


def samples_tasks(df):
    """Tasks with scores of several samples per image; one placeholder where a run has none."""
    return _tasks_with(df, OF_SAMPLES) or [ONE_SAMPLE]


def samples(df, task):
    """Best, mean and spread of the samples of an image, beside the score of a single one."""
    if task == ONE_SAMPLE:
        return _note_table(task, 'spread, best and mean of the samples of an image: draw several, -o "*[n_samples=8]"')
    rows = rows_of(df, task)
    summary, measured = scores(rows), metrics_of(rows)
    shown = [name for name in (headline(rows), "psnr", *OF_SAMPLES) if name in measured]
    shown = list(dict.fromkeys(shown))
    best = {name: _best(rows, summary, name) for name in shown}
    body = []
    for number, solver in _numbered(rows, summary, shown[0]):
        cells = [_score_cell(summary[solver], name, best[name] if number else None) for name in shown]
        body.append([Cell(str(number), number), Cell(solver), *cells])
    drawn = rows["p_obj_n_samples"].dropna().unique() if "p_obj_n_samples" in rows else []
    per_image = f"; {', '.join(f'{n:.0f}' for n in drawn)} samples per image" if len(drawn) else ""
    notes = [f'{interval_note(rows, summary)}{per_image}; a score without "best" or "mean" is of a single sample']
    notes += _oracle_notes(rows)
    return Table(task, notes, _definitions(shown), ["#", "solver", *map(heading, shown)], body, origin_note(rows))


def exactness_tasks(df):
    """Tasks with scores against a closed-form posterior; one placeholder where a run has none."""
    return _tasks_with(df, EXACTNESS) or [NO_CLOSED_FORM]


def exactness(df, task):
    """Distance to the exact posterior of every solver of a task, below the floor that exact draws reach."""
    if task == NO_CLOSED_FORM:
        remedy = "needs a prior with a closed form and several draws, e.g. prior=faces64_mfa and n_samples=8"
        return _note_table(task, f"distance to the exact posterior: {remedy}")
    rows = rows_of(df, task)
    summary, measured = scores(rows), metrics_of(rows)
    shown = [name for name in EXACTNESS if name in measured]
    costs = COSTS[:3]
    order = _numbered(rows, summary, shown[0])
    best = summary[ranking(summary, shown[0])[0]]
    floors = {name: best[f"{name}_floor"] for name in shown if f"{name}_floor" in measured}
    floor = {"variance_ratio": Score(1.0, np.nan, 0)} | floors
    body = [[Cell("0", 0), Cell("floor of exact draws"), *(_score_cell(floor, name) for name in shown)]]
    body[0] += [Cell(MISSING)] * len(costs)
    for number, solver in order:
        row = summary[solver]
        cells = [*(_score_cell(row, name) for name in shown), *(_cost_cell(row, name) for name in costs)]
        body.append([Cell(str(number), number), Cell(solver), *cells])
    notes = [f"{interval_note(rows, summary)}; first row: what as many exact draws reach, their own Monte-Carlo error"]
    notes += _oracle_notes(rows)
    definitions = _definitions([*shown, *(f"{name}_floor" for name in floors), *costs])
    return Table(
        task, notes, definitions, ["#", "solver", *map(heading, shown), *_labels(costs)], body, origin_note(rows)
    )


@functools.cache
def mgdm_tables():
    """Tables 6 to 9 and figure 3 of the MGDM paper: ``{(prior, task, method, metric): Score}``.

    Tables 6 to 8 are over 300 images; table 9 and figure 3, of separation, do not say over how many tracks (n is 0),
    and name solvers with their parameters.
    """
    published = {}
    with open(asset("mgdm_paper_tables.csv"), encoding="utf-8") as file:
        for line in csv.DictReader(file):
            key = (line["prior"], line["task"], line["method"].lower().replace("-", "_"), line["metric"].lower())
            n = 0 if line["task"] == MGDM_TASKS["separation"] else 300
            published[key] = Score(float(line["mean"]), float(line["ci95"] or "nan"), n)
    return published


@functools.cache
def _paper_solvers():
    """``{task label: {solver: method of the tables}}`` of ``configs/paper_*.yml``: the paper's tasks and settings."""
    found = {}
    for path in sorted((ROOT / "configs").glob("paper_*.yml")):
        for dataset, _, solver, *_ in requested_cells(yaml.safe_load(path.read_text())):
            found.setdefault(task_label(str(dataset), ""), {})[str(solver)] = str(solver).split("[")[0]
    return found


def _published_methods(rows, setting):
    """``{solver: method}`` of a (prior, task) of the MGDM paper's tables that solvers of these rows compare with."""
    published = {method for *found, method, _ in mgdm_tables() if tuple(found) == setting}
    signals, known = rows["objective_image"], MGDM_IMAGES
    separation = setting[1] == MGDM_TASKS["separation"]
    if separation:
        signals, known = signals // 1000, MGDM_TRACKS  # numbered by 1000 times the track, plus the chunk
    drawn = set(rows["p_obj_n_samples"].dropna()) if "p_obj_n_samples" in rows else set()
    best_of_others = setting[1] == MGDM_TASKS["phase_retrieval"] and not drawn <= {MGDM_BEST_OF}
    if not published or best_of_others or not signals.between(*known).all():
        return {}
    solvers = _paper_solvers().get(task_label(rows["dataset_name"].iloc[0], ""), {})
    # methods of separation are published with their parameters, and more of them than the config has
    return {method: method for method in published} if separation and solvers else solvers


def _published_text(score):
    return f"{score.mean:.2f}" if np.isnan(score.half_width) else f"{score.mean:.2f} ± {score.half_width:.2f}"


def paper_comparison(df, task):
    """Measured scores beside those published with MGDM, and their difference in units of the combined interval."""
    rows = rows_of(df, task)
    prior, paper_task = rows.iloc[0].get("p_dataset_prior"), MGDM_TASKS.get(rows["objective_task"].iloc[0])
    prior = MGDM_PRIORS.get(prior, prior)
    methods = _published_methods(rows, (prior, paper_task))
    if not methods:
        return _note_table(task, f"no published number applies to {task}; {PUBLISHED}")
    separation = paper_task == MGDM_TASKS["separation"]
    compared = {name: name for name in ("lpips", "psnr", "ssim", "fid")}
    if separation:
        compared = {name: name for name in ("si_sdri_all", *(f"si_sdri_{stem}" for stem in STEMS))}
    elif paper_task == MGDM_TASKS["phase_retrieval"]:
        # the published one keeps the best of four samples by LPIPS; that one's PSNR, SSIM and FID are not measured
        compared = {"lpips": "lpips_best"}
    summary = _scores_and_fid(rows)
    body = []
    for solver in ranking(summary, headline(rows)):
        for name, ours_name in compared.items():
            theirs = mgdm_tables().get((prior, paper_task, methods.get(solver), name))
            ours = summary[solver].get(ours_name)
            if theirs is None or ours is None:
                continue
            combined = np.hypot(np.maximum(theirs.half_width, MGDM_ROUNDING), ours.half_width)
            difference = (ours.mean - theirs.mean) / combined
            shown = Cell(MISSING) if np.isnan(difference) else Cell(f"{difference:+.2f}", difference)
            cells = [Cell(solver), Cell(heading(ours_name)), Cell(_published_text(theirs))]
            body.append([*cells, _score_cell(summary[solver], ours_name), shown, Cell(str(ours.n), ours.n)])
    in_paper = {method.split("[")[0] for method in methods.values()}
    others = [solver for solver in summary if solver not in methods and solver.split("[")[0] in in_paper]
    left_out = [f"left out, settings that the paper does not report: {', '.join(others)}"] if others else []
    if not body:
        return _note_table(task, "; ".join([f"no published score of these solvers on {paper_task}", *left_out]))
    body = [[Cell(str(number), number), *row] for number, row in enumerate(body, 1)]
    source = "published: MGDM, ICML 2025, https://arxiv.org/abs/2502.03332, "
    notes = [
        f"{source}table 9 and figure 3 (those without an interval), over how many tracks is not stated; the whole test "
        "part has 151"
        if separation
        else f"{source}tables 6 to 8, 300 images, two decimals; "
        "phase retrieval there is the best of four samples by LPIPS; FID has no interval, and its reference images are "
        "not stated; methods with the settings of configs/paper_*.yml only",
        f"measured: {interval_note(rows, summary)}",
        "difference: (measured - published) / √(CI² + CI²), a published CI below 0.005 taken as 0.005; "
        "within ±1 the two agree",
        *left_out,
    ]
    definitions = _definitions(compared.values())
    columns = ["#", "solver", "score", "published", "measured", "difference / CI", "n"]
    return Table(task, notes, definitions, columns, body, origin_note(rows))


def _whole_width(cell):
    """Characters before the decimal point of a number."""
    return 0 if cell.value is None else len(re.match(r"[-+]?\d*", cell.text)[0])


def breakable(text):
    """Text that may be broken inside its names, at commas, brackets and underscores."""
    return re.sub(r"([,\[_])", "\\1\u200b", text)


def _page_column(name, cells):
    """Cells of a column with the points of their numbers below each other, as wide as the heading at least.

    Long texts may be broken between words, short ones and numbers not.
    """
    whole = max(_whole_width(cell) for cell in cells)
    # bold letters, and the mark to sort by
    width = len(name) + (2 if len(name) == 1 else 3 if len(name) < 6 else 4)
    indent = max(0, width - max(len(cell.text) for cell in cells))
    texts = []
    for cell in cells:
        if cell.value is not None:
            text = FIGURE_SPACE * (indent + whole - _whole_width(cell)) + cell.text.replace(" ", NO_BREAK_SPACE)
        elif len(cell.text) > LONG:
            text = breakable(cell.text)
        else:
            text = cell.text.replace(" ", NO_BREAK_SPACE) + NO_BREAK_SPACE * indent
        texts.append(f"**{text}**" if cell.best else text)
    return texts


def page_table(table):
    """A benchopt table plot: (metadata, rows).

    The page sorts cells such as ``0.12 ± 0.01`` as text, so their whole parts are padded to the same width; it
    sets the width of a column by its longest word.
    """
    columns = zip(*table.rows, strict=True)
    padded = [_page_column(name, cells) for name, cells in zip(table.columns, columns, strict=True)]
    rows = [list(row) for row in zip(*padded, strict=True)]
    metadata = {
        "title": "\n".join(
            filter(None, [table.title, *table.notes, definitions_text(table.definitions), table.origin])
        ),
        "columns": [name.replace(" ", NO_BREAK_SPACE) for name in table.columns],
        "default_order_column": 0,
        "default_order_ascending": True,
    }
    return metadata, rows
