"""A sample far outside the range of the prior's signals is marked everywhere and competes with nobody."""

import base64

import pandas as pd
import pytest
import torch
from helpers import accounted_run
from test_plots import HALF, HALF_TASK, cell, saved, some_pictures, text_rows

from benchmark_utils.__main__ import main
from benchmark_utils.evaluate import evaluate
from benchmark_utils.metrics import DIVERGED, diverged_share
from benchmark_utils.priors import Prior
from benchmark_utils.results import beside, charts, pictures, report, scores, tables
from solvers.tds import Solver as TDS

CLOSED_FORMS = [
    Prior("gaussian", (("correlation", 0.9),)),
    Prior("gaussian_mixture"),
    Prior("gaussian_latent"),
    Prior("faces64_mfa"),
    Prior("slakh_gaussian", (("length", 4096),)),
]


def test_share_of_the_draws_that_have_a_value_outside():
    inside, outside, nan = torch.full((2, 3), -20.0), torch.tensor([[0, 20.1], [0, 0]]), torch.tensor([float("nan"), 0])
    draws = torch.stack([inside[:, :2].flatten(), outside.flatten(), nan.repeat(2), torch.zeros(4)])
    assert diverged_share(draws, 2.0) == 0.5
    assert diverged_share(draws, 2.02) == 0.25


@pytest.mark.parametrize("prior", CLOSED_FORMS, ids=lambda prior: prior.name)
def test_draws_of_a_prior_lie_within_its_range(prior):
    draws = prior.load("cpu").sample(2000 if len(prior.signal_shape) == 1 else 20, torch.Generator().manual_seed(0))
    assert 0.03 < draws.flatten(1).square().mean(0).sqrt().max() / prior.signal_range < 1.1
    assert diverged_share(draws, prior.signal_range) == 0


@pytest.mark.parametrize(
    "task, signal_range",
    [("gaussian[n_problems=2]", 1), ("ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]", 1)],
)
def test_a_row_says_the_share(task, signal_range):
    def one_of_four(problem, prior, rng):
        x = torch.zeros(len(problem.y), *prior.event_shape, dtype=prior.dtype)
        x[torch.tensor(rng.draws) == 3, 0] = -DIVERGED * signal_range - 0.1
        return x

    rows = evaluate(one_of_four, task, n_samples=4)
    assert rows.diverged.tolist() == [0.25, 0.25] and rows.data_misfit.notna().all()


@pytest.fixture
def df():
    """On one task the best solver diverged, in one draw of eight of one image; on another it did not."""
    rows = cell(HALF.format(0), "wild", (0, 1), {"lpips": [0.1, 0.1], "spread": [9.0, 9.0]}, nfe=10.0)
    rows[0]["objective_diverged"] = 0.125
    rows += cell(HALF.format(0), "good", (0, 1), {"lpips": [0.2, 0.2], "spread": [0.1, 0.1]}, stored=some_pictures())
    rows += cell(HALF.format(0), "bad", (0, 1), {"lpips": [0.3, 0.3], "spread": [0.1, 0.1]}, nfe=200.0)
    rows[1]["final_results"] = some_pictures()
    for solver, lpips in (("wild", 0.1), ("good", 0.2), ("bad", 0.3)):
        rows += cell("ffhq_t[first=0,n_images=2,noise_std=0.05]", solver, (0, 1), {"lpips": [lpips, lpips]})
    df = pd.DataFrame(rows)
    df["objective_diverged"] = df["objective_diverged"].fillna(0.0)
    return df


@pytest.mark.parametrize("make", [tables.leaderboard, tables.samples])
def test_tables_mark_it_last_and_never_bold(df, make):
    table = make(df, HALF_TASK)
    assert [row[1].text for row in table.rows] == ["good", "bad", "wild (diverged)"]
    assert table.rows[2][2].text == "0.100"  # it keeps its numbers
    assert [row[1].text for row in table.rows if row[2].best] == ["good"]
    note = "last, no competitors: wild (6.2% of its draws) diverged, 10 times outside the range of the signals"
    assert note in table.notes
    assert "diverged" not in " ".join(map(tables.heading, scores.metrics_of(df)))


def test_exactness_marks_it():
    rows = []
    for solver, share in (("wild", 1.0), ("good", 0.0)):
        measured = {"mean_error": [1e9 if share else 0.1], "variance_ratio": [1.0]}
        rows += cell("gaussian[n_problems=1]", solver, (0,), measured, diverged=share)
    table = tables.exactness(pd.DataFrame(rows), scores.tasks(pd.DataFrame(rows))[0])
    assert [row[1].text for row in table.rows] == ["floor of exact draws", "good", "wild (diverged)"]


def test_it_is_ranked_on_the_other_tasks_only(df):
    both, one = scores.comparisons(df)
    assert (both, one) == ("2 tasks, 2 solvers", "1 task, 3 solvers")
    overall = tables.overall(df, both)
    assert [row[1].text for row in overall.rows] == ["good", "bad"]
    assert f"not ranked: wild, no score on {HALF_TASK} (diverged)" in overall.notes
    overall = tables.overall(df, one)
    assert [row[1].text for row in overall.rows] == ["wild", "good", "bad"]
    assert f"not compared: {HALF_TASK}, no score of wild (diverged)" in overall.notes


def test_charts_and_pictures_mark_it(df):
    points = charts.tradeoff(df, HALF_TASK, "NFE + VJP")
    assert [(point.label, point.on_front) for point in points] == [
        ("wild (diverged)", False),
        ("good", True),
        ("bad", False),
    ]
    assert [label for _, label, _ in charts.box_values(df, HALF_TASK)] == ["good", "bad", "wild (diverged)"]
    for view in ("reconstructions", "error"):
        labels = [picture.label for picture in pictures.pictures(df, HALF_TASK, view)]
        assert [label.startswith("wild (diverged): ") for label in labels] == [False, False, False, True] * 2
    difference = beside.differences(df, HALF_TASK, "good")
    assert [row[:2] for row in text_rows(difference)] == [["1", "bad"], ["2", "wild (diverged)"]]
    for chart in (report.box_chart(df, HALF_TASK), report.tradeoff_chart(df, HALF_TASK, "seconds")):
        assert b"wild (diverged)" in base64.b64decode(chart.split(",")[1].split('"')[0])


def test_the_view_of_missing_cells_and_the_terminal_list_it(df, tmp_path, capsys):
    (row,) = text_rows(tables.missing(df, outputs=tmp_path))
    said = "6.2% of its draws are 10 times outside the range of the signals"
    assert row == ["1", "wild", HALF_TASK, "diverged", "1", said]
    assert main(["table", str(saved(df, tmp_path))]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("diverged:")]
    assert line == f"diverged: wild on {HALF.format(0)}, Posterior sampling: {said}"


WILD = """
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    name = "wild"

    def sample(self, problem, prior, rng):
        return 1e6 + rng.randn(*prior.event_shape)
"""


def test_a_run_lists_it_at_its_end_and_its_page_too(copy_of_benchmark):
    (copy_of_benchmark / "solvers" / "wild.py").write_text(WILD)
    code, output = accounted_run(copy_of_benchmark, "-s", "wild", "-d", "gaussian[n_problems=1]", "--no-display")
    said = "100.0% of its draws are 10 times outside the range of the signals"
    assert code == 0 and output.splitlines()[-1].startswith("diverged: wild on gaussian[") and said in output
    (page,) = (copy_of_benchmark / "outputs").glob("*benchopt_run*.html")
    text = page.read_text().replace("\\u00a0", " ")
    assert said in text and "wild (diverged)" in text


def test_few_steps_of_tds_with_a_wide_prior_reach_y():
    """The prior's largest variance is far above 1: without a limit 20 steps end at a misfit of 5e12."""
    rows = evaluate(TDS, "ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=1]", n_steps=20, n_particles=4)
    assert rows.diverged[0] == 0 and rows.data_misfit[0] < 10
