"""New rows among the shipped reference rows: the same images, y and seeds, paired differences, what changed since."""

import re
from typing import NamedTuple

import pandas as pd

from benchmark_utils.metrics import mean_and_ci
from benchmark_utils.provenance import ROOT, code_digest
from benchmark_utils.results import scores
from benchmark_utils.results.tables import Cell, Table, define, heading, note_table

SAME_DATA = {  # columns that must agree image by image, and what they hold
    "base_seed": "the seed (--seed)",
    "objective_file": "the image",
    "objective_truth_digest": "the pixels of the image, or the signal",
    "objective_y_digest": "the measurement y",
}
NOT_RECORDED = "not recorded"


class Comparison(NamedTuple):
    """Own rows and the reference rows of the same images; ``own``: names of the new solvers; ``warnings``: texts."""

    rows: pd.DataFrame
    own: frozenset[str]
    warnings: list[str]


def read_rows(path):
    """The rows of a results file, or of every Parquet file of a folder; of a cell that several hold, the newest file's.

    Raises BadResults, with the path, if there are none or if a file cannot be read.
    """
    paths = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not paths:
        raise scores.BadResults(f"{path} has no .parquet file: name a folder of results, or a results file")
    df = pd.concat(map(scores.read_file, paths), ignore_index=True).copy()  # else in 200 blocks, of which pandas warns
    newest = df.groupby(scores.cell_columns(df), dropna=False)["run_date"].transform("max")
    return df[df["run_date"] == newest].reset_index(drop=True)


def short_commit(row_commit):
    """The first seven digits of a row's commit, with its ``-dirty``."""
    found = re.match(r"([0-9a-f]{7})[0-9a-f]*(-dirty)?$", str(row_commit))
    return f"{found[1]}{found[2] or ''}" if found else "unknown version"


def compare(df, reference):
    """The :class:`Comparison` of new rows with reference rows on the tasks, images and seeds of the new ones.

    Reference rows of another image, measurement or seed are left out with a warning. Those of another commit than the
    new rows stay, and their solvers are named ``solver @commit``; those of a new row's solver, image and commit do not.
    """
    df, reference = scores.share_stored(df), scores.share_stored(reference)  # before rows are left out
    warnings, own_parts, reference_parts = [], [], []
    for task in scores.tasks(df):
        own = scores.rows_of(df, task)
        if task not in scores.tasks(reference):
            warnings.append(f"{task}: no reference rows. {_other_tasks(reference, task)}")
            own_parts.append(own)
            continue
        own, others, found = _on_same_data(task, own, scores.rows_of(reference, task))
        own_parts.append(own)
        row = ["solver_name", *scores.unit_columns(own), "idx_rep"]
        reference_parts.append(others.assign(repeated=others.set_index(row).index.isin(own.set_index(row).index)))
        warnings += [*found, *_changes_of_priors(task, own, others)]
    own = pd.concat(own_parts)
    others = pd.concat(reference_parts) if reference_parts else reference[:0].assign(repeated=False)
    warnings += changes_of_solvers(others)
    commits = own["objective_git_commit"].unique() if "objective_git_commit" in own else [NOT_RECORDED]
    commit = others.get("objective_git_commit", pd.Series(NOT_RECORDED, others.index)).fillna(NOT_RECORDED)
    same_version = (commit == commits[0]) & (len(commits) == 1) & ~commit.str.endswith("-dirty")
    marked = others["solver_name"] + " @" + commit.map(short_commit)
    others = others.assign(solver_name=others["solver_name"].where(same_version, marked))
    others = others[~(same_version & others["repeated"])].drop(columns="repeated")
    rows = pd.concat([own, others], ignore_index=True)
    return Comparison(rows, frozenset(own["solver_name"]), warnings)


def _other_tasks(reference, task):
    """Which tasks of the same dataset the reference has, as a hint."""
    dataset = re.split(r"[\[ ]", task)[0]
    same = [other for other in scores.tasks(reference) if re.split(r"[\[ ]", other)[0] == dataset]
    return f"They have: {'; '.join(same)}" if same else f"They have no task of {dataset}"


def _on_same_data(task, own, others):
    """(own rows, reference rows) of the images that both have, and warnings; see ``SAME_DATA``."""
    unit = [*scores.unit_columns(own), "idx_rep"]
    known = own.drop_duplicates(unit).set_index(unit)
    others = others[others.set_index(unit).index.isin(known.index)]
    warnings = []
    for column, meaning in SAME_DATA.items():
        if not {column} <= set(own) & set(others) or others[column].isna().any():
            warnings.append(f"{task}: {column.removeprefix('objective_')} is not in all rows, so not compared")
            continue
        here = known[column].reindex(others.set_index(unit).index).to_numpy()
        differs = others[column].to_numpy() != here
        if differs.any():
            named = ", ".join(others["solver_name"][differs].unique())
            warnings.append(f"{task}: data changed: {meaning} differs, so left out: {differs.sum()} rows of {named}")
            others = others[~differs]
    shared = known.index.isin(others.set_index(unit).index)
    if not shared.any():
        warnings.append(f"{task}: no reference rows of the same data, so shown alone")
    elif not shared.all():
        names = ", ".join(known["objective_file"][~shared].astype(str))
        warnings.append(f"{task}: without reference rows of the same data, so left out here: {names}")
        own = own[own.set_index(unit).index.isin(known.index[shared])]
    return own, others, warnings


def mixed_data(rows):
    """Warnings where the rows of one task are not all of the same data and prior, or solvers lack some of them."""
    unit = [*scores.unit_columns(rows), "idx_rep"]
    columns = SAME_DATA | {"objective_weights": "the weights of the prior"}
    found = [column for column in columns if column in rows and (rows.groupby(unit)[column].nunique() > 1).any()]
    return [*(f"not the same for all solvers of this task: {columns[c]}" for c in found), *scores.unequal_rows(rows)]


def _changes_of_priors(task, own, others):
    """A warning where reference rows were drawn with other weights."""
    if "objective_weights" not in own or "objective_weights" not in others:
        return []
    here = set(own["objective_weights"].dropna())
    other = others[~others["objective_weights"].isin(here)]
    named = ", ".join(other["solver_name"].unique())
    return [f"{task}: the prior changed since: other weights in the reference rows of {named}"] if len(other) else []


def changes_of_solvers(others):
    """A warning for the solvers whose file has other code, so another method or other presets, than their rows."""
    if "objective_solver_code" not in others:
        return []
    changed = []
    for solver, rows in others.groupby("solver_name", sort=False):
        path = ROOT / "solvers" / f"{solver.split('[')[0]}.py"
        recorded = set(rows["objective_solver_code"].dropna())
        if path.is_file() and recorded - {code_digest(path)}:
            changed.append(f"{solver} (rows of {', '.join(map(short_commit, rows['objective_git_commit'].unique()))})")
    return [f"method or presets changed since the reference rows: {', '.join(changed)}"] if changed else []


def differences(df, task, solver):
    """The table of paired differences between a solver's scores and each other solver's, over the images of both.

    Rows are paired by image and repetition, then averaged over repetitions; those that differ in one of ``SAME_DATA``
    are left out, with a note.
    """
    rows = scores.rows_of(df, task)
    first, summary = scores.headline(rows), scores.scores(rows)
    names = [name for name in scores.metrics_of(rows) if scores.metric(name).direction and name not in scores.COSTS]
    names = [first, *(name for name in names if name != first and not name.endswith("_floor"))]
    image = scores.unit_columns(rows)
    table = rows.groupby(["solver_name", *image, "idx_rep"])[[f"objective_{name}" for name in names]].mean()
    if solver not in table.index.levels[0]:
        return note_table(task, f"{solver} has no rows")
    body, left_out = [], []
    for number, other in scores.numbered(rows, {name: row for name, row in summary.items() if name != solver}, first):
        paired = table.loc[solver] - table.loc[other]
        unequal = _unequal(rows, solver, other)
        left_out += [f"{len(unequal)} of {other}"] if len(unequal) else []
        paired = paired[~paired.index.isin(unequal)].groupby(image).mean()
        competes = scores.out_of_competition(rows).isdisjoint((solver, other))  # else nothing is in favour
        cells = [
            _difference_cell(paired[f"objective_{name}"].dropna(), competes * scores.metric(name).direction)
            for name in names
        ]
        n = int(paired[f"objective_{first}"].notna().sum())
        body.append([Cell(str(number), number), Cell(scores.solver_label(rows, other)), *cells, Cell(str(n), n)])
    if not body:
        return note_table(task, f"no other solver has rows of the images of {solver}")
    note = (
        f"{solver} minus the solver of the row: mean of the differences over the n that both have, on the same y and "
        f"seed, ± t sd / √n, Student's 95 % interval; bold: in favour of {solver}, the interval without 0"
    )
    notes = [note, f"left out, not on the same data: {', '.join(left_out)}"] if left_out else [note]
    columns = ["#", "against", *(f"Δ {heading(name)}" for name in names), "n"]
    return Table(task, notes, define(names), columns, body, scores.origin_note(rows))


def _unequal(rows, solver, other):
    """The images and repetitions of two solvers that differ in one of ``SAME_DATA`` that all rows have, as an index."""
    columns = [column for column in SAME_DATA if column in rows and rows[column].notna().all()]
    unit = [*scores.unit_columns(rows), "idx_rep"]
    ours, theirs = (
        rows[rows["solver_name"] == name].drop_duplicates(unit).set_index(unit)[columns] for name in (solver, other)
    )
    shared = ours.index.intersection(theirs.index)
    differs = (ours.loc[shared] != theirs.loc[shared]).any(axis=1)
    return shared[differs]


def _difference_cell(values, direction):
    if not len(values):
        return Cell("–")
    score = scores.Score(*mean_and_ci(values), len(values))
    # equal differences show no variation, so no interval
    favourable = 1e-12 * abs(score.mean) < score.half_width < direction * score.mean
    return Cell(f"{'+' if score.mean > 0 else ''}{score}", score.mean, bool(favourable))
