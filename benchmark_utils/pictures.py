"""The pictures of a run: reconstructions, their errors, a zoom, and the spread of the samples."""

import math
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image

from benchmark_utils.results import (
    count_decimals,
    headline,
    metric,
    metrics_of,
    once_per_frame,
    ranking,
    rows_of,
    scores,
    tasks,
)

NO_PICTURES = "no pictures"
PICTURE_BUDGET = 2_400_000  # pixels of all reconstructions of a page; with the other views it stays below 25 MB
PICTURE_COLUMNS = 6
VIEWS = {
    "reconstructions": "",
    "error": ": |sample - truth| on [0, 1], mean over colours; black 0, white 0.5 and more",
    "zoom": ": the ninth of the picture where the solvers err most",
    "spread": ": standard deviation over samples, on [-1, 1], mean over colours; black 0, white 0.5 and more",
}
AT_WHITE = 0.5
MAP_LEVELS = 32  # colours of a map: fewer bytes
ZOOM = 3


class Picture(NamedTuple):
    """A labelled uint8 image (H, W) or (H, W, 3); ``pixels`` is None for an empty place of the grid."""

    label: str
    pixels: np.ndarray | None


@once_per_frame
def _picture_cells(df):
    """One row per (task, solver): the cell whose pictures are shown."""
    if "final_results" not in df:
        return df.iloc[:0]
    cells = df[df["final_results"].notna() & (df["idx_rep"] == df["idx_rep"].min())]
    # a CSV file holds but a text of them
    cells = cells[np.array([isinstance(value, dict) for value in cells["final_results"]], dtype=bool)]
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


def _picture(label, array, height, width, reduction, window=None):
    pixels = displayable(array)
    if pixels is None:
        return Picture(f"{label} (not a picture)", np.full((height, width), 255, np.uint8))
    pixels = enlarge(pixels, height, width)
    if window is not None:  # of a larger observation, the same part
        scales = [size / shown for size, shown in zip(pixels.shape[:2], (height, width), strict=True)]
        parts = (slice(*(round(end * k) for end in (w.start, w.stop))) for w, k in zip(window, scales, strict=True))
        pixels, reduction = pixels[tuple(parts)], math.ceil(reduction / ZOOM)
    return Picture(label, np.asarray(Image.fromarray(pixels).reduce(reduction)) if reduction > 1 else pixels)


def title(df, task, view):
    """The task and what a view shows; that there is one sample per image, where a spread needs several."""
    if view == "spread" and task != NO_PICTURES and not pictures(df, task, view)[0]:
        return f'{task}: no spread, since each image has one sample; draw several with -o "*[n_samples=8]"'
    return task + VIEWS[view]


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
    """(list of :class:`Picture`, number of columns): per image the truth, the observation and every solver.

    ``view`` is a key of ``VIEWS``: with "error" and "spread" a solver's picture is that map instead of its sample.
    """
    if task == NO_PICTURES:
        return [], 1
    all_cells = _picture_cells(df)
    n_images, reduction = _picture_sizes(all_cells)
    cells = rows_of(all_cells, task).set_index("solver_name")
    rows = rows_of(df, task)
    first = headline(rows)
    order = [solver for solver in ranking(scores(rows), first) if solver in cells.index]
    if view == "spread":
        order = [solver for solver in order if "spread" in cells.loc[solver, "final_results"]]
        if not order:
            return [], 1
    label = f"mean {metric(first).label}" if "spread" in metrics_of(rows) else metric(first).label
    # the i-th stored picture belongs to the i-th row of its cell
    shown = rows[rows["dataset_name"].isin(cells["dataset_name"]) & rows["idx_rep"].isin(cells["idx_rep"])]
    by_solver = {solver: group for solver, group in shown.groupby("solver_name")}
    stored = {solver: cells.loc[solver, "final_results"] for solver in order}
    truths, observations = stored[order[0]]["truth"], stored[order[0]]["observation"]
    height, width = truths.shape[1:3]
    n_pictures = len(order) + 2
    n_columns = math.ceil(n_pictures / math.ceil(n_pictures / PICTURE_COLUMNS))  # rows of about the same length
    grid = []
    for i in range(min(n_images, len(truths))):
        row = 0 if "stems" in stored[order[0]] else i  # the pictures of stems are those of one signal
        image = by_solver[order[0]]["objective_image"].iloc[row]
        name = stored[order[0]]["stems"][i] if "stems" in stored[order[0]] else f"image {image}"
        errors = {solver: absolute_error(stored[solver]["sample"][i], truths[i]) for solver in order}
        named = [(f"{name}: truth", truths[i]), ("observation", observations[i])]
        for solver in order:
            score = by_solver[solver][f"objective_{first}"].iloc[row]
            text = f"{solver}: {label} {score:.{count_decimals(score)}f}"
            picture = stored[solver]["sample"][i]
            if view == "error":
                text, picture = f"{solver}: mean {errors[solver].mean():.3f}", heat(errors[solver], AT_WHITE)
            elif view == "spread":
                spread = stored[solver]["spread"][i] / 255
                text, picture = f"{solver}: mean {spread.mean():.3f}", heat(spread, AT_WHITE)
            named.append((text, picture))
        window = zoom_window(sum(errors.values())) if view == "zoom" else None
        grid += [_picture(text, array, height, width, reduction, window) for text, array in named]
        grid += [Picture("", None)] * (-len(named) % n_columns)
    return grid, n_columns
