"""The tables of a run: leaderboard, mean ranks over tasks, exactness, comparison with the paper, missing cells."""

import csv
import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pandas import isna

from benchmark_utils.expected import command_line_request, missing_among_rows, missing_cells, output_folder
from benchmark_utils.fid import fids
from benchmark_utils.hub import asset
from benchmark_utils.metrics import STEMS
from benchmark_utils.results import (
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
    origin_note,
    ranking,
    rows_of,
    scores,
    standings,
    task_label,
    tasks,
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
MGDM_NOISE_STD = 0.05
MGDM_STEM_PRIORS = ("slakh_msdm", "slakh_isdm")  # of MSDM and ISDM in its table 9
MGDM_CHUNK_LENGTH, MGDM_SIGMA_MAX = 2**18, 20
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


def _best(summary, name):
    """The best score of a column, None where no direction is better or nobody is measured."""
    direction = metric(name).direction
    found = [row[name] for row in summary.values() if name in row and not np.isnan(row[name].mean)]
    return max(found, key=lambda score: direction * score.mean) if direction and found else None


def _definitions(names):
    return {metric(name).label: metric(name).definition for name in names}


def definitions_text(definitions):
    """Definitions as one line."""
    return "; ".join(f"{label}: {definition}" for label, definition in definitions.items())


# Tables


def _note_table(task, note):
    return Table(task, [], {}, ["note"], [[Cell(note)]])


def leaderboard(df, task):
    """Scores and costs of every solver of a task, best first."""
    rows = rows_of(df, task)
    summary, first, measured = scores(rows), headline(rows), metrics_of(rows)
    elsewhere = (first, *COSTS, *EXACTNESS, *OF_SAMPLES)
    others = [name for name in measured if name not in elsewhere and not name.endswith("_floor")]
    distances = fids(rows)
    for solver, (distance, n) in distances.items():
        summary[solver]["fid"] = Score(distance, np.nan, n)
    quality = [first, *others, *(["fid"] if distances else [])]
    costs = [name for name in COSTS if name in measured]
    best = {name: _best(summary, name) for name in quality}
    n_images = counts(summary)
    unequal = len(set(n_images.values())) > 1
    body = []
    for rank, solver in enumerate(ranking(summary, first), 1):
        row = summary[solver]
        cells = [Cell(str(rank), rank), Cell(solver)]
        cells += [_score_cell(row, name, best[name]) for name in quality]
        cells += [_cost_cell(row, name) for name in costs]
        body.append([*cells, Cell(str(n_images[solver]), n_images[solver])] if unequal else cells)
    notes = [
        f"{interval_note(rows, summary)}; sorted by {metric(first).label}, best in bold; "
        "↑ higher is better, ↓ lower; costs without an arrow"
    ]
    if oracles := _oracles(rows):
        notes.append(f"no competitors, they see the truth: {', '.join(oracles)}")
    columns = ["#", "solver", *map(heading, quality), *_labels(costs), *(["n"] if unequal else [])]
    return Table(task, notes, _definitions([*quality, *costs]), columns, body, origin_note(rows))


def _oracles(rows):
    """Solvers whose samples are made with the truth, as the objective marked them."""
    return sorted(rows["solver_name"][rows["objective_oracle"].notna()].unique()) if "objective_oracle" in rows else []


def overall(df, compared):
    """Mean ranks over the tasks of one of :func:`benchmark_utils.results.comparisons`."""
    chosen, solvers = comparisons(df)[compared]
    notes = []
    for solver in df["solver_name"].unique():
        if solver not in solvers:
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
        interval = f"{standing.mean_rank:.2f} [{standing.low:.2f}, {standing.high:.2f}]"
        ahead = Cell(MISSING) if np.isnan(standing.ahead) else Cell(f"{standing.ahead:.3f}", standing.ahead)
        won = Cell(str(standing.n_won), standing.n_won)
        cells = [Cell(str(number), number), Cell(standing.solver), Cell(interval, standing.mean_rank, number == 1)]
        body.append([*cells, ahead, won])
    images = ", ".join(f"{task}: {n}" for task, n in n_images.items())
    notes.insert(
        0, f"{len(solvers)} solvers on {len(chosen)} tasks, ranked by {ranked_by}; images of each task: {images}"
    )
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
    best = {name: _best(summary, name) for name in shown}
    body = []
    for rank, solver in enumerate(ranking(summary, shown[0]), 1):
        cells = [_score_cell(summary[solver], name, best[name]) for name in shown]
        body.append([Cell(str(rank), rank), Cell(solver), *cells])
    drawn = rows["p_obj_n_samples"].dropna().unique() if "p_obj_n_samples" in rows else []
    per_image = f"; {', '.join(f'{n:.0f}' for n in drawn)} samples per image" if len(drawn) else ""
    notes = [f'{interval_note(rows, summary)}{per_image}; a score without "best" or "mean" is of a single sample']
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
    order = ranking(summary, shown[0])
    floors = {name: summary[order[0]][f"{name}_floor"] for name in shown if f"{name}_floor" in measured}
    floor = {"variance_ratio": Score(1.0, np.nan, 0)} | floors
    body = [[Cell("0", 0), Cell("floor of exact draws"), *(_score_cell(floor, name) for name in shown)]]
    body[0] += [Cell(MISSING)] * len(costs)
    for rank, solver in enumerate(order, 1):
        row = summary[solver]
        cells = [*(_score_cell(row, name) for name in shown), *(_cost_cell(row, name) for name in costs)]
        body.append([Cell(str(rank), rank), Cell(solver), *cells])
    notes = [f"{interval_note(rows, summary)}; first row: what as many exact draws reach, their own Monte-Carlo error"]
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


def _published_setting(rows):
    """(prior, task) of the MGDM paper's tables that rows may be compared with, None if there are none."""
    setting = rows.iloc[0]
    prior, task = setting.get("p_dataset_prior"), MGDM_TASKS.get(setting["objective_task"])
    if setting["objective_task"] == "separation":
        length, sigma_max = setting.get("p_dataset_chunk_length"), setting.get("p_dataset_sigma_max")
        same = (length, sigma_max) == (MGDM_CHUNK_LENGTH, MGDM_SIGMA_MAX)
        return (prior, task) if prior in MGDM_STEM_PRIORS and same else None
    same_noise = setting.get("p_dataset_noise_std") == MGDM_NOISE_STD and isna(setting.get("p_dataset_poisson_rate"))
    return (MGDM_PRIORS[prior], task) if prior in MGDM_PRIORS and task is not None and same_noise else None


def _published_text(score):
    return f"{score.mean:.2f}" if np.isnan(score.half_width) else f"{score.mean:.2f} ± {score.half_width:.2f}"


def paper_comparison(df, task):
    """Measured scores beside those published with MGDM, and their difference in units of the combined interval."""
    rows = rows_of(df, task)
    setting = _published_setting(rows)
    if setting is None:
        applies = (
            f"published: the ten image tasks with prior {', '.join(MGDM_PRIORS)} and noise_std {MGDM_NOISE_STD}, "
            f"and separation with prior {', '.join(MGDM_STEM_PRIORS)}"
        )
        return _note_table(task, f"no published number applies to {task}; {applies}")
    prior, paper_task = setting
    separation = paper_task == MGDM_TASKS["separation"]
    compared = {name: name for name in ("lpips", "psnr", "ssim")}
    if separation:
        compared = {name: name for name in ("si_sdri_all", *(f"si_sdri_{stem}" for stem in STEMS))}
    elif paper_task == "Phase retrieval":
        # the published one keeps the best of four samples by LPIPS; that one's PSNR and SSIM are not measured
        compared = {"lpips": "lpips_best"}
    summary = scores(rows)
    body = []
    for solver in ranking(summary, headline(rows)):
        method = solver if separation else solver.split("[")[0]
        for name, ours_name in compared.items():
            theirs = mgdm_tables().get((prior, paper_task, method, name))
            ours = summary[solver].get(ours_name)
            if theirs is None or ours is None:
                continue
            combined = np.hypot(np.maximum(theirs.half_width, MGDM_ROUNDING), ours.half_width)
            difference = (ours.mean - theirs.mean) / combined
            shown = Cell(MISSING) if np.isnan(difference) else Cell(f"{difference:+.2f}", difference)
            cells = [Cell(solver), Cell(heading(ours_name)), Cell(_published_text(theirs))]
            body.append([*cells, _score_cell(summary[solver], ours_name), shown, Cell(str(ours.n), ours.n)])
    if not body:
        return _note_table(task, f"no published score of these solvers on {paper_task}")
    body = [[Cell(str(number), number), *row] for number, row in enumerate(body, 1)]
    source = "published: MGDM, ICML 2025, https://arxiv.org/abs/2502.03332, "
    notes = [
        f"{source}table 9 and figure 3 (those without an interval), methods with their published parameters only"
        if separation
        else f"{source}tables 6 to 8, 300 images, two decimals; "
        "phase retrieval there is the best of four samples by LPIPS",
        f"measured: {interval_note(rows, summary)}",
        "difference: (measured - published) / √(CI² + CI²), a published CI below 0.005 taken as 0.005; "
        "within ±1 the two agree",
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
