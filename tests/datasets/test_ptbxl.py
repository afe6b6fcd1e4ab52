"""Electrocardiograms: tasks, records, scores of the hidden entries, baselines, samplers and traces."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import draw
from test_invariance import SOLVERS

from benchmark_utils.evaluate import evaluate, objective_of
from benchmark_utils.files.ptbxl import LEADS, read_shipped
from benchmark_utils.results import export, pictures, report, traces
from benchmark_utils.stored import store
from datasets.ptbxl import METRICS, Dataset
from solvers.exact_posterior import Solver as ExactPosterior
from solvers.pseudo_inverse import Solver as PseudoInverse
from solvers.regression import Solver as Regression
from solvers.zero import Solver as Zero

SMALL = {"prior": "ecg_stationary", "length": 64 + 8}


def objective(prior="ecg_stationary", **parameters):
    return objective_of(Dataset.get_instance(prior=prior, **parameters))


def masks(**parameters):
    return objective(**SMALL | {"n_records": 3} | parameters).problem.operator.mask


def test_masks_of_the_tasks():
    assert masks().sum((0, 2)).tolist() == [3 * 72] + 8 * [0]
    several = masks(leads=["V2", "I", "II"])
    assert several.sum((0, 2)).nonzero().flatten().tolist() == [0, 1, 4] and set(several.flatten().tolist()) == {0, 1}
    block, gap = masks(task="block"), masks(task="gap")
    assert block[..., :36].all() and not block[..., 36:].any()
    assert gap[..., :27].all() and not gap[..., 27:45].any() and gap[..., 45:].all()
    assert masks(task="denoise").all()


def test_random_leads_belong_to_the_record():
    found = masks(task="random_lead", n_records=20)
    assert (found == found[..., :1]).all() and found[..., 0].sum(1).tolist() == 20 * [3]
    assert len(found[..., 0].unique(dim=0)) > 10
    assert masks(task="random_lead", first=5, n_records=2).equal(found[5:7])


@pytest.mark.parametrize(
    "task, std", [("lead", 0.05), ("random_lead", 0.05), ("block", 0.05), ("gap", 0.05), ("denoise", 0.3)]
)
def test_hidden_entries_are_zero_and_the_others_noisy(task, std):
    found = objective(**SMALL, task=task)
    problem, x = found.problem, found.x_true
    seen = problem.operator.mask > 0
    assert not problem.y[~seen].any()
    assert (problem.y - x)[seen].std().item() == pytest.approx(std, rel=0.05)
    assert {"mask", "svd", "linear", "gaussian", "leads", "closed_form"} <= problem.capabilities


def test_shipped_records():
    ids, records = read_shipped()
    assert records.shape == (20, 9, 1000) and len(set(ids)) == 20
    assert records.mean(2).abs().max() < 1e-3
    torch.testing.assert_close(records.square().mean(2), torch.ones(20, 9, dtype=torch.float64), rtol=0, atol=5e-3)
    # III = II - I in mV: with a scale of its own it is a combination of I and II within every record
    for record in records:
        fit = torch.linalg.lstsq(record[:2].T, record[2]).solution
        assert (record[:2].T @ fit - record[2]).square().mean() < 0.02
    assert objective(n_records=2, first=3).files == (f"ECG {ids[3]}", f"ECG {ids[4]}")


class Cheat(Zero):
    """The truth where it is hidden, nonsense where it is seen, the same for all draws."""

    name = "cheat"
    truth = None

    def sample(self, problem, prior, rng):
        x = self.truth.repeat_interleave(problem.n_draws, 0).to(problem.y)
        return torch.where(problem.operator.mask > 0, 100.0, x)


@pytest.mark.parametrize("task", ["lead", "block"])
def test_scores_see_hidden_entries_only(task):
    Cheat.truth = objective(**SMALL, n_records=3, task=task).x_true
    rows = evaluate(Cheat, f"ptbxl[task={task},prior=ecg_stationary,length=72,n_records=3]", n_samples=4)
    for name in ("mae", "mae_mean", "rmse_mean", "crps", "spread"):
        assert rows[name].abs().max() < 1e-6, name
    assert rows["data_misfit"].min() > 1e5
    assert list(rows["headline"].unique()) == ["crps"] and list(rows.columns[: len(METRICS)]) == list(METRICS)


def test_scores_of_denoising_see_all_entries():
    parameters = SMALL | {"n_records": 2, "task": "denoise"}
    Cheat.truth = objective(**parameters).x_true
    rows = evaluate(Cheat, "ptbxl[task=denoise,prior=ecg_stationary,length=72,n_records=2]", n_samples=2)
    assert rows["mae"].min() > 90


def test_zeros_have_the_mean_absolute_value():
    """.546 ± .009 over the whole test part in the project's notes, and a point's CRPS is its absolute error."""
    rows = evaluate(Zero, "ptbxl[prior=ecg_stationary]", n_samples=2)
    assert rows["mae"].mean() == pytest.approx(0.546, abs=0.009)
    for name in ("crps", "mae_mean"):
        np.testing.assert_allclose(rows[name], rows["mae"], rtol=1e-6)
    assert rows["spread"].max() == 0 and (rows["unit"] == "records").all()
    hidden = evaluate(PseudoInverse, "ptbxl[prior=ecg_stationary]", n_samples=2)
    np.testing.assert_allclose(hidden["mae"], rows["mae"], rtol=1e-6)


def test_scores_by_hand():
    """MAE of each draw, of their mean, and the fair CRPS of two draws with a hidden half."""
    found = objective(**SMALL, n_records=1, task="block")
    draws = found.x_true[:, None] + torch.tensor([1.0, -3.0], dtype=torch.float64).view(1, 2, 1, 1)
    row = found.evaluate_result(draws, 0.0, 0.0, 0.0, float("nan"), [float("nan")], {})[0]
    expected = {"mae": 2.0, "mae_mean": 1.0, "rmse_mean": 1.0, "crps": (1 + 3) / 2 - 4 / 2, "spread": 8**0.5}
    for name, value in expected.items():
        assert row[name] == pytest.approx(value), name


def test_crps_and_coverage_of_exact_draws():
    """Truths that are draws of the prior: exact posterior draws cover them as often as they should.

    The CRPS of a Gaussian N(m, s^2) averages s / sqrt(pi) over its own draws, here by the posterior's variances.
    """
    found = objective(**SMALL | {"length": 32}, n_records=20, task="lead")
    prior = found.prior.load("cpu")
    found.x_true = prior.sample(20, torch.Generator().manual_seed(0))
    y = found._measure(found.problem.operator, found.problem.noise, "lead", found.problem.images)
    found.problem = replace(found.problem, y=y * found.problem.operator.mask)
    draws = draw(ExactPosterior, found.problem, found.prior, 50)
    rows = pd.DataFrame(found.evaluate_result(draws, 0.0, 0.0, 0.0, float("nan"), [float("nan")] * 20, {}))
    hidden = found.problem.operator.mask[0] == 0
    many = draw(ExactPosterior, replace(found.problem.rows([0])), found.prior, 2000)[0]
    expected = many[:, hidden].std(0).mean().item() / np.pi**0.5
    assert rows["crps"].mean() == pytest.approx(expected, rel=0.1)
    assert rows["coverage_80"].mean() == pytest.approx(rows["coverage_80_floor"].mean(), abs=0.03)
    assert rows["mae"].mean() == pytest.approx(2**0.5 * rows["mae_mean"].mean(), rel=0.05)


def test_regression_is_the_least_squares_fit_per_instant():
    rows = evaluate(Regression, "ptbxl[prior=ecg_stationary]", n_samples=2)
    assert rows["mae"].mean() == pytest.approx(0.43, abs=0.04)
    three = evaluate(Regression, "ptbxl[prior=ecg_stationary,leads=[[I,II,V2]]]", n_samples=2)
    assert three["mae"].mean() == pytest.approx(0.272, abs=0.03)
    found = objective(n_records=1, leads=["I", "V5"])
    x = draw(Regression, found.problem, found.prior, 1)[0, 0]
    fit = np.linalg.lstsq(found.problem.y[0, [0, 7]].T.numpy(), x.T.numpy(), rcond=None)
    assert fit[1].max() < 1e-12  # every lead is one combination of the two seen, at every instant


@pytest.mark.parametrize("name", SOLVERS)
def test_samples_do_not_depend_on_the_batch(name):
    Solver = import_module(f"solvers.{name}").Solver
    found = objective(**SMALL, task="random_lead", n_records=3)
    config = {key: value for key, value in (Solver.test_config or {}).items() if key != "dataset"}
    skipped, reason = Solver.get_instance(**config).skip(problem=found.problem, prior=found.prior)
    if skipped:
        pytest.skip(reason)
    together = draw(Solver, found.problem, found.prior, 2, **config)
    alone = draw(Solver, found.problem, found.prior, 2, batch_size=1, **config)
    assert (together - alone).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["ddnm", "dps", "mgps", "mgdm", "mmps"])
def test_draws_of_the_network_do_not_depend_on_the_batch(name):
    """But for rounding: convolutions add in another order for other batch sizes."""
    Solver = import_module(f"solvers.{name}").Solver
    found = objective(prior="ecg", length=64, task="lead", n_records=3)
    config = {key: value for key, value in (Solver.test_config or {}).items() if key != "dataset"}
    together, alone = (draw(Solver, found.problem, found.prior, 2, batch_size=size, **config) for size in (3, 1))
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"task": ["lead"]}, "task must be one of lead, random_lead, block, gap, denoise, got ['lead']"),
        ({"task": "leads"}, "task must be one of lead, random_lead, block, gap, denoise, got 'leads'"),
        ({"leads": "aVR"}, "leads must name some of I, II, III, V1"),
        ({"leads": list(LEADS)}, "not all, got"),
        ({"leads": "I", "task": "block"}, "leads=I is for task=lead: task=block does not choose leads"),
        ({"records": "train"}, "records must be one of shipped, validation, test, got 'train'"),
        ({"units": "V"}, "units must be one of z, mV, got 'V'"),
        ({"units": "mV"}, "units=mV needs records=test and PTBXL_PATH"),
        ({"units": "mV", "records": "test"}, "units=mV needs noise_std, in mV"),
        ({"units": "mV", "records": "test", "noise_std": 0.01}, "prior=ecg is of leads of variance 1"),
        ({"first": 15}, "20 records are shipped, counted from 0: first=15, n_records=20 go beyond them; take fewer"),
        ({"n_records": 0}, "ptbxl: n_records must be a whole number of 1 or more, got 0"),
        ({"n_records": 2.5}, "ptbxl: n_records must be a whole number of 1 or more, got 2.5"),
        ({"first": "abc"}, "ptbxl: first must be a whole number of 0 or more, got 'abc'"),
        ({"length": "abc"}, "ptbxl: length must be a whole number of 1 or more, got 'abc'"),
        ({"noise_std": 0}, "ptbxl: noise_std must be a number above 0, got 0"),
        ({"leads": 5}, "leads must name some of I, II, III, V1, V2, V3, V4, V5, V6, not all, got 5"),
        ({"prior": "faces64"}, "prior=faces64 has signals of shape (3, 64, 64); a prior of 9 leads is needed"),
        ({"length": 13}, "length must be a multiple of 8 from 8 to 1000, got 13"),
        ({"prior": "ecg_beats", "length": 64}, "prior ecg_beats has no option length"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError) as caught:
        Dataset.get_instance(**parameters).get_data()
    assert message in str(caught.value)


def test_one_draw_has_no_crps():
    with pytest.raises(ValueError, match="CRPS needs n_samples of 2 or more"):
        evaluate(Zero, "ptbxl[prior=ecg_stationary,n_records=1]", n_samples=1)


def frame(solvers=("zero", "regression")):
    """The rows and the stored traces of a run of baselines on one task."""
    found, rows = objective(**SMALL, n_records=3), []
    for name in solvers:
        samples = draw(import_module(f"solvers.{name}").Solver, found.problem, found.prior, 10)
        samples = samples + torch.linspace(-1, 1, 10).view(1, 10, 1, 1)
        cell = found.evaluate_result(samples, 0.0, 0.0, 1.0, float("nan"), 3 * [float("nan")], {})
        stored = store(found.problem, found.x_true, samples, found.groups, fid=False)
        for i, row in enumerate(cell):
            meta = {"solver_name": name, "dataset_name": "ptbxl[task=lead]", "objective_name": "Posterior sampling"}
            meta |= {"idx_rep": 0, "final_results": stored if i == 2 else None, "base_seed": 0}
            rows.append(meta | {f"objective_{key}": value for key, value in row.items()})
    return pd.DataFrame(rows), found


def test_traces_are_stored_and_drawn():
    df, found = frame()
    (task,) = traces.trace_tasks(df)
    shown = traces.traces(df, task)
    assert [trace.label.split(":")[0] for trace in shown] == [
        f"{file}, {name}" for file in found.files[:2] for name in ("regression", "zero")
    ]
    trace = shown[1]
    np.testing.assert_allclose(trace.truth, found.x_true[0], atol=0.01)
    np.testing.assert_allclose(trace.seen[0], found.problem.y[0, 0], atol=0.01)
    assert np.isnan(trace.seen[1:]).all()
    assert np.abs(trace.mean).max() < 1e-3 and trace.draws.shape == (5, 9, 72)
    np.testing.assert_allclose(trace.band, np.broadcast_to([[[-1.0]], [[1.0]]], (2, 9, 72)), atol=0.01)
    figure = traces.draw_trace(trace)
    assert [panel.texts[0].get_text() for panel in figure.axes] == list(np.reshape(LEADS, (3, 3)).T.flatten())
    pixels = traces.trace_pixels(trace)
    assert pixels.dtype == np.uint8 and pixels.shape == (520, 880, 3) and pixels.std() > 5


def test_traces_are_exported(tmp_path, monkeypatch):
    """One NPZ per record and solver, its arrays those of the page; ``origin.json`` names record, scores and seed."""
    df, found = frame()
    monkeypatch.setattr(export.scores, "read_file", lambda path: df)
    export.export(Path("run.parquet"), tmp_path)
    origin = json.loads((tmp_path / "origin.json").read_text())["files"]
    assert [(entry["shows"], entry["solver_name"]) for entry in origin] == [("traces", "zero")] * 2 + [
        ("traces", "regression")
    ] * 2
    assert [entry["source"] for entry in origin] == 2 * list(found.files[:2]) and "crps" in origin[0]
    with np.load(tmp_path / origin[1]["file"]) as arrays:
        assert set(arrays) == {"truth", "seen", "mean", "band", "draws", "leads"}
        assert tuple(arrays["leads"]) == LEADS and arrays["draws"].shape == (5, 9, 72)
        np.testing.assert_allclose(arrays["truth"], found.x_true[1], atol=0.01)
        assert np.isnan(arrays["seen"][1:]).all()


def test_keep_all_stores_all_draws_of_all_records():
    found = objective(**SMALL, n_records=3)
    samples = draw(Zero, found.problem, found.prior, 7) + torch.arange(7.0).view(1, 7, 1, 1)
    stored = store(found.problem, found.x_true, samples, found.groups, fid=False, keep_all=True)
    assert stored["draws_of_leads"].shape == (3, 7, 9, 72) and len(stored["truth"]) == len(stored["seen"]) == 3
    assert (stored["draws_of_leads"] == np.arange(7).reshape(1, 7, 1, 1)).all()


def test_ranges_of_exact_draws_hold_their_nominal_share():
    """Another exact draw lies inside the range of ten with 9 / 11; in their interpolated 90 % band with about 0.74."""
    found = objective(**SMALL, n_records=20, task="denoise")
    draws = draw(ExactPosterior, found.problem, found.prior, 11)
    stored = store(found.problem, draws[:, 10], draws[:, :10], found.groups, fid=False, keep_all=True)
    low, high = stored["band"].swapaxes(0, 1)
    inside = (low <= stored["truth"]) & (stored["truth"] <= high)
    assert inside.mean() == pytest.approx(9 / 11, abs=0.02)
    assert "(D - 1) / (D + 1)" in traces.NOTE


def test_page_and_report_show_traces():
    from plots.traces import Plot

    df, found = frame(["zero"])
    (task,) = traces.trace_tasks(df)
    assert pictures.picture_tasks(df) == [pictures.NO_PICTURES]
    shown = Plot().plot(df, task)
    assert len(shown) == 2 and found.files[0] in shown[0]["label"]
    assert "truth" in Plot().get_metadata(df, task)["title"]
    text = report.report(df, "electrocardiograms")
    assert text.count("<figure><img") == 2 and traces.NOTE in text
    without = df.assign(final_results=None)
    assert traces.trace_tasks(without) == [traces.NO_TRACES] and Plot().plot(without, traces.NO_TRACES) == []
