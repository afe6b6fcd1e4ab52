"""The pictures of a run: reconstructions, their errors, a zoom, and the spread of the samples."""

import math
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from benchmark_utils.results import scores

NO_PICTURES = "no pictures"
PICTURE_BUDGET = 2_400_000  # pixels of all reconstructions of a page; with the other views it stays below 25 MB
PICTURE_COLUMNS = 6
VIEWS = {
    "reconstructions": "",
    "error": ": |sample - truth| on [0, 1], mean over colours; black 0, white 0.5 and more",
    "zoom": ": the ninth of the picture where the solvers err most",
    "draws": ": the first samples one by one",
    "mean": ": mean over samples",
    "spread": ": standard deviation over samples, on [-1, 1], mean over colours; black 0, white 0.5 and more",
}
NEEDS = {"error": "truth", "zoom": "truth", "draws": "draws", "mean": "mean", "spread": "spread"}  # of what is stored
DRAWS_SHOWN = 4
AT_WHITE = 0.5
MAP_LEVELS = 32  # colours of a map: fewer bytes
ZOOM = 3
SEVERAL_SAMPLES = {"spread", "si_sdri_mean"}  # scores that only several samples have


class Picture(NamedTuple):
    """A labelled uint8 image (H, W) or (H, W, 3); ``pixels`` is None for an empty place of the grid."""

    label: str
    pixels: np.ndarray | None


@scores.once_per_frame
def picture_cells(df):
    """One row per (task, solver): the cell whose pictures are shown, and whose sound is heard."""
    return cells_with(df, "sample")


def cells_with(df, name):
    """One row per (task, solver): the cell of which ``name`` is shown."""
    if "final_results" not in df:
        return df.iloc[:0]
    cells = df[df["final_results"].notna() & (df["idx_rep"] == df["idx_rep"].min())]
    # a CSV file holds them as text only
    shown = [isinstance(value, dict) and name in value for value in cells["final_results"]]
    cells = cells[np.array(shown, dtype=bool)]
    chosen = [cells[:0]]
    for task in scores.tasks(cells):
        rows = scores.rows_of(cells, task)
        # the shard that most solvers have, so that all are shown on the same images
        shard = rows.groupby("dataset_name", sort=False)["solver_name"].nunique().idxmax()
        chosen.append(rows[rows["dataset_name"] == shard].drop_duplicates("solver_name"))
    return pd.concat(chosen)


def score_label(rows, name):
    """Label of a score of one image, which is a mean where several samples of it were drawn."""
    several = not SEVERAL_SAMPLES.isdisjoint(scores.metrics_of(rows))
    return f"mean {scores.metric(name).label}" if several else scores.metric(name).label


def picture_tasks(df):
    """Tasks that have pictures; one placeholder where a run has none."""
    return scores.tasks(picture_cells(df)) or [NO_PICTURES]


def _picture_sizes(cells):
    """(images per task, reduction factor) that keep all pictures of a run within ``PICTURE_BUDGET``.

    All stems of a signal are shown, however many pictures that are.
    """
    of_images = of_stems = 0
    for task in scores.tasks(cells):
        rows = scores.rows_of(cells, task)
        stored = rows["final_results"].iloc[0]
        n, height, width = stored["sample"].shape[:3]
        pixels = (len(rows) + 2) * height * width
        if "stems" in stored:
            of_stems += n * pixels
        else:
            of_images += pixels
    reduction = 1
    while (of_images + of_stems) / reduction**2 > PICTURE_BUDGET:
        reduction += 1
    return max(1, (PICTURE_BUDGET - of_stems) // max(1, of_images)), reduction


def squeeze_picture(array):
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


def _picture(label, array, height, width, reduction, window=None):
    pixels = squeeze_picture(array)
    if pixels is None:
        return Picture(f"{label} (not a picture)", np.full((height, width), 255, np.uint8))
    pixels = enlarge(pixels, height, width)
    if window is not None:  # of a larger observation, the same part
        scales = [size / shown for size, shown in zip(pixels.shape[:2], (height, width), strict=True)]
        parts = (slice(*(round(end * k) for end in (w.start, w.stop))) for w, k in zip(window, scales, strict=True))
        pixels, reduction = pixels[tuple(parts)], math.ceil(reduction / ZOOM)
    return Picture(label, np.asarray(Image.fromarray(pixels).reduce(reduction)) if reduction > 1 else pixels)


def title(df, task, view):
    """The task and what a view shows, or why it shows nothing."""
    if task == NO_PICTURES or read_stored(df, task, view):
        return task + VIEWS[view]
    stored = read_stored(df, task).values()
    if NEEDS[view] == "truth":
        return f"{task}: no {view}, since nobody has the truth"
    if any("stems" in cell for cell in stored):
        return f"{task}: no {view}, which is stored of images only"
    if any("mean" in cell for cell in stored):
        return f'{task}: no {view}, since one sample per image was stored; keep all with -o "*[keep=all]"'
    return f'{task}: no {view}, since each image has one sample; draw several with -o "*[n_samples=8]"'


def read_stored(df, task, view="reconstructions"):
    """``{solver: what its cell stored}`` of the solvers that a view shows, in the order of the leaderboard."""
    if task not in scores.tasks(picture_cells(df)):
        return {}
    cells = scores.rows_of(picture_cells(df), task).set_index("solver_name")["final_results"]
    rows = scores.rows_of(df, task)
    order = [s for _, s in scores.numbered(rows, scores.scores(rows), scores.headline(rows)) if s in cells.index]
    return {solver: cells[solver] for solver in order if NEEDS.get(view, "sample") in cells[solver]}


def rows_of_cells(df, task, cells):
    """``{solver: the rows of its cell}`` by their places: row i belongs to what is stored i-th."""
    rows = scores.share_stored(scores.rows_of(df, task))
    found = rows.merge(scores.rows_of(cells, task)[scores.cell_columns(rows)])
    return {solver: of_cell.set_index("place") for solver, of_cell in found.groupby("solver_name")}


def shared_places(by_solver, n_stored):
    """Places below ``n_stored`` that all cells of :func:`rows_of_cells` still have, since rows can be left out."""
    return [i for i in range(n_stored) if all(i in rows.index for rows in by_solver.values())]


def n_columns(df, task, view):
    """Number of columns of the grid of :func:`pictures`: rows of about the same length."""
    cells = read_stored(df, task, view).values()
    n_pictures = 1 + any("truth" in cell for cell in cells)
    n_pictures += sum(min(DRAWS_SHOWN, cell["draws"].shape[1]) if view == "draws" else 1 for cell in cells)
    return math.ceil(n_pictures / math.ceil(n_pictures / PICTURE_COLUMNS))


def heat(values, at_white):
    """A map (H, W) of values from 0 to ``at_white`` in colours from black to white."""
    levels = np.clip(np.asarray(values, float) / at_white, 0, 1)
    palette = (matplotlib.colormaps["inferno"](np.linspace(0, 1, MAP_LEVELS))[:, :3] * 255).round().astype(np.uint8)
    return palette[(levels * (MAP_LEVELS - 1)).round().astype(int)]


def absolute_error(sample, truth):
    """|sample - truth| of uint8 pictures on [0, 1], mean over colours: (H, W)."""
    return np.abs(sample.astype(float) - truth).reshape(*truth.shape[:2], -1).mean(2) / 255


def zoom_window(error):
    """The window, a third as high and wide, over which a map (H, W) has the largest sum: a pair of slices."""
    height, width = (max(1, size // ZOOM) for size in error.shape)
    sums = np.pad(error, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    return slice(top, top + height), slice(left, left + width)


def pictures(df, task, view="reconstructions"):
    """A list of :class:`Picture`: per image or stem the truth if it is known, the observation and every solver.

    ``view`` is a key of ``VIEWS``: with "error" and "spread" a solver's picture is that map instead of its sample.
    """
    cells = read_stored(df, task, view)
    if not cells:
        return []
    n_images, reduction = _picture_sizes(picture_cells(df))
    rows = scores.rows_of(df, task)
    by_solver = rows_of_cells(df, task, picture_cells(df))
    best = next(iter(cells))
    truths, observations, stems = cells[best].get("truth"), cells[best]["observation"], cells[best].get("stems")
    height, width = cells[best]["sample"].shape[1:3]
    columns, grid = n_columns(df, task, view), []
    n_stored = min(len(cell["sample"]) for cell in cells.values())
    if view == "draws":
        n_images = max(1, n_images // DRAWS_SHOWN)
    places = shared_places(by_solver, 1 if stems is not None else n_stored)[:n_images]
    for i in range(n_stored) if stems is not None and places else places:
        row, shown = i, scores.headline(rows)
        if stems is not None:  # pictures of the first signal
            row, shown = 0, shown if truths is None else f"si_sdri_{stems[i]}"
        name = stems[i] if stems is not None else f"image {by_solver[best]['objective_image'][row]}"
        named = [(f"{name}: measurement", observations[i])]
        if truths is not None:
            errors = {solver: absolute_error(cell["sample"][i], truths[i]) for solver, cell in cells.items()}
            named = [(f"{name}: truth", truths[i]), ("observation", observations[i])]
        for solver, cell in cells.items():
            score = by_solver[solver][f"objective_{shown}"][row]
            label = scores.solver_label(rows, solver)
            text = f"{label}: {score_label(rows, shown)} {score:.{scores.count_decimals(score)}f}"
            picture = cell["sample"][i]
            if view == "error":
                text, picture = f"{label}: mean {errors[solver].mean():.3f}", heat(errors[solver], AT_WHITE)
            elif view == "spread":
                spread = cell["spread"][i] / 255
                text, picture = f"{label}: mean {spread.mean():.3f}", heat(spread, AT_WHITE)
            elif view == "mean":
                text, picture = f"{label}: mean of the samples", cell["mean"][i]
            elif view == "draws":
                first = cell["draws"][i][:DRAWS_SHOWN]
                named += [(f"{label}: sample {j}", draw) for j, draw in enumerate(first, 1)]
                continue
            named.append((text, picture))
        window = zoom_window(sum(errors.values())) if view == "zoom" else None
        grid += [_picture(text, array, height, width, reduction, window) for text, array in named]
        grid += [Picture("", None)] * (-len(named) % columns)
    return grid
