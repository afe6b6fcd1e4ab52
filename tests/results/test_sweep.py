"""Scores against a swept setting: lines, paired intervals, the page's plot and the report's chart."""

import base64

import numpy as np
import pandas as pd
import pytest
from test_plots import HALF, HALF_TASK, cell

from benchmark_utils.results import report, scores, sweep
from plots.sweep import Plot


def rounds(R, lpips, G="(5, 20)", method="mgdm", **extra):
    settings = f"n_steps=50, n_gibbs={R}, gradient_steps={G}, preset=None"
    name = f"{method}[gradient_steps={G},n_gibbs={R}]"
    measured = {"lpips": lpips, **extra}
    return cell(HALF.format(0), name, (0, 1), measured, settings=settings, nfe=100.0 * R, vjp=50.0 * R)


@pytest.fixture
def df():
    """Four Gibbs rounds before one, in two numbers of gradient steps, and a solver with a single setting."""
    rows = rounds(4, [0.2, 0.5], mean_error=[0.1, 0.1]) + rounds(1, [0.3, 0.6], mean_error=[0.4, 0.2])
    rows += rounds(1, [0.25, 0.6], "(24, 92)") + rounds(1, [0.9, 0.9], method="dps")
    return pd.DataFrame(rows)


def test_a_line_has_one_setting_that_changes_and_its_numbers_in_order(df):
    assert sweep.settings(df) == ["n_gibbs", "gradient_steps", sweep.ALL]
    found = sweep.sweep(df, HALF_TASK, "n_gibbs", "headline")
    assert {label: [point.value for point in points] for label, points in found.items()} == {"mgdm": [1.0, 4.0]}
    assert [point.score.mean for point in found["mgdm"]] == pytest.approx([0.45, 0.35])
    (line,) = sweep.sweep(df, HALF_TASK, "gradient_steps", "headline").values()
    assert [point.value for point in line] == ["(5, 20)", "(24, 92)"]


def test_intervals_are_of_paired_differences_to_the_first_value(df):
    """Both images improve by .1: no doubt of the difference, though the images are .3 apart."""
    first, second = sweep.sweep(df, HALF_TASK, "n_gibbs", "headline")["mgdm"]
    assert first.score.half_width == pytest.approx(0, abs=1e-12) == second.score.half_width
    _, other = sweep.sweep(df, HALF_TASK, "gradient_steps", "headline")["mgdm"]
    student = 12.7062  # quantile .975 for one degree of freedom
    assert other.score.half_width == pytest.approx(student * np.std([-0.05, 0.0], ddof=1) / 2**0.5, rel=1e-5)


def test_posterior_error_and_cost_stand_beside_the_headline(df):
    error, cost = (sweep.sweep(df, HALF_TASK, "n_gibbs", quantity)["mgdm"] for quantity in sweep.QUANTITIES[1:])
    assert [point.score.mean for point in error] == pytest.approx([0.3, 0.1])
    assert [point.score.mean for point in cost] == [150, 600]
    missing = sweep.sweep(df, HALF_TASK, "gradient_steps", "posterior error")["mgdm"][1]
    assert missing.score is None  # no posterior was known to that run


def test_every_setting_is_compared_with_the_first_run(df):
    found = sweep.sweep(df, HALF_TASK, sweep.ALL, "headline")
    assert [point.value for point in found["mgdm"]] == [
        sweep.AS_REFERENCE,
        "n_gibbs=1",
        "n_gibbs=1, gradient_steps=(24, 92)",
    ]


def test_lines_that_differ_elsewhere_are_told_apart(df):
    both = pd.concat([df, pd.DataFrame(rounds(4, [0.1, 0.1], "(24, 92)"))])
    found = sweep.sweep(both, HALF_TASK, "n_gibbs", "headline")
    assert list(found) == ["mgdm[gradient_steps=(5, 20)]", "mgdm[gradient_steps=(24, 92)]"]


def test_lines_of_another_commit_are_told_apart(df):
    marked = df.assign(solver_name=df["solver_name"] + " @abcdefg", objective_lpips=0.9)
    found = sweep.sweep(pd.concat([marked, df]), HALF_TASK, "n_gibbs", "headline")
    assert {label: [point.score.mean for point in points] for label, points in found.items()} == {
        "mgdm @abcdefg": pytest.approx([0.9, 0.9]),
        "mgdm": pytest.approx([0.45, 0.35]),
    }


def test_lines_with_solvers_that_diverged_are_marked(df):
    wild = df.assign(objective_diverged=df["solver_name"].str.contains("n_gibbs=4").astype(float))
    assert list(sweep.sweep(wild, HALF_TASK, "n_gibbs", "headline")) == ["mgdm (diverged at 4.0)"]


def test_page_and_report_draw_the_sweep(df):
    plot = Plot()
    plot.get_style = lambda label: {"color": (0, 0, 0, 1), "marker": 0}
    traces = plot.plot(df, HALF_TASK, "n_gibbs", "headline")
    assert traces[-1]["x"] == [1.0, 4.0] and traces[-1]["label"] == "mgdm"
    label = plot.get_metadata(df, HALF_TASK, "n_gibbs", "headline")["ylabel"]
    assert label == f"LPIPS ↓, {sweep.PAIRED}"
    chart = base64.b64decode(report.sweep_chart(df, HALF_TASK, "n_gibbs").split(",")[1].split('"')[0]).decode()
    assert all(text in chart for text in ("n_gibbs", "LPIPS", "mean error", sweep.COST_LABEL))
    assert "Sweep of n_gibbs" in report.report(df, "run")


def test_a_run_without_a_sweep_says_what_one_needs(df):
    df = df[df["solver_name"].str.startswith("dps")]
    assert sweep.settings(df) == [sweep.NO_SWEEP] and sweep.sweep_settings(df, scores.tasks(df)[0]) == []
    plot = Plot()
    plot.get_style = lambda label: {}
    for setting in (sweep.NO_SWEEP, "n_gibbs"):
        (trace,) = plot.plot(df, HALF_TASK, setting, "headline")
        assert trace["label"] == sweep.REMEDY
    assert "Sweep of" not in report.report(df, "run")
