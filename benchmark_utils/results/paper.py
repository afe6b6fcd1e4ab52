"""What is known of the MGDM paper: its tables, which rows of a run they compare with, and the comparison."""

import csv
import functools

import numpy as np
import yaml

from benchmark_utils.files.paths import asset
from benchmark_utils.metrics import STEMS
from benchmark_utils.provenance import ROOT
from benchmark_utils.results.scores import (
    Score,
    headline,
    interval_note,
    numbered,
    origin_note,
    rows_of,
    scores_and_fid,
    solver_label,
)
from benchmark_utils.results.tables import MISSING, Cell, Table, define, heading, note_table, score_cell
from benchmark_utils.runs.cells import requested_cells, task_label

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
    # of separation the tables name methods with their parameters, more than the config runs: compare them by that name
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
        return note_table(task, f"no published number applies to {task}; {PUBLISHED}")
    separation = paper_task == MGDM_TASKS["separation"]
    compared = {name: name for name in ("lpips", "psnr", "ssim", "fid")}
    if separation:
        compared = {name: name for name in ("si_sdri_all", *(f"si_sdri_{stem}" for stem in STEMS))}
    elif paper_task == MGDM_TASKS["phase_retrieval"]:
        # published: the best of four samples by LPIPS, whose PSNR, SSIM and FID we do not measure
        compared = {"lpips": "lpips_best"}
    summary = scores_and_fid(rows)
    body = []
    for _, solver in numbered(rows, summary, headline(rows)):
        for name, ours_name in compared.items():
            theirs = mgdm_tables().get((prior, paper_task, methods.get(solver), name))
            ours = summary[solver].get(ours_name)
            if theirs is None or ours is None:
                continue
            combined = np.hypot(np.maximum(theirs.half_width, MGDM_ROUNDING), ours.half_width)
            difference = (ours.mean - theirs.mean) / combined
            shown = Cell(MISSING) if np.isnan(difference) else Cell(f"{difference:+.2f}", difference)
            cells = [Cell(solver_label(rows, solver)), Cell(heading(ours_name)), Cell(_published_text(theirs))]
            body.append([*cells, score_cell(summary[solver], ours_name), shown, Cell(str(ours.n), ours.n)])
    in_paper = {method.split("[")[0] for method in methods.values()}
    others = [solver for solver in summary if solver not in methods and solver.split("[")[0] in in_paper]
    left_out = [f"left out, settings that the paper does not report: {', '.join(others)}"] if others else []
    if not body:
        return note_table(task, "; ".join([f"no published score of these solvers on {paper_task}", *left_out]))
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
    definitions = define(compared.values())
    columns = ["#", "solver", "score", "published", "measured", "difference / CI", "n"]
    return Table(task, notes, definitions, columns, body, origin_note(rows))
