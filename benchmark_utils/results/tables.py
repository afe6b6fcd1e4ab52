"""The tables of a run: leaderboard, mean ranks over tasks, several samples, exactness, missing cells."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmark_utils.metrics import DIVERGED
from benchmark_utils.results import scores
from benchmark_utils.runs.cells import (
    command_line_request,
    diverged_cells,
    missing_among_rows,
    missing_cells,
    output_folder,
    task_label,
)

CALIBRATION = ("coverage_50", "coverage_80", "coverage_90", "crps", "energy_score")
OF_SAMPLES = ("lpips_best", "psnr_mean", "si_sdri_mean", "spread", "ess", *CALIBRATION, "tarp")
EXACTNESS = ("sliced_wasserstein", "mean_error", "variance_ratio", "mode_tv")
EXACTNESS += ("label_probability", "mmd", "precision", "recall", "density", "coverage", "class_accuracy")
ARROWS = {1: " ↑", -1: " ↓", 0: ""}
MISSING = "–"
MISSING_COLUMNS = ["#", "solver", "task", "status", "cells", "why"]
ONE_SAMPLE = "one sample per image"
NO_CLOSED_FORM = "no task with a closed form"
FLOOR = "floor of exact draws"
ABSENT = ("not ranked", "not compared")  # how notes on absent solvers and tasks begin


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
    return scores.metric(name).label + ARROWS[scores.metric(name).direction]


def _labels(names):
    return [scores.metric(name).label for name in names]


def score_cell(row, name, best=None):
    if name not in row:
        return Cell(MISSING)
    return Cell(str(row[name]), row[name].mean, best is not None and str(row[name]) == str(best))


def _cost_cell(row, name):
    return Cell(scores.format_number(row[name].mean), row[name].mean) if name in row else Cell(MISSING)


def _cost_range(df, chosen, solver, name):
    """Smallest and largest mean cost over tasks, sorted by its mean."""
    rows = (scores.scores(scores.rows_of(df, task))[solver] for task in chosen)
    means = [row[name].mean for row in rows if name in row]
    if not means:
        return Cell(MISSING)
    shown = dict.fromkeys(scores.format_number(limit) for limit in (min(means), max(means)))
    return Cell(" to ".join(shown), sum(means) / len(means))


def notes_on_competition(rows):
    """Which solvers do not compete, and why."""
    aside = ", ".join(f"{solver} {why}" for solver, why in scores.references(rows).items())
    notes = [f"number 0, no competitors: {aside}"] if aside else []
    if shares := scores.diverged(rows):
        found = ", ".join(f"{solver} ({share:.1%} of its draws)" for solver, share in shares.items())
        notes.append(f"last, no competitors: {found} diverged, {DIVERGED} times outside the range of the signals")
    return notes


def _best(rows, summary, name):
    """``{solver: the best score of a column}`` of those who compete; none where no direction is better."""
    direction, left_out = scores.metric(name).direction, scores.out_of_competition(rows)
    found = {solver: row[name] for solver, row in summary.items() if name in row and solver not in left_out}
    if not (direction and found):
        return {}
    return dict.fromkeys(found, max(found.values(), key=lambda score: direction * score.mean))


def define(names):
    return {scores.metric(name).label: scores.metric(name).definition for name in names}


def definitions(df, task):
    """What each score and cost of a task is, and in which direction it is better."""
    rows, better = scores.rows_of(df, task), {1: "higher", 0: "neither", -1: "lower"}
    found = [scores.metric(name) for name in [*scores.metrics_of(rows), *(["fid"] if scores.fids(rows) else [])]]
    body = [[Cell(metric.label), Cell(better[metric.direction]), Cell(metric.definition)] for metric in found]
    return Table(task, [], {}, ["score", "better", "definition"], body, scores.origin_note(rows))


def definitions_text(definitions):
    """Definitions as one line."""
    return "; ".join(f"{label}: {definition}" for label, definition in definitions.items())


# Tables


def note_table(task, note):
    return Table(task, [], {}, ["note"], [[Cell(note)]])


def leaderboard(df, task):
    """Scores and costs of every solver of a task, best first."""
    rows = scores.rows_of(df, task)
    summary, first, measured = scores.scores_and_fid(rows), scores.headline(rows), scores.metrics_of(rows)
    elsewhere = (first, *scores.COSTS, *EXACTNESS, *OF_SAMPLES)
    others = [name for name in measured if name not in elsewhere and not name.endswith("_floor")]
    quality = [first, *others, *(["fid"] if any("fid" in row for row in summary.values()) else [])]
    costs = [name for name in scores.COSTS if name in measured]
    best = {name: _best(rows, summary, name) for name in quality}
    n_images = scores.counts(summary)
    unequal = len(set(n_images.values())) > 1
    body = []
    for number, solver in scores.numbered(rows, summary, first):
        row = summary[solver]
        cells = [Cell(str(number), number), Cell(scores.solver_label(rows, solver))]
        cells += [score_cell(row, name, best[name].get(solver)) for name in quality]
        cells += [_cost_cell(row, name) for name in costs]
        body.append([*cells, Cell(str(n_images[solver]), n_images[solver])] if unequal else cells)
    notes = [
        f"{scores.interval_note(rows, summary)}; sorted by {scores.metric(first).label}, best in bold; "
        "↑ higher is better, ↓ lower; costs without an arrow",
        *notes_on_competition(rows),
        *scores.unequal_rows(rows),
    ]
    columns = ["#", "solver", *map(heading, quality), *_labels(costs), *(["n"] if unequal else [])]
    return Table(task, notes, define([*quality, *costs]), columns, body, scores.origin_note(rows))


def overall(df, compared):
    """Mean ranks over the tasks of one of :func:`benchmark_utils.results.scores.comparisons`."""
    chosen, solvers = scores.comparisons(df)[compared]
    notes, aside = [], scores.references(df)
    for solver in df["solver_name"].unique():
        if solver in aside:
            notes.append(f"not ranked: {solver}, {aside[solver]}")
        elif solver not in solvers:
            rows = {task: scores.rows_of(df, task) for task in chosen}
            lacking = [task for task in chosen if solver not in scores.ranked(rows[task])]
            named = (f"{task} (diverged)" if solver in scores.diverged(rows[task]) else task for task in lacking)
            notes.append(f"not ranked: {solver}, no score on {', '.join(named)}")
    for task in scores.tasks(df):
        if task not in chosen:
            rows = scores.rows_of(df, task)
            lacking = [scores.solver_label(rows, solver) for solver in solvers if solver not in scores.ranked(rows)]
            notes.append(f"not compared: {task}, no score of {', '.join(lacking)}")
    if len(solvers) < 2:
        return note_table(compared, "; ".join(["a rank needs two solvers on the same task", *notes]))
    found, n_images = scores.standings(df, chosen, solvers)
    if not found:
        return note_table(compared, "the solvers have no image in common")
    ranked_by = ", ".join(dict.fromkeys(heading(scores.headline(scores.rows_of(df, task))) for task in chosen))
    body = []
    places = [standing.mean_rank for standing in found]
    measured = {name for task in chosen for name in scores.metrics_of(scores.rows_of(df, task))}
    costs = [name for name in scores.COSTS[:2] if name in measured]
    for standing in found:
        number = 1 + places.index(standing.mean_rank)  # equal means share it
        interval = "" if np.isnan(standing.low) else f" [{standing.low:.2f}, {standing.high:.2f}]"
        mean_rank = Cell(f"{standing.mean_rank:.2f}{interval}", standing.mean_rank, number == 1)
        ahead = Cell(MISSING) if np.isnan(standing.ahead) else Cell(f"{standing.ahead:.3f}", standing.ahead)
        won = Cell(str(standing.n_won), standing.n_won)
        shown = (_cost_range(df, chosen, standing.solver, name) for name in costs)
        body.append([Cell(str(number), number), Cell(standing.solver), mean_rank, ahead, won, *shown])
    images = ", ".join(f"{task}: {n}" for task, n in n_images.items())
    notes.insert(
        0, f"{len(solvers)} solvers on {len(chosen)} tasks, ranked by {ranked_by}; images of each task: {images}"
    )
    if single := [task for task, n in n_images.items() if n == 1]:
        notes.insert(1, f"no interval and no certainty, since one image shows no variation: {', '.join(single)}")
    definitions = {
        "mean rank": "rank 1 is the best mean score over the images that all these solvers have, equal means share "
        "their ranks; averaged over the tasks, equal averages share a number; in brackets the 2.5 % and 97.5 % "
        f"quantiles over {scores.N_RESAMPLES} paired bootstrap resamples of the images, the same images for every "
        "solver and for all tasks that share them. The interval holds the variation between images, not between seeds "
        "or tasks",
        "ahead of the next": "share of the resamples in which the mean rank is below that of the next row, ties count "
        "half: below 0.975 the order of the two may be chance",
        "tasks won": "tasks on which its mean is the best",
    }
    for label, text in define(costs).items():
        definitions[label] = (
            f"{text}; here the smallest and the largest of its means over the tasks, sorted by the average over all"
        )
    columns = ["#", "solver", "mean rank ↓", "ahead of the next", "tasks won", *_labels(costs)]
    return Table(compared, notes, definitions, columns, body, scores.origin_note(df))


def missing(df, config=None, outputs=None):
    """The cells that were asked for and have no row, with the reason.

    The cells asked for are those of a run config; without one, those of the ``benchopt run`` that is running; else
    every combination of the datasets and solvers in the rows. ``outputs`` is the folder of the results, by default
    benchopt's.
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
    for cell in [*diverged_cells(df), *found]:
        key = (cell.status, cell.solver, task_label(cell.dataset, cell.objective), cell.reason)
        groups[key] = groups.get(key, 0) + 1
    if not groups:
        return note_table("missing cells", f"no cell is missing, {asked}")
    body = []
    for number, ((status, solver, task, reason), n) in enumerate(sorted(groups.items()), 1):
        shown = Cell(status, best=status != "skipped")
        body.append([Cell(str(number), number), Cell(solver), Cell(task), shown, Cell(str(n), n), Cell(reason)])
    definitions = {
        "diverged": "it has rows, which do not compete",
        "missing": "asked for and not finished: a rerun of the same command computes only these",
        "skipped": "the solver cannot do the task, or the data are not there",
        "cells": "image ranges and repetitions",
    }
    note = f"cells without a row, {asked}, and those with draws that diverged"
    return Table("missing cells", [note], definitions, MISSING_COLUMNS, body)


def _tasks_with(df, names):
    """Tasks that have one of some scores."""
    return [task for task in scores.tasks(df) if not set(names).isdisjoint(scores.metrics_of(scores.rows_of(df, task)))]


def samples_tasks(df):
    """Tasks with scores of several samples per image; one placeholder where a run has none."""
    return _tasks_with(df, OF_SAMPLES) or [ONE_SAMPLE]


def samples(df, task):
    """Best, mean and spread of the samples of an image, beside the score of a single one."""
    if task == ONE_SAMPLE:
        return note_table(task, 'spread, best and mean of the samples of an image: draw several, -o "*[n_samples=8]"')
    rows = scores.rows_of(df, task)
    summary, measured = scores.scores(rows), scores.metrics_of(rows)
    shown = [name for name in (scores.headline(rows), "psnr", *OF_SAMPLES) if name in measured]
    shown = list(dict.fromkeys(shown))
    best = {name: _best(rows, summary, name) for name in shown}
    body = []
    for number, solver in scores.numbered(rows, summary, shown[0]):
        cells = [score_cell(summary[solver], name, best[name].get(solver)) for name in shown]
        body.append([Cell(str(number), number), Cell(scores.solver_label(rows, solver)), *cells])
    drawn = rows["p_obj_n_samples"].dropna().unique() if "p_obj_n_samples" in rows else []
    per_image = f"; {', '.join(f'{n:.0f}' for n in drawn)} samples per image" if len(drawn) else ""
    of_one = 'LPIPS, PSNR, SSIM and data misfit without "best" or "mean" are of a single sample'
    notes = [f"{scores.interval_note(rows, summary)}{per_image}; {of_one}"]
    notes += notes_on_competition(rows)
    return Table(task, notes, define(shown), ["#", "solver", *map(heading, shown)], body, scores.origin_note(rows))


def exactness_tasks(df):
    """Tasks with scores against a closed-form posterior; one placeholder where a run has none."""
    return _tasks_with(df, EXACTNESS) or [NO_CLOSED_FORM]


def exactness(df, task):
    """Distance to the exact posterior of every solver of a task, below the floor that exact draws reach."""
    if task == NO_CLOSED_FORM:
        remedy = "needs a prior with a closed form and several draws, e.g. prior=faces64_mfa and n_samples=8"
        return note_table(task, f"distance to the exact posterior: {remedy}")
    rows = scores.rows_of(df, task)
    summary, measured = scores.scores(rows), scores.metrics_of(rows)
    shown = [name for name in (*EXACTNESS, *CALIBRATION) if name in measured]
    costs = scores.COSTS[:3]
    order = scores.numbered(rows, summary, shown[0])
    floors = {}
    for solver in reversed(scores.ranking(summary, shown[0])):  # each of the best solver that has it
        floors |= {name: summary[solver][f"{name}_floor"] for name in shown if f"{name}_floor" in summary[solver]}
    floor = {"variance_ratio": scores.Score(1.0, np.nan, 0)} | floors
    body = [[Cell("0", 0), Cell(FLOOR), *(score_cell(floor, name) for name in shown)]]
    body[0] += [Cell(MISSING)] * len(costs)
    for number, solver in order:
        row = summary[solver]
        cells = [*(score_cell(row, name) for name in shown), *(_cost_cell(row, name) for name in costs)]
        body.append([Cell(str(number), number), Cell(scores.solver_label(rows, solver)), *cells])
    notes = [
        f"{scores.interval_note(rows, summary)}; first row: what as many exact draws reach, their own Monte-Carlo error"
    ]
    notes += notes_on_competition(rows)
    definitions = define([*shown, *(f"{name}_floor" for name in floors), *costs])
    return Table(
        task, notes, definitions, ["#", "solver", *map(heading, shown), *_labels(costs)], body, scores.origin_note(rows)
    )
