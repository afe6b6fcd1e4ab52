"""Whether the truth ranks among a solver's draws as one of them: curves with null bands, and their table.

The unit is the truth. Where the posterior is known, the rows carry rank histograms of exact draws among exact draws; a
null band is that of means over n truths, n as in the run, drawn from these. The bands hold for all points of all curves
of one solver at once, with the probability ``FAMILYWISE`` that a right one leaves them anywhere.
"""

from typing import NamedTuple

import numpy as np

from benchmark_utils.calibration import rank_bins
from benchmark_utils.metrics import mean_and_ci
from benchmark_utils.results import scores
from benchmark_utils.results.tables import (
    CALIBRATION,
    MISSING,
    Cell,
    Table,
    define,
    heading,
    note_table,
    notes_on_competition,
    score_cell,
)

CURVES = {
    "central intervals": ("nominal coverage of the central interval", "share of values inside, mean over truths"),
    "rank histogram": ("rank of the truth among the draws, 0 to 1", "share of values / nominal share"),
    "random regions": ("level", "share of truths inside (TARP)"),
}
FAMILYWISE = 0.01
N_REPLICATES = 4000
FEW = 10  # truths, of which a band is wide
SMALLEST_SPREAD = 1e-6  # above the rounding of the histograms, which are in float32
BAND_LABEL = f"band of exact draws, {1 - FAMILYWISE:.0%}"
ONE_DRAW = "one draw per truth"
NOMINAL = "nominal"
REMEDY = 'calibration needs several draws of each truth: -o "*[n_samples=16]"'


class Curve(NamedTuple):
    """Values ``found`` of one solver at positions ``x``, and the null band, of NaN where none is known."""

    x: np.ndarray
    found: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def excess(self):
        """Largest distance from the middle of the band in units of its half-width: above 1 is outside; NaN without."""
        half_width = (self.high - self.low) / 2
        return float(np.max(np.abs(self.found - (self.high + self.low) / 2) / half_width))


def calibration_tasks(df):
    """Tasks with several draws of known truths; one placeholder where a run has none."""
    if "objective_rank_histogram" not in df:
        return [ONE_DRAW]
    return [t for t in scores.tasks(df) if scores.rows_of(df, t)["objective_rank_histogram"].notna().any()] or [
        ONE_DRAW
    ]


@scores.once_per_frame
def curves(rows):
    """``{solver: {name: Curve}}`` of a task, each truth once: the first repetition, and one of overlapping shards."""
    found = {}
    for solver, cells in rows.groupby("solver_name", sort=False):
        cells = cells[cells["idx_rep"] == cells["idx_rep"].min()].dropna(subset=["objective_rank_histogram"])
        cells = cells.drop_duplicates(scores.unit_columns(cells))
        if len(cells):
            found[solver] = _curves_of(cells)
    return found


def _curves_of(cells):
    """The curves of the rows of one solver."""
    n_draws, n = int(cells["objective_n_draws"].iloc[0]), len(cells)
    histograms = np.stack(cells["objective_rank_histogram"].to_list()).astype(float)
    nominal = np.bincount(rank_bins(n_draws)) / (n_draws + 1)
    random = np.random.default_rng(0)
    known = "objective_rank_null" in cells and cells["objective_rank_null"].notna().all()
    null_ranks = np.full((N_REPLICATES, len(nominal)), np.nan)
    if known:
        null_ranks[:] = 0
        for null in cells["objective_rank_null"]:
            replicates = np.asarray(null, float).reshape(-1, len(nominal))
            null_ranks += replicates[random.integers(len(replicates), size=N_REPLICATES)] / n
    steps = np.unique(np.linspace(0, n_draws, 11).round().astype(int)[1:-1])
    places = cells["objective_tarp"].to_numpy() * (n_draws - 1)
    null_places = random.integers(n_draws, size=(N_REPLICATES, n))
    x = {
        "central intervals": _central(nominal),
        "rank histogram": np.cumsum(nominal) - nominal / 2,
        "random regions": steps / n_draws,
    }
    middle = x | {"rank histogram": np.ones(len(nominal))}
    values = {
        "central intervals": _central(histograms.mean(0)),
        "rank histogram": histograms.mean(0) / nominal,
        "random regions": _below(places[None], steps)[0],
    }
    null = {
        "central intervals": _central(null_ranks),
        "rank histogram": null_ranks / nominal,
        "random regions": _below(null_places, steps),
    }
    spread = {name: np.maximum(null[name].std(0), SMALLEST_SPREAD) for name in null}
    far = [np.abs(null[name] - middle[name]) / spread[name] for name in null if not np.isnan(spread[name]).any()]
    critical = np.quantile(np.concatenate(far, 1).max(1), 1 - FAMILYWISE)
    return {
        name: Curve(
            x[name], values[name], middle[name] - critical * spread[name], middle[name] + critical * spread[name]
        )
        for name in x
    }


def _central(histograms):
    """Coverage (..., intervals) of the central bins of rank histograms (..., bins), the narrowest interval first."""
    n_bins = histograms.shape[-1]
    return np.stack([histograms[..., k : n_bins - k].sum(-1) for k in range((n_bins - 1) // 2, 0, -1)], -1)


def _below(places, steps):
    """Share of the truths (replicates, n) whose place among the draws is below each step; half a place counts half."""
    edges = steps - 0.5
    return ((places[..., None] < edges).mean(1) + (places[..., None] <= edges).mean(1)) / 2


def paired_difference(rows, solver, name):
    """Score of ``solver`` minus that of exact draws for the same truths, or None where these are not known."""
    if f"objective_{name}_floor" not in rows:
        return None
    table = scores.per_image(rows[rows["solver_name"] == solver], [name, f"{name}_floor"]).dropna()
    difference = table[f"objective_{name}"] - table[f"objective_{name}_floor"]
    return scores.Score(*mean_and_ci(difference), len(difference)) if len(difference) else None


def calibration_table(df, task):
    """Coverage, and by how much each curve leaves its band, of every solver; paired differences to exact draws."""
    if task == ONE_DRAW:
        return note_table(task, REMEDY)
    rows = scores.rows_of(df, task)
    summary, found = scores.scores(rows), curves(rows)
    of_scores = ("crps", "energy_score")
    order = scores.numbered(rows, {solver: summary[solver] for solver in found}, "energy_score")
    nominal = [scores.Score(summary[order[0][1]][f"{name}_floor"].mean, np.nan, 0) for name in CALIBRATION[:3]]
    body = [[Cell("0", 0), Cell(NOMINAL), *(Cell(str(score), score.mean) for score in nominal)]]
    body[0] += [Cell("1", 1.0)] * len(CURVES) + [Cell(MISSING)] * 4
    left_out = scores.out_of_competition(rows)
    for number, solver in order:
        excess = [curve.excess for curve in found[solver].values()]
        cells = [score_cell(summary[solver], name) for name in CALIBRATION[:3]]
        cells += [
            Cell(MISSING) if np.isnan(e) else Cell(f"{e:.2f}", e, e <= 1 and solver not in left_out) for e in excess
        ]
        for name in of_scores:
            difference = paired_difference(rows, solver, name)
            cells += [score_cell(summary[solver], name)]
            cells += [Cell(MISSING) if difference is None else Cell(str(difference), difference.mean)]
        body.append([Cell(str(number), number), Cell(scores.solver_label(rows, solver)), *cells])
    notes = [
        f"{scores.interval_note(rows, summary)}; excess: largest distance of a curve from its nominal value in units "
        f"of the null band, 1 is its edge, inside in bold; the three bands hold together with probability "
        f"{1 - FAMILYWISE:.0%}; where the posterior is not known, random regions alone have one; - exact: paired "
        "difference to exact draws",
        *notes_on_competition(rows),
    ]
    n_truths = min(summary[solver]["crps"].n for solver in found)
    if n_truths < FEW:
        notes.append(
            f"only {n_truths} truths: their null bands are wide, so that a wrong spread may stay inside, and exact "
            "draws leave them somewhat more often than that"
        )
    columns = ["#", "solver", *map(heading, CALIBRATION[:3]), *(f"excess of {name}" for name in CURVES)]
    for name in of_scores:
        columns += [heading(name), f"{scores.metric(name).label} - exact"]
    return Table(task, notes, define([*CALIBRATION, "tarp"]), columns, body, scores.origin_note(rows))
