"""New rows among reference rows: the same data, paired differences, marks of versions, warnings of what changed."""

import numpy as np
import pandas as pd
import pytest
from benchopt.results import save_results
from helpers import ROOT
from test_plots import HALF, HALF_TASK, MIXTURE, cell, some_pictures, text_rows

from benchmark_utils.__main__ import main
from benchmark_utils.provenance import code_digest
from benchmark_utils.results import beside, pictures, report, scores, tables, traces

FIRST_SHARD = HALF.format(0)
OLD, NEW = "a" * 40, "b" * 40
MIXTURE_TASK = "gaussian_mixture[dim=8,dim_y=1]"


def some_rows(solver, lpips, images=(0, 1), dataset=FIRST_SHARD, commit=OLD, seed=0, **extra):
    """Rows of a cell with what a row says of its origin."""
    rows = cell(dataset, solver, images, {"lpips": lpips}, git_commit=commit, weights="faces64.safetensors 1", **extra)
    for row in rows:
        image = row["objective_image"]
        row |= {"base_seed": seed, "run_date": "2026-01-01", "objective_unit": "images"}
        row |= {"objective_y_digest": f"y{image}", "objective_truth_digest": f"x{image}"}
    return rows


def reference_rows():
    rows = some_rows("dps", [0.2, 0.3, 0.6, 0.7], images=(0, 1, 2, 3))
    rows += some_rows("ddnm", [0.1, 0.25], solver_code=code_digest(ROOT / "solvers" / "ddnm.py"))
    for seed in range(3):
        rows += some_rows("dps", [0.5], (seed,), MIXTURE.format(seed))
    return pd.DataFrame(rows)


def compare(own, reference=None):
    return beside.compare(pd.DataFrame(own), reference_rows() if reference is None else reference)


def test_reference_rows_of_the_same_images_are_added_and_marked_with_their_commit():
    rows, own, warnings = compare(some_rows("mine", [0.1, 0.15], commit=NEW))
    assert own == {"mine"} and warnings == []
    found = scores.scores(scores.rows_of(rows, HALF_TASK))
    assert {name: row["lpips"].mean for name, row in found.items()} == {
        "mine": pytest.approx(0.125),
        "dps @aaaaaaa": pytest.approx(0.25),  # images 2 and 3 do not count
        "ddnm @aaaaaaa": pytest.approx(0.175),
    }
    assert scores.tasks(rows) == [HALF_TASK]


def test_random_problems_are_matched_by_their_seed():
    rows, _, warnings = compare(some_rows("mine", [0.4], (1,), MIXTURE.format(1), commit=NEW))
    assert warnings == [] and rows["p_dataset_seed"].tolist() == [1, 1]


def test_rows_of_the_same_commit_are_not_marked_and_a_repeated_cell_counts_once():
    rows, _, _ = compare(some_rows("ddnm", [0.1, 0.2]))
    assert sorted(rows["solver_name"]) == ["ddnm"] * 2 + ["dps"] * 2
    rows, _, _ = compare(some_rows("ddnm", [0.1, 0.2], commit=f"{OLD}-dirty"))
    assert set(rows["solver_name"]) == {"ddnm", "ddnm @aaaaaaa", "dps @aaaaaaa"}


def test_own_rows_are_not_averaged_with_those_of_the_same_images_in_another_range():
    own = some_rows("dps", [0.4, 0.5], dataset=FIRST_SHARD.replace("n_images=2", "n_images=4"))
    rows, *_ = compare(own)
    assert rows["objective_lpips"][rows["solver_name"] == "dps"].tolist() == [0.4, 0.5]


@pytest.mark.parametrize(
    "column, value, meaning",
    [
        ("objective_y_digest", "other", "the measurement y differs"),
        ("objective_truth_digest", "other", "the pixels of the image, or the signal differs"),
        ("objective_file", "other.png", "the image differs"),
        ("base_seed", 7, "the seed (--seed) differs"),
    ],
)
def test_rows_of_other_data_are_left_out(column, value, meaning):
    reference = reference_rows()
    changed = (reference["solver_name"] == "dps") & (reference["objective_image"] == 0)
    reference.loc[changed, column] = value
    rows, _, (warning,) = compare(some_rows("mine", [0.1, 0.15], commit=NEW), reference)
    assert warning == f"{HALF_TASK}: data changed: {meaning}, so left out: 1 rows of dps"
    assert rows[rows["solver_name"] == "dps @aaaaaaa"]["objective_image"].tolist() == [1]


def test_images_without_reference_rows_are_left_out():
    rows, _, (warning,) = compare(some_rows("mine", [0.1, 0.15], images=(3, 4), commit=NEW))
    assert warning == f"{HALF_TASK}: without reference rows of the same data, so left out here: 00004.png"
    assert set(rows["objective_image"]) == {3}


@pytest.mark.parametrize("there", [0, 1])
def test_pictures_and_traces_are_those_of_the_images_that_are_left(there):
    """Though the first row of a cell, or the last one, which has what it stored, is left out."""
    stored = some_pictures() | dict.fromkeys(("seen", "mean", "band", "draws_of_leads"), np.arange(2.0))
    own = some_rows("mine", [0.1, 0.15], commit=NEW, stored=stored)
    reference = reference_rows()
    rows, *_ = compare(own, reference[reference["objective_image"] == there])
    truth, _, sample = pictures.pictures(rows, HALF_TASK)
    assert (truth.label, sample.label) == (f"image {there}: truth", f"mine: LPIPS {(0.1, 0.15)[there]:.3f}")
    np.testing.assert_array_equal(truth.pixels, stored["truth"][there])
    (trace,) = traces.traces(rows, HALF_TASK)
    assert trace.label.startswith(f"0000{there}.png, mine") and trace.mean == there


def test_rows_of_another_seed_are_shown_alone():
    rows, _, warnings = compare(some_rows("mine", [0.1, 0.15], commit=NEW, seed=1))
    assert [warning.partition(": ")[2].partition(":")[0] for warning in warnings] == [
        "data changed",
        "no reference rows of the same data, so shown alone",
    ]
    assert rows["solver_name"].tolist() == ["mine", "mine"]


def test_an_image_that_no_reference_row_shares_is_left_out():
    reference = reference_rows()
    reference.loc[reference["objective_image"] == 0, "objective_file"] = "other.png"
    rows, _, (_, warning) = compare(some_rows("mine", [0.1, 0.15], commit=NEW), reference)
    assert "left out here: 00000.png" in warning and set(rows["objective_image"]) == {1}


def test_what_changed_since_is_named():
    own = some_rows("mine", [0.1, 0.15], commit=NEW)
    reference = reference_rows()
    dps = reference["solver_name"] == "dps"
    reference.loc[dps, "objective_weights"] = "faces64.safetensors 2"
    reference.loc[dps, "objective_solver_code"] = "0123456789abcdef"
    _, _, warnings = compare(own, reference)
    assert warnings == [
        f"{HALF_TASK}: the prior changed since: other weights in the reference rows of dps",
        "method or presets changed since the reference rows: dps (rows of aaaaaaa)",
    ]


def test_unchecked_data_and_absent_tasks_are_told():
    reference = reference_rows().drop(columns="objective_y_digest")
    _, _, (warning,) = compare(some_rows("mine", [0.1, 0.15], commit=NEW), reference)
    assert warning == f"{HALF_TASK}: y_digest is not in all rows, so not compared"
    own = some_rows("mine", [0.1], (0,), "ffhq_inpainting[mask=box]", commit=NEW)
    rows, _, (warning,) = compare(own)
    assert warning == f"ffhq_inpainting[mask=box]: no reference rows. They have: {HALF_TASK}"
    assert rows["solver_name"].tolist() == ["mine"]


def test_paired_differences_and_their_intervals():
    own = some_rows("mine", [0.1, 0.15, 0.4, 0.3], images=(0, 1, 2, 3), commit=NEW)
    rows, _, _ = compare(own)
    table = beside.differences(rows, HALF_TASK, "mine")
    difference = np.array([0.1 - 0.2, 0.15 - 0.3, 0.4 - 0.6, 0.3 - 0.7])
    half_width = 3.182446 * difference.std(ddof=1) / 2  # Student's t of 3 degrees of freedom; of 1: 12.7062
    assert text_rows(table) == [
        ["1", "ddnm @aaaaaaa", "-0.0500 ± 0.6353", "2"],
        ["2", "dps @aaaaaaa", f"{difference.mean():.3f} ± {half_width:.3f}", "4"],
    ]
    assert [row[2].best for row in table.rows] == [False, True]  # the first interval holds 0
    assert table.columns == ["#", "against", "Δ LPIPS ↓", "n"] and "on the same y and seed" in table.notes[0]


def test_few_or_equal_differences_are_not_in_favour():
    """Two images: 1.96 standard errors would exclude 0, Student's interval does not; equal differences have none."""
    of_two, equal = some_rows("mine", [0.10, 0.13], commit=NEW), some_rows("mine", [0.0, 0.1], commit=NEW)
    for own, shown in ((of_two, "-0.135 ± 0.445"), (equal, "-0.200")):
        rows, _, _ = compare(own)
        (cell,) = [row[2] for row in beside.differences(rows, HALF_TASK, "mine").rows if row[1].text.startswith("dps")]
        assert cell.text == shown and not cell.best


def test_the_difference_is_in_favour_only_where_the_score_gets_better():
    own = some_rows("mine", [0.5, 0.6, 0.9, 1.0], images=(0, 1, 2, 3), commit=NEW)
    rows, _, _ = compare(own)
    assert [row[2].best for row in beside.differences(rows, HALF_TASK, "mine").rows] == [False, False]
    assert text_rows(beside.differences(rows, HALF_TASK, "mine"))[1][2] == "+0.300"  # no variation, no interval


def test_own_rows_of_unequal_data_are_left_out_of_the_differences():
    """Two solvers in one file: an image of which they saw another y is in neither mean nor n, and the note says so."""
    mine, other = (some_rows(name, [0.1, 0.2 + k], commit=NEW) for k, name in enumerate(("mine", "other")))
    other[1]["objective_y_digest"] = "other"
    rows, _, _ = compare(mine + other)
    table = beside.differences(rows, HALF_TASK, "mine")
    (row,) = [row for row in text_rows(table) if row[1] == "other"]
    assert row[2:] == ["0.000", "1"]
    assert table.notes[1] == "left out, not on the same data: 1 of other"


def test_differences_are_of_the_same_repetition():
    """A second repetition, another y, of one of them alone says nothing of their difference."""
    old, new = some_rows("old", [0.1, 0.2]), some_rows("new", [0.1, 0.2])
    new += some_rows("new", [0.6, 0.7], repetition=1)
    assert text_rows(beside.differences(pd.DataFrame(old + new), HALF_TASK, "new")) == [["1", "old", "0.000", "2"]]


def saved(rows, path):
    path.parent.mkdir(exist_ok=True)
    return save_results(pd.DataFrame(rows), path, uniquify=False)


def test_of_a_cell_in_several_files_the_newest_rows_count(tmp_path):
    old, new = some_rows("dps", [0.2, 0.3]), some_rows("dps", [0.5, 0.6], commit=NEW)
    for row in new:
        row["run_date"] = "2026-02-01"
    saved(new, tmp_path / "results" / "a.parquet")
    saved(old + some_rows("ddnm", [0.1, 0.2]), tmp_path / "results" / "b.parquet")
    other_seed = pd.DataFrame(some_rows("dps", [0.8, 0.9], seed=1)).assign(run_date="2026-03-01")
    saved(other_seed, tmp_path / "results" / "c.parquet")
    df = beside.read_rows(tmp_path / "results")
    assert sorted(df["objective_lpips"]) == [0.1, 0.2, 0.5, 0.6, 0.8, 0.9]  # another seed is another cell


def test_report_and_table_beside(tmp_path, capsys):
    saved(reference_rows(), tmp_path / "results" / "a.parquet")
    path = saved(some_rows("mine", [0.1, 0.15], images=(3, 4), commit=NEW), tmp_path / "mine.parquet")
    assert not main(["report", str(path), "--beside", str(tmp_path / "results")])
    text = (tmp_path / "mine_report.html").read_text()
    for shown in ("dps @aaaaaaa", "mine against each other solver", 'class="warning"', "left out here: 00004.png"):
        assert shown in text
    assert main(["table", str(path), "--beside", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out
    assert "dps @aaaaaaa" in printed and "Δ LPIPS ↓" in printed and "left out here: 00004.png" in printed


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_reference_rows_that_cannot_be_read_are_one_error(content, tmp_path, capsys):
    path = saved(some_rows("mine", [0.1, 0.15]), tmp_path / "mine.parquet")
    folder = tmp_path / "results"
    folder.mkdir()
    if content:
        (folder / "a.parquet").write_bytes(content)
    with pytest.raises(SystemExit) as exit:
        main(["report", str(path), "--beside", str(folder)])
    error = capsys.readouterr().err.splitlines()[-1]
    assert exit.value.code == 2 and str(folder) in error
    assert ("has no .parquet file" in error) if content is None else ("cannot be read as results" in error)


def test_without_reference_the_report_is_that_of_the_rows():
    df = pd.DataFrame(some_rows("mine", [0.1, 0.15]))
    text = report.report(df, "run")
    assert "@aaaaaaa" not in text and 'class="warning"' not in text
    assert tables.leaderboard(df, HALF_TASK).rows[0][1].text == "mine"
