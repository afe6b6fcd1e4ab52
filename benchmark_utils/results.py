"""What the page, the terminal summary and the report share: tasks, scores with intervals, tables and pictures.

Every function takes the dataframe of a run, as ``benchopt.results.read_results`` returns it: one row per image,
scores in columns ``objective_<metric>``, pictures in ``final_results`` of the last row of each cell.
"""

import csv
import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pandas import isna
from pandas.api.types import is_numeric_dtype
from PIL import Image

from benchmark_utils.hub import asset
from benchmark_utils.metrics import METRICS, Metric, mean_and_ci

# dataset parameters that only choose which images, tracks or random problems are run: not part of a task
SHARD_PARAMETERS = r"(?:first|n_images|n_problems|seed)=[^,\]]*|tracks=\d[^,\]]*"
COSTS = ("nfe", "vjp", "seconds_per_image", "peak_memory_gb")
COST_AXES = {
    "NFE + VJP": ("denoiser evaluations + backward passes per sample", ("nfe", "vjp")),
    "seconds": ("seconds per image", ("seconds_per_image",)),
}
EXACTNESS = ("sliced_wasserstein", "mean_error", "variance_ratio", "mode_tv")
ARROWS = {1: " ↑", -1: " ↓", 0: ""}
MISSING = "–"
FIGURE_SPACE = "\u2007"  # as wide as a digit, and before the digits in text order
NO_BREAK_SPACE = "\u00a0"
NO_CLOSED_FORM = "no task with a closed form"
NO_PICTURES = "no pictures"

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
}
MGDM_NOISE_STD = 0.05
MGDM_ROUNDING = 0.005  # the tables have two decimals, so neither a mean nor a half-width is known better

PICTURE_BUDGET = 6_000_000  # pixels of all pictures of a page; at 3 to 4 bytes each it stays below 25 MB
PICTURE_COLUMNS = 8


class Score(NamedTuple):
    """Mean over n images and half-width of its 95 % confidence interval (NaN if n = 1)."""

    mean: float
    half_width: float
    n: int

    def __str__(self):
        decimals = count_decimals(self.mean)
        mean = f"{self.mean:.{decimals}f}"
        # one image, or the same value for all: no interval
        return f"{mean} ± {self.half_width:.{decimals}f}" if self.half_width > 1e-12 * abs(self.mean) else mean


class Cell(NamedTuple):
    """A table cell: what is shown, the number it sorts by, whether it is the best of its column."""

    text: str
    value: float | None = None
    best: bool = False


@dataclass
class Table:
    """Rows of cells with what a reader needs: the task, how to read it, ``{label: definition}`` of its columns."""

    title: str
    notes: list
    definitions: dict
    columns: list
    rows: list


class Point(NamedTuple):
    """A solver in the plane of cost and quality; ``on_front``: no other is at once as good and as cheap."""

    solver: str
    cost: float
    quality: Score
    on_front: bool


class Picture(NamedTuple):
    """A labelled uint8 image (H, W) or (H, W, 3); ``pixels`` is None for an empty place of the grid."""

    label: str
    pixels: np.ndarray | None


# Tasks and their rows


def task_label(dataset_name, objective_name):
    """The dataset with its parameters, but not those of a shard or left at None, and the objective's if any are set."""
    left_out = rf"(?<=[\[,])({SHARD_PARAMETERS}|\w+=None)(,|(?=\]))"
    label = re.sub(left_out, "", dataset_name).replace(",]", "]").removesuffix("[]")
    shared = re.search(r"\[(.*)\]$", objective_name)
    return f"{label} {shared[1]}" if shared else label


def _names_by_task(df):
    found = {}
    for names in df[["dataset_name", "objective_name"]].drop_duplicates().itertuples(index=False):
        found.setdefault(task_label(*names), []).append(names)
    return found


def tasks(df):
    """Labels of the tasks of a run, in order of appearance; the shards of one task share its label."""
    return list(_names_by_task(df))


def rows_of(df, task):
    """The rows of one task, all shards and solvers together."""
    datasets, objectives = zip(*_names_by_task(df)[task], strict=True)
    return df[df["dataset_name"].isin(datasets) & df["objective_name"].isin(objectives)]


def metrics_of(rows):
    """Names of the numeric scores that these rows have, in the order of the objective."""
    columns = [c for c in rows.columns if c.startswith("objective_") and is_numeric_dtype(rows[c])]
    return [c.removeprefix("objective_") for c in columns if rows[c].notna().any() and c != "objective_image"]


def metric(name):
    """Label, direction and definition of a score; one that ``METRICS`` does not list is shown by its name."""
    return METRICS.get(name, Metric(name, 0, "not defined in benchmark_utils.metrics"))


def headline(rows):
    """The score that ranks the solvers of a task: the first one of its dataset's list."""
    return rows["objective_headline"].iloc[0]


def _unit_columns(rows):
    """What tells one problem from another: the image, and the seed where problems are drawn at random."""
    return [c for c in ("p_dataset_seed", "objective_image") if c in rows and rows[c].notna().any()]


def scores(rows):
    """``{solver: {metric: Score}}`` over the images of a task.

    Repetitions, and shards that overlap, are averaged image by image first: the images are the sample.
    """
    names = metrics_of(rows)
    columns = [f"objective_{name}" for name in names]
    per_image = rows.groupby(["solver_name", *_unit_columns(rows)], sort=False)[columns].mean()
    found = {}
    for solver, table in per_image.groupby("solver_name", sort=False):
        values = dict(zip(names, table.to_numpy().T, strict=True))
        measured = [name for name in names if not np.isnan(values[name]).all()]
        found[solver] = {name: Score(*mean_and_ci(values[name]), len(table)) for name in measured}
    return found


def ranking(summary, name):
    """Solvers of :func:`scores` from best to worst by one score; those without it last."""
    direction = metric(name).direction
    loss = {solver: -direction * row[name].mean if name in row else np.nan for solver, row in summary.items()}
    return sorted(summary, key=lambda solver: (np.isnan(loss[solver]), loss[solver]))


# Numbers as text


def count_decimals(value):
    """Decimals to show: four significant digits from 1 on, three below, none of it below 0.00001."""
    size = abs(value)
    if not np.isfinite(size) or size < 1e-5:
        return 3
    exponent = int(np.floor(np.log10(size)))
    return max(0, 3 - exponent) if exponent >= 0 else 2 - exponent


def format_number(value):
    """A number as text, whole numbers without decimals."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.{count_decimals(value)}f}"


def _heading(name):
    return metric(name).label + ARROWS[metric(name).direction]


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


def _counts(summary):
    """Number of images of each solver."""
    return {solver: max(score.n for score in row.values()) for solver, row in summary.items()}


def _interval_note(rows, summary):
    n_repetitions, found = rows["idx_rep"].nunique(), set(_counts(summary).values())
    n = found.pop() if len(found) == 1 else "n"
    units = "problems" if rows["objective_task"].iloc[0] in ("mixture", "gaussian") else "images"
    averaged = f", after averaging {n_repetitions} repetitions of each" if n_repetitions > 1 else ""
    return f"mean ± 1.96 sd / √n (95 % confidence) over {n} {units}{averaged}"


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
    others = [name for name in measured if name not in (first, *COSTS) and not name.endswith("_floor")]
    quality = [first, *others]
    costs = [name for name in COSTS if name in measured]
    best = {name: _best(summary, name) for name in quality}
    counts = _counts(summary)
    unequal = len(set(counts.values())) > 1
    body = []
    for rank, solver in enumerate(ranking(summary, first), 1):
        row = summary[solver]
        cells = [Cell(str(rank), rank), Cell(solver)]
        cells += [_score_cell(row, name, best[name]) for name in quality]
        cells += [_cost_cell(row, name) for name in costs]
        body.append([*cells, Cell(str(counts[solver]), counts[solver])] if unequal else cells)
    notes = [
        f"{_interval_note(rows, summary)}; sorted by {metric(first).label}, best in bold; ↑ higher is better, ↓ lower"
    ]
    columns = ["#", "solver", *map(_heading, [*quality, *costs]), *(["n"] if unequal else [])]
    return Table(task, notes, _definitions([*quality, *costs]), columns, body)


def exactness_tasks(df):
    """Tasks with scores against a closed-form posterior; one placeholder where a run has none."""
    columns = [f"objective_{name}" for name in EXACTNESS if f"objective_{name}" in df]
    return tasks(df[df[columns].notna().any(axis=1)]) or [NO_CLOSED_FORM]


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
    notes = [f"{_interval_note(rows, summary)}; first row: what as many exact draws reach, their own Monte-Carlo error"]
    definitions = _definitions([*shown, *(f"{name}_floor" for name in floors), *costs])
    return Table(task, notes, definitions, ["#", "solver", *map(_heading, [*shown, *costs])], body)


@functools.cache
def mgdm_tables():
    """Tables 6 to 8 of the MGDM paper: ``{(prior, task, method, metric): Score over 300 images}``."""
    published = {}
    with open(asset("mgdm_paper_tables.csv"), encoding="utf-8") as file:
        for line in csv.DictReader(file):
            key = (line["prior"], line["task"], line["method"].lower().replace("-", "_"), line["metric"].lower())
            published[key] = Score(float(line["mean"]), float(line["ci95"] or "nan"), 300)
    return published


def paper_comparison(df, task):
    """Measured scores beside those published with MGDM, and their difference in units of the combined interval."""
    rows = rows_of(df, task)
    setting = rows.iloc[0]
    prior, paper_task = setting.get("p_dataset_prior"), MGDM_TASKS.get(setting["objective_task"])
    same_noise = setting.get("p_dataset_noise_std") == MGDM_NOISE_STD and isna(setting.get("p_dataset_poisson_rate"))
    if prior not in MGDM_PRIORS or paper_task is None or not same_noise:
        applies = f"published: the ten tasks with prior {', '.join(MGDM_PRIORS)} and noise_std {MGDM_NOISE_STD}"
        return _note_table(task, f"no published number applies to {task}; {applies}")
    # the published phase retrieval keeps the best of four samples by LPIPS; that one's PSNR and SSIM are not measured
    best_of_four = paper_task == "Phase retrieval"
    compared = {"lpips": "lpips_best"} if best_of_four else {name: name for name in ("lpips", "psnr", "ssim")}
    summary = scores(rows)
    body = []
    for solver in ranking(summary, headline(rows)):
        method = solver.split("[")[0]
        for name, ours_name in compared.items():
            theirs = mgdm_tables().get((MGDM_PRIORS[prior], paper_task, method, name))
            ours = summary[solver].get(ours_name)
            if theirs is None or ours is None:
                continue
            combined = np.hypot(max(theirs.half_width, MGDM_ROUNDING), ours.half_width)
            difference = (ours.mean - theirs.mean) / combined
            shown = Cell(MISSING) if np.isnan(difference) else Cell(f"{difference:+.2f}", difference)
            cells = [Cell(solver), Cell(_heading(ours_name)), Cell(f"{theirs.mean:.2f} ± {theirs.half_width:.2f}")]
            body.append([*cells, _score_cell(summary[solver], ours_name), shown, Cell(str(ours.n), ours.n)])
    if not body:
        return _note_table(task, f"no published score of these solvers on {paper_task}")
    body = [[Cell(str(number), number), *row] for number, row in enumerate(body, 1)]
    notes = [
        "published: MGDM, ICML 2025, https://arxiv.org/abs/2502.03332, tables 6 to 8, 300 images, two decimals; "
        "phase retrieval there is the best of four samples by LPIPS",
        f"measured: {_interval_note(rows, summary)}",
        "difference: (measured - published) / √(CI² + CI²), a published CI below 0.005 taken as 0.005; "
        "within ±1 the two agree",
    ]
    definitions = _definitions(compared.values())
    columns = ["#", "solver", "score", "published", "measured", "difference / CI", "n"]
    return Table(task, notes, definitions, columns, body)


def _whole_width(cell):
    """Characters before the decimal point of a number."""
    return 0 if cell.value is None else len(re.match(r"[-+]?\d*", cell.text)[0])


def _page_column(name, cells):
    """Cells of a column with the points of their numbers below each other, as wide as the heading at least."""
    whole = max(_whole_width(cell) for cell in cells)
    indent = max(0, len(name) + 2 - max(len(cell.text) for cell in cells))
    texts = []
    for cell in cells:
        text = cell.text.replace(" ", NO_BREAK_SPACE)
        if cell.value is not None:
            text = FIGURE_SPACE * (indent + whole - _whole_width(cell)) + text
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
        "title": "\n".join([table.title, *table.notes, definitions_text(table.definitions)]).rstrip(),
        "columns": [name.replace(" ", NO_BREAK_SPACE) for name in table.columns],
        "default_order_column": 0,
        "default_order_ascending": True,
    }
    return metadata, rows


# Quality against cost


def cost_label(axis):
    """Label of a cost axis that is shown on a logarithmic scale, see :func:`log_position`."""
    return COST_AXES[axis][0] + (" (log scale, none drawn at 1)" if axis == "NFE + VJP" else " (log scale)")


def log_position(cost, axis):
    """Where a cost stands on its logarithmic axis: a method without the network has no logarithm, it stands at 1."""
    return max(cost, 1.0) if axis == "NFE + VJP" else cost


def quality_label(df, task):
    """Label of the quality axis: the headline, its direction and its interval."""
    rows = rows_of(df, task)
    return f"{_heading(headline(rows))}, {_interval_note(rows, scores(rows))}"


def tradeoff(df, task, axis):
    """A :class:`Point` per solver, cheapest first; ``axis`` is a key of ``COST_AXES``."""
    rows = rows_of(df, task)
    first, summary = headline(rows), scores(rows)
    direction = metric(first).direction
    measured = {solver: row for solver, row in summary.items() if first in row and not np.isnan(row[first].mean)}
    cost = {solver: sum(row[name].mean for name in COST_AXES[axis][1]) for solver, row in measured.items()}
    best_so_far, points = -np.inf, []
    for solver in sorted(measured, key=lambda s: (cost[s], -direction * measured[s][first].mean)):
        quality = measured[solver][first]
        on_front = direction * quality.mean > best_so_far
        best_so_far = max(best_so_far, direction * quality.mean)
        points.append(Point(solver, cost[solver], quality, on_front))
    return points


# Pictures


def _picture_cells(df):
    """One row per (task, solver): the cell whose pictures are shown."""
    if "final_results" not in df:
        return df.iloc[:0]
    cells = df[df["final_results"].notna() & (df["idx_rep"] == df["idx_rep"].min())]
    keep = cells["idx_rep"] < 0
    for task in tasks(cells):
        rows = rows_of(cells, task)
        # the same images for everyone: the shard that most solvers have
        shard = rows.groupby("dataset_name", sort=False)["solver_name"].nunique().idxmax()
        keep |= (cells["dataset_name"] == shard) & cells["objective_name"].isin(rows["objective_name"])
    return cells[keep]


def picture_tasks(df):
    """Tasks that have pictures; one placeholder where a run has none."""
    return tasks(_picture_cells(df)) or [NO_PICTURES]


def _picture_sizes(cells):
    """(images per task, reduction factor) that keep all pictures of a run within ``PICTURE_BUDGET``."""
    pixels = 0
    for task in tasks(cells):
        rows = rows_of(cells, task)
        _, height, width = rows["final_results"].iloc[0]["truth"].shape[:3]
        pixels += (len(rows) + 2) * height * width
    reduction = 1
    while pixels / reduction**2 > PICTURE_BUDGET:
        reduction += 1
    return max(1, int(PICTURE_BUDGET // pixels)), reduction


def displayable(array):
    """An array as (H, W) or (H, W, 3), None if it is no picture."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return array if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3) else None


def enlarge(pixels, height, width):
    """Nearest-neighbour enlargement of a picture smaller than (height, width)."""
    if pixels.shape[0] >= height and pixels.shape[1] >= width:
        return pixels
    rows, columns = np.arange(height) * pixels.shape[0] // height, np.arange(width) * pixels.shape[1] // width
    return pixels[rows][:, columns]


def _picture(label, array, height, width, reduction):
    pixels = displayable(array)
    if pixels is None:
        return Picture(f"{label} (not a picture)", np.full((height, width), 255, np.uint8))
    pixels = enlarge(pixels, height, width)
    return Picture(label, np.asarray(Image.fromarray(pixels).reduce(reduction)) if reduction > 1 else pixels)


def pictures(df, task):
    """(list of :class:`Picture`, number of columns): per image the truth, the observation and every solver."""
    if task == NO_PICTURES:
        return [], 1
    all_cells = _picture_cells(df)
    n_images, reduction = _picture_sizes(all_cells)
    cells = rows_of(all_cells, task).set_index("solver_name")
    rows = rows_of(df, task)
    first = headline(rows)
    order = [solver for solver in ranking(scores(rows), first) if solver in cells.index]
    label = f"mean {metric(first).label}" if "spread" in metrics_of(rows) else metric(first).label
    # the i-th stored picture belongs to the i-th row of its cell
    shown = rows[rows["dataset_name"].isin(cells["dataset_name"]) & rows["idx_rep"].isin(cells["idx_rep"])]
    by_solver = {solver: group for solver, group in shown.groupby("solver_name")}
    stored = cells.loc[order[0], "final_results"]
    height, width = stored["truth"].shape[1:3]
    n_columns = min(len(order) + 2, PICTURE_COLUMNS)
    grid = []
    for i in range(min(n_images, len(stored["truth"]))):
        row = 0 if "stems" in stored else i  # the pictures of stems are those of one signal
        name = stored["stems"][i] if "stems" in stored else f"image {by_solver[order[0]]['objective_image'].iloc[i]}"
        named = [(f"{name}: truth", stored["truth"][i]), ("observation", stored["observation"][i])]
        for solver in order:
            score = by_solver[solver][f"objective_{first}"].iloc[row]
            text = f"{solver}: {label} {score:.{count_decimals(score)}f}"
            named.append((text, cells.loc[solver, "final_results"]["sample"][i]))
        grid += [_picture(text, array, height, width, reduction) for text, array in named]
        grid += [Picture("", None)] * (-len(named) % n_columns)
    return grid, n_columns
