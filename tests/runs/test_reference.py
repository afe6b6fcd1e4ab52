"""Reference rows: a run that also writes its rows, without pictures, with what they came from."""

import numpy as np
import pandas as pd
import pytest
import yaml
from benchopt.results import read_results, save_results
from helpers import ROOT, accounted_run, commit_all
from test_plots import HALF, cell, some_pictures

from benchmark_utils import __main__ as entry
from benchmark_utils.__main__ import main
from benchmark_utils.evaluate import evaluate
from benchmark_utils.results.beside import SAME_DATA
from benchmark_utils.runs import cells, reference
from solvers.pseudo_inverse import Solver as PseudoInverse


def test_a_run_writes_its_rows_with_their_origin(copy_of_benchmark):
    commit = commit_all(copy_of_benchmark)
    arguments = [
        "-s",
        "exact_posterior",
        "-s",
        "ddrm[n_steps=5]",
        "-d",
        "gaussian[n_problems=2]",
        "-o",
        "*[n_samples=5]",
    ]
    arguments += ["--no-plot", "--output", "tiny", "--rows", "results"]
    code, output = accounted_run(copy_of_benchmark, *arguments)
    assert code == 0, output
    assert f"4 rows of {commit} in results/tiny.parquet" in output
    rows = read_results(copy_of_benchmark / "results" / "tiny.parquet")
    assert set(rows["objective_git_commit"]) == {commit} and "final_results" not in rows
    assert {*SAME_DATA, "objective_weights", "objective_solver_code", "run_date"} <= set(rows)
    settings = rows.groupby("solver_name")["objective_settings"].first()
    assert settings["ddrm[n_steps=5]"].startswith("n_steps=5, ") and settings["exact_posterior"] == "no parameters"
    assert rows.groupby("objective_image")["objective_y_digest"].nunique().tolist() == [1, 1]
    assert rows["objective_y_digest"].nunique() == rows["objective_truth_digest"].nunique() == 2


def test_pictures_are_left_out_and_an_older_file_is_replaced(tmp_path):
    rows = pd.DataFrame(cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]}, stored=some_pictures()))
    rows["objective_git_commit"] = "a" * 40
    path = save_results(rows, tmp_path / "run.parquet")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.parquet").write_bytes(b"older")
    target = reference.write_rows(path, tmp_path / "results")
    assert "final_results" not in read_results(target) and len(read_results(target)) == 2
    save_results(rows.assign(objective_git_commit=["a" * 40, f"{'a' * 40}-dirty"]), path, uniquify=False)
    with pytest.raises(ValueError, match="run.parquet has rows of a{40}-dirty: compute these again"):
        reference.write_rows(path, tmp_path / "results")


@pytest.mark.parametrize("commit", [f"{'a' * 40}-dirty", "unknown: not a git checkout"])
def test_rows_of_a_changed_checkout_are_refused_before_the_run(commit, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(reference, "git_commit", lambda: commit)
    with pytest.raises(SystemExit):
        main(["run", "-s", "dps", "-d", "gaussian", "--output", "never", "--rows", "results"])
    assert f"this one is {commit}" in capsys.readouterr().err


def test_rows_of_sources_that_git_does_not_track_are_refused(monkeypatch, tmp_path):
    (tmp_path / "solvers").mkdir()
    (tmp_path / "objective.py").write_text("")
    monkeypatch.setattr(reference, "git_commit", lambda: commit)
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    commit = commit_all(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "mine.py").write_text("")
    reference.check_checkout()
    (tmp_path / "solvers" / "mine.py").write_text("")
    with pytest.raises(ValueError, match=r"commit or remove: \?\? solvers/mine.py"):
        reference.check_checkout()


def test_rows_that_cannot_be_written_are_one_error(monkeypatch, tmp_path, capsys):
    rows = pd.DataFrame(cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]})).assign(objective_git_commit="x-dirty")
    path = save_results(rows, tmp_path / "run.parquet")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(entry, "check_checkout", lambda: None)
    monkeypatch.setattr(entry.run, "read_request", lambda rest: ([], {}, path, None))
    monkeypatch.setattr(entry.run, "run_and_account", lambda *request: 0)
    with pytest.raises(SystemExit):
        main(["run", "--rows", str(tmp_path / "rows")])
    assert "run.parquet has rows of x-dirty: compute these again" in capsys.readouterr().err
    ran = []
    monkeypatch.setattr(entry.run, "run_and_account", lambda *request: ran.append(request))
    with pytest.raises(SystemExit):
        main(["run", "--rows", str(path)])
    assert not ran and str(path) in capsys.readouterr().err  # a file, where a folder must be: told before the run


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("reference_*.yml")), ids=lambda path: path.stem)
def test_reference_configs_name_what_there_is(path):
    config = yaml.safe_load(path.read_text())
    assert config["output"] == path.stem and f"--config configs/{path.name} " in path.read_text()
    requested = [(str(dataset), str(solver)) for dataset, _, solver, *_ in cells.requested_cells(config)]
    solvers = {path.stem for path in (ROOT / "solvers").glob("*.py")}
    assert {solver.partition("[")[0] for _, solver in requested} <= solvers
    assert len(requested) == len(set(requested))


SHIPPED = sorted((ROOT / "results").glob("*.parquet"))


def test_the_shipped_rows_are_small_and_name_their_commit_and_known_solvers():
    assert sum(path.stat().st_size for path in SHIPPED) < 5e6
    for path in SHIPPED:
        rows = read_results(path)
        assert rows["objective_git_commit"].str.fullmatch(reference.COMMIT).all() and "final_results" not in rows, path
        names = rows["solver_name"].str.split("[").str[0].unique()
        assert all((ROOT / "solvers" / f"{name}.py").is_file() for name in names), path


@pytest.mark.parametrize(
    "file, dataset, headline",
    [
        ("reference_closed", "gaussian", "mean_error"),
        ("reference_faces_half", "ffhq_inpainting[mask=half,n_images=8]", "lpips"),
    ],
)
def test_the_shipped_rows_are_of_today_s_data(file, dataset, headline):
    """A change of signals, y or scores makes the shipped rows incomparable: then make them anew."""
    shipped = read_results(ROOT / "results" / f"{file}.parquet")
    found = evaluate(PseudoInverse, dataset)
    task = shipped["dataset_name"] == found_name(shipped, dataset)
    rows = shipped[task & (shipped["solver_name"] == "pseudo_inverse")].sort_values("objective_image")
    for name in ("image", "truth_digest", "y_digest"):
        assert rows[f"objective_{name}"].tolist() == found[name].tolist()
    np.testing.assert_allclose(rows[f"objective_{headline}"], found[headline], rtol=1e-3)


def found_name(rows, dataset):
    """The first dataset of the rows with this name: the one of default parameters comes first in its config."""
    return rows.loc[rows["dataset_name"].str.startswith(dataset.split("[")[0] + "["), "dataset_name"].iloc[0]
