"""The calibration view: exact draws stay in their null bands, wrong spreads do not; curves, table, charts, page."""

import base64

import numpy as np
import pandas as pd
import pytest
import torch
from test_calibration import Halved, Mean

from benchmark_utils.calibration import calibration_scores, exact_scores
from benchmark_utils.evaluate import evaluate
from benchmark_utils.results import calibration, report, tables
from plots.calibration import Plot
from solvers.exact_posterior import Solver as ExactPosterior

TASK = "gaussian[n_problems=500]"


def result_rows(Solver, dataset=TASK, **options):
    """Rows with the columns that benchopt adds."""
    rows = evaluate(Solver, dataset, n_samples=16, **options).add_prefix("objective_")
    names = {"solver_name": Solver.name, "dataset_name": dataset, "objective_name": "Posterior sampling", "idx_rep": 0}
    return rows.assign(**names)


@pytest.fixture(scope="module")
def df():
    """500 truths in three dimensions, 16 draws each, of a right solver and of two wrong ones."""
    return pd.concat([result_rows(Solver) for Solver in (ExactPosterior, Halved, Mean)], ignore_index=True)


def test_exact_draws_stay_in_their_null_bands_and_wrong_spreads_leave_all_of_them(df):
    """Familywise 1 %: coverage, rank histogram and random regions of one solver together."""
    found = {solver: [c.excess for c in curves.values()] for solver, curves in calibration.curves(df).items()}
    assert max(found["exact_posterior"]) < 1
    assert min(found["halved"]) > 3 and min(found["mean"]) > 10


def test_bands_have_their_probability(monkeypatch):
    """Of 100 sets of 20 truths and exact draws, 20 % leave a band at that level: 20 with standard deviation 4."""
    monkeypatch.setattr(calibration, "FAMILYWISE", 0.2)
    monkeypatch.setattr(calibration, "N_REPLICATES", 1000)
    n, n_draws, n_outside = 20, 8, 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        # ten entries that share half of their variance, so that the ranks of a truth are not independent
        x = torch.randn(n, 2 * n_draws + 2, 11, generator=generator)
        x = x[..., 1:] + x[..., :1]
        rows = [calibration_scores(of[1 : n_draws + 1], of[0]) | exact_scores(of[n_draws + 1 :], of[0]) for of in x]
        cells = pd.DataFrame(rows).add_prefix("objective_")
        (curves,) = calibration.curves(cells.assign(solver_name="s", idx_rep=0, objective_image=range(n))).values()
        n_outside += max(curve.excess for curve in curves.values()) > 1
    assert 10 <= n_outside <= 31


def test_paired_differences_to_exact_draws_catch_wrong_spreads(df):
    for score in ("crps", "energy_score"):
        exact, *wrong = (calibration.paired_difference(df, s, score) for s in ("exact_posterior", "halved", "mean"))
        assert abs(exact.mean) < 1.5 * exact.half_width
        assert all(difference.mean > 2 * difference.half_width for difference in wrong)


def test_table_charts_and_page_show_the_curves(df):
    (task,) = calibration.calibration_tasks(df)
    table = calibration.calibration_table(df, task)
    numbers = ["0nominal", "0exact_posterior", "1halved", "2mean"]
    assert [row[0].text + row[1].text for row in table.rows] == numbers
    assert not any(cell.best for row in table.rows for cell in row)  # who does not compete is never in bold
    competing = calibration.calibration_table(df.replace({"solver_name": {"exact_posterior": "right"}}), task)
    inside = {row[1].text: [cell.best for cell in row[5:8]] for row in competing.rows[1:]}
    assert inside == {"right": [True] * 3, "halved": [False] * 3, "mean": [False] * 3}
    plot = Plot()
    plot.get_style = lambda label: {"color": (0, 0, 0, 1), "marker": 0}
    for name in calibration.CURVES:
        labels = [trace["label"] for trace in plot.plot(df, task, name)]
        assert labels == ["exact_posterior", "halved", "mean", *[calibration.BAND_LABEL] * 2]
        chart = base64.b64decode(report.calibration_chart(df, task, name).split(",")[1].split('"')[0])
        assert b"halved" in chart and b"band of exact draws" in chart
    exactness = tables.exactness(df, task)
    shown = dict(zip(exactness.columns, exactness.rows[0], strict=True))
    assert shown["coverage 80 %"].value == pytest.approx(13 / 17) and shown["CRPS ↓"].value > 0


def test_a_truth_counts_once_and_without_a_posterior_only_random_regions_have_a_band(df):
    exact = df[df["solver_name"] == "exact_posterior"]
    twice = pd.concat([exact, exact.assign(idx_rep=1), exact[:100]], ignore_index=True)
    (once,), (again,) = (calibration.curves(frame).values() for frame in (exact, twice))
    for name in calibration.CURVES:
        np.testing.assert_array_equal(once[name].found, again[name].found)
    (curves,) = calibration.curves(exact.drop(columns="objective_rank_null")).values()
    assert [np.isnan(curve.excess) for curve in curves.values()] == [True, True, False]
    lacking = exact.drop(columns=["objective_rank_histogram"])
    assert calibration.calibration_tasks(lacking) == [calibration.ONE_DRAW]
    assert "n_samples" in calibration.calibration_table(lacking, calibration.ONE_DRAW).rows[0][0].text
    plot = Plot()
    plot.get_style = lambda label: {"color": (0, 0, 0, 1), "marker": 0}
    assert plot.plot(lacking, calibration.ONE_DRAW, "random regions")[0]["label"] == calibration.REMEDY
