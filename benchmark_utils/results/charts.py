"""Quality against cost, and the distribution over images: what the page's charts and the report's draw."""

from typing import NamedTuple

import numpy as np

from benchmark_utils.results import scores
from benchmark_utils.results.tables import heading

COST_AXES = {
    "NFE + VJP": ("denoiser evaluations + backward passes per sample", ("nfe", "vjp")),
    "seconds": ("seconds per image", ("seconds_per_image",)),
}
FRONT_LABEL = "Pareto front (NFE > 0, no oracle, none that diverged)"


class Point(NamedTuple):
    """A solver in the plane of cost and quality; ``on_front``: no other is at once as good and as cheap.

    Oracles are not on the front, nor are solvers that diverged, which ``label`` marks, nor those that never call the
    denoiser (silence, filters, exact posteriors, supervised networks): beside these, at no cost, no sampler would be.
    """

    solver: str
    label: str
    cost: float
    quality: scores.Score
    on_front: bool


def cost_label(axis):
    """Label of a cost axis that is shown on a logarithmic scale, see :func:`log_position`."""
    return COST_AXES[axis][0] + (" (log scale, none drawn at 1)" if axis == "NFE + VJP" else " (log scale)")


def log_position(cost, axis):
    """Position of a cost on its logarithmic axis; a cost of 0 is drawn at 1."""
    return max(cost, 1.0) if axis == "NFE + VJP" else cost


def quality_label(df, task):
    """Label of the quality axis: the headline, its direction and its interval."""
    rows = scores.rows_of(df, task)
    return f"{heading(scores.headline(rows))}, {scores.interval_note(rows, scores.scores(rows))}"


def tradeoff(df, task, axis):
    """A :class:`Point` per solver, cheapest first; ``axis`` is a key of ``COST_AXES``."""
    rows = scores.rows_of(df, task)
    first, summary = scores.headline(rows), scores.scores(rows)
    direction = scores.metric(first).direction
    measured = {solver: row for solver, row in summary.items() if first in row and not np.isnan(row[first].mean)}
    cost = {solver: sum(row[name].mean for name in COST_AXES[axis][1]) for solver, row in measured.items()}
    left_out, best_so_far, points = scores.out_of_competition(rows), -np.inf, []
    for solver in sorted(measured, key=lambda s: (cost[s], -direction * measured[s][first].mean)):
        quality = measured[solver][first]
        competes = measured[solver]["nfe"].mean > 0 and solver not in left_out
        on_front = competes and direction * quality.mean > best_so_far
        if competes:
            best_so_far = max(best_so_far, direction * quality.mean)
        points.append(Point(solver, scores.solver_label(rows, solver), cost[solver], quality, on_front))
    return points


def box_values(df, task):
    """``[(solver, its label, headline of each image)]``, in the order of the leaderboard."""
    rows = scores.rows_of(df, task)
    name = scores.headline(rows)
    values = scores.per_image(rows, [name]).iloc[:, 0].dropna()
    order = [s for _, s in scores.numbered(rows, scores.scores(rows), name) if s in values.index.unique(0)]
    return [(solver, scores.solver_label(rows, solver), values[solver].to_numpy()) for solver in order]


def box_label(df, task):
    """Label of the axis of :func:`box_values`."""
    rows = scores.rows_of(df, task)
    return f"{heading(scores.headline(rows))} of each image"
