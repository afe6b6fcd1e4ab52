"""``benchmark_utils.evaluate.evaluate``, and the notebook that shows it."""

import json
from importlib import import_module

import pandas as pd
import pytest
from helpers import ROOT, accounted_run, rows_of

from benchmark_utils.evaluate import evaluate
from solvers.ddnm import Solver as DDNM
from solvers.exact_posterior import Solver as ExactPosterior

exact = ExactPosterior().sample


def test_rows_and_scores_of_a_function():
    rows = evaluate(exact, "gaussian[n_problems=3]", n_samples=400)
    assert rows.image.tolist() == [0, 1, 2]
    # one coordinate of the posterior has nearly all its variance tr P = 1.35, so the ratio of n draws has a standard
    # error of at most sqrt(2 / 400) = 0.07
    assert rows.variance_ratio.sub(1).abs().max() < 5 * 0.07
    assert (rows.nfe == 0).all() and (rows.vjp == 0).all()


def test_measurements_and_noise_depend_on_seed_and_repetition():
    task = "gaussian[n_problems=1]"
    first, again = (evaluate(exact, task, n_samples=20).mean_error[0] for _ in range(2))
    assert first == again
    assert first != evaluate(exact, task, n_samples=20, seed=1).mean_error[0]
    assert first != evaluate(exact, task, n_samples=20, repetition=1).mean_error[0]


def test_the_function_has_the_solver_interface():
    calls = []

    def sampler(problem, prior, rng):
        calls.append((problem.y.shape, rng.randn(*prior.event_shape).shape, hasattr(problem, "x_true")))
        return prior.denoise(rng.randn(*prior.event_shape), 1000)

    rows = evaluate(sampler, "gaussian[n_problems=3]", n_samples=5, batch_size=2)
    assert calls == [((10, 2), (10, 3), False), ((5, 2), (5, 3), False)]
    assert (rows.nfe == 1).all()


def test_a_solver_class_with_parameters():
    task = "ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=1]"
    rows = evaluate(DDNM, task, n_steps=4)
    assert rows.nfe.tolist() == [4] and rows.task.tolist() == ["half"]
    with pytest.raises(ValueError, match="ddnm has no zeal; its parameters: .*n_steps"):
        evaluate(DDNM, task, zeal=1)


@pytest.mark.parametrize(
    "dataset, message",
    [
        ("ffhq_inpainting", "must be one task.*mask=box.*mask=half"),
        ("slakh2100[tracks=1900]", "SLAKH2100_PATH"),
        ("ffhq_phase_retrieval[n_images=1]", "ddnm needs svd"),
    ],
)
def test_what_is_not_one_task_with_its_data_and_for_the_solver_is_refused(dataset, message, monkeypatch):
    monkeypatch.delenv("SLAKH2100_PATH", raising=False)
    with pytest.raises(ValueError, match=message):
        evaluate(DDNM, dataset)


def test_the_former_name_says_the_new_one():
    with pytest.warns(FutureWarning, match="benchmark_utils.api is now benchmark_utils.evaluate"):
        assert import_module("benchmark_utils.api").evaluate is evaluate


@pytest.mark.slow
def test_the_rows_are_those_of_benchopt(copy_of_benchmark):
    task = "ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]"
    code, output = accounted_run(copy_of_benchmark, "-s", "ddnm[n_steps=4]", "-d", task, "--no-plot")
    assert code == 0, output
    solver = DDNM.get_instance(n_steps=4)
    solver.resolve_presets("ffhq", "half")
    solver.progress = iter
    rows = evaluate(solver.sample, task)
    expected = rows_of(copy_of_benchmark)
    for name in ("lpips", "psnr", "ssim", "data_misfit", "nfe"):
        pd.testing.assert_series_equal(rows[name], expected[f"objective_{name}"], check_names=False, rtol=0, atol=1e-6)


def test_the_example_notebook_runs(monkeypatch):
    """Its code cells in order, in one namespace, from its folder."""
    monkeypatch.chdir(ROOT / "examples")
    notebook = json.loads((ROOT / "examples" / "score_my_sampler.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    namespace = {}
    for cell in cells:
        exec("".join(cell["source"]), namespace)
    # the method of the notebook reproduces y with its noise
    assert namespace["rows"].image.tolist() == [0, 1, 2, 3] and namespace["rows"].data_misfit.max() < 1e-6
    assert namespace["faces"].image.tolist() == [0, 1] and namespace["faces"].data_misfit.max() < 1e-6
