"""The electrocardiograms of a run: per lead the truth, what was seen of it, and the draws of a method."""

from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark_utils.files.ptbxl import LEADS, SAMPLE_RATE
from benchmark_utils.results import pictures, scores

NO_TRACES = "no electrocardiograms"
DPI = 80
NOTE = (
    "black: truth; green: what was measured; red: mean and range of all D draws, which holds (D - 1) / (D + 1) of the "
    "truth if their law is right, 0.82 with ten; blue: single draws"
)


class Trace(NamedTuple):
    """What a method made of one record; arrays are (leads, time), ``draws`` (k, leads, time), the rest as stored."""

    label: str
    truth: np.ndarray
    seen: np.ndarray
    mean: np.ndarray
    band: np.ndarray
    draws: np.ndarray


@scores.once_per_frame
def trace_cells(df):
    """One row per (task, solver): the cell whose traces are shown."""
    return pictures.cells_with(df, "draws_of_leads")


def trace_tasks(df):
    """Tasks that have traces; one placeholder where a run has none."""
    return scores.tasks(trace_cells(df)) or [NO_TRACES]


def traces(df, task):
    """A :class:`Trace` per record and solver, records first, solvers in the order of the leaderboard."""
    if task not in scores.tasks(trace_cells(df)):
        return []
    rows = scores.rows_of(df, task)
    cells = scores.rows_of(trace_cells(df), task).set_index("solver_name")["final_results"]
    by_solver = pictures.rows_of_cells(df, task, trace_cells(df))
    first = scores.headline(rows)
    order = [solver for _, solver in scores.numbered(rows, scores.scores(rows), first) if solver in cells.index]
    found = []
    for i in pictures.shared_places(by_solver, min(len(cells[solver]["truth"]) for solver in order)):
        for solver in order:
            row, stored = by_solver[solver].loc[i], cells[solver]
            score = f"{pictures.score_label(rows, first)} {row[f'objective_{first}']:.3f}"
            label = f"{row['objective_file']}, {scores.solver_label(rows, solver)}: {score}"
            parts = (np.asarray(stored[name][i], float) for name in ("truth", "seen", "mean", "band", "draws_of_leads"))
            found.append(Trace(label, *parts))
    return found


def title(df, task):
    """The task and what the colours are, or that it has no traces."""
    return f"{task}: {NOTE}" if traces(df, task) else f"{task}: no traces, which only electrocardiograms have"


def draw_trace(trace):
    """A figure with one panel per lead."""
    figure = Figure(figsize=(11, 6.5), dpi=DPI)
    panels = figure.subplots(3, 3, sharex=True).T.flatten()
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.07, top=0.92, hspace=0.12, wspace=0.1)
    time = np.arange(trace.truth.shape[1]) / SAMPLE_RATE
    for j, (panel, lead) in enumerate(zip(panels, LEADS, strict=True)):
        panel.fill_between(time, *trace.band[:, j], color="C3", alpha=0.25, linewidth=0)
        panel.plot(time, trace.draws[:, j].T, color="C0", linewidth=0.4, alpha=0.7)
        panel.plot(time, trace.truth[j], color="black", linewidth=1.1)
        panel.plot(time, trace.mean[j], color="C3", linewidth=1.1)
        panel.plot(time, trace.seen[j], color="C2", linewidth=1.1)
        panel.text(0.01, 0.97, lead, transform=panel.transAxes, va="top", weight="bold")
        low, high = trace.truth[j].min(), trace.truth[j].max()
        panel.set_ylim(low - 0.4 * (high - low), high + 0.4 * (high - low))
        panel.tick_params(labelsize=7)
        panel.margins(x=0)
    for panel in panels[2::3]:
        panel.set_xlabel("seconds", fontsize=8)
    figure.suptitle(trace.label, fontsize=10)
    return figure


def trace_pixels(trace):
    """The figure of a trace as a uint8 picture (H, W, 3)."""
    canvas = FigureCanvasAgg(draw_trace(trace))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
