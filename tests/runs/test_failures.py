"""What goes wrong in long runs: what is finished stays, a rerun does the rest, and nobody is told that all is well."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
from benchopt.utils.run_context import RunContext
from helpers import ROOT, accounted_run, benchopt, rows_of
from test_end_to_end import plain

from benchmark_utils.__main__ import main
from benchmark_utils.attempts import last_attempt
from benchmark_utils.runs import cells
from benchmark_utils.sampler import PosteriorSampler

# a solver whose cells last as long as they are told to, and may refuse an image or fill a disk
SMALL_SOLVER = """
import os
import time
from pathlib import Path

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    name = "small"
    parameters = {"seconds": [0.0], "refuses": [-1], "fills": [False]}

    def sample(self, problem, prior, rng):
        if self.refuses in problem.images:
            raise RuntimeError(f"no step size for image {self.refuses}")
        if self.fills:
            with open(Path(os.environ["BENCHOPT_CACHE"]).parent / "filler", "wb") as file:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
        time.sleep(self.seconds)
        return problem.operator.A_adjoint(problem.y) + rng.randn(*prior.event_shape)
"""
TASK = ["-d", "gaussian[n_problems=2]", "-o", "*[n_samples=20]"]


@pytest.fixture()
def bench(copy_of_benchmark):
    (copy_of_benchmark / "solvers" / "small.py").write_text(SMALL_SOLVER)
    return copy_of_benchmark


def missing(output):
    return [line for line in output.splitlines() if line.startswith("missing:")]


def test_a_solver_that_refuses_an_image_fails_the_run_but_not_the_other_cells(bench):
    arguments = ["-s", "small[refuses=[1,5]]", *TASK, "--no-display"]
    code, output = accounted_run(bench, *arguments)
    assert code == 1
    (line,) = missing(output)
    assert "refuses=1" in line and "RuntimeError: no step size for image 1" in line
    (page,) = (bench / "outputs").glob("*benchopt_run*.html")
    assert "no step size for image 1" in page.read_text().replace("\\u00a0", " ")  # the page's spaces do not break
    rows = rows_of(bench)
    assert set(rows.p_solver_refuses) == {5} and sorted(rows.objective_image) == [0, 1]

    code, output = accounted_run(bench, *arguments, "--allow-failures", "--no-plot")
    assert code == 0 and len(missing(output)) == 1
    assert plain(output).count("done (cached)") == 1 and plain(output).count("error") == 1


def test_a_dataset_that_raises_fails_its_own_cells(bench):
    dataset = "gaussian[n_problems=2,dim=[2,1,3]]"  # two coordinates are observed
    code, output = accounted_run(bench, "-s", "small", "-d", dataset, "-o", "*[n_samples=20]", "--no-display")
    assert code == 1
    (line,) = missing(output)
    assert "dim=1" in line and "ValueError: two coordinates are observed, so gaussian needs a dim" in line
    (page,) = (bench / "outputs").glob("*benchopt_run*.html")
    assert "two coordinates are observed" in page.read_text().replace("\\u00a0", " ")
    assert set(rows_of(bench).p_dataset_dim) == {2, 3}


def test_a_shard_that_raises_does_not_speak_for_the_others(tmp_path):
    dataset = "ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=1,first=[100000,0]]"
    config = {"dataset": [dataset], "solver": ["pseudo_inverse"]}
    broken, whole = cells.missing_cells(pd.DataFrame(columns=cells.CELL), config, tmp_path)
    assert "100000" in broken.reason and broken.status == "missing"
    assert whole.reason == cells.NO_ROW and whole.status == "missing"


FAILS, SKIPPED = "gaussian[n_problems=2,dim=1]", "gaussian[n_problems=2,dim=2]"  # the latter with one sample


@pytest.mark.parametrize(
    "dataset, flags, code", [(FAILS, ["--allow-failures"], 0), (SKIPPED, ["--allow-failures"], 0), (SKIPPED, [], 1)]
)
def test_a_run_without_any_results(bench, dataset, flags, code):
    arguments = ["-s", "small", "-d", dataset, "-o", "*[n_samples=1]", "--no-plot"]
    found, output = accounted_run(bench, *arguments, *flags)
    assert found == code
    assert ("Every cell was skipped: a run without results is a failure" in output) == (dataset == SKIPPED)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-s", "smal"], "Patterns ['smal'] did not match any solver"),
        ([".", "-s", "smal"], "Patterns ['smal'] did not match any solver"),
        (["-s", "dps[zeal=1]"], "Unknown parameter 'zeal' for solver dps"),
        (["--config", "nowhere.yml"], "No such file or directory: 'nowhere.yml'"),
        (["--parallel-config", "nowhere.yml"], "No such file or directory: 'nowhere.yml'"),
        (["--job", "2"], "No such option '--job'"),
        (["-s", "silence", "--output", "/dev/null/run"], "File exists: '/dev/null'"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["table", "report"])
@pytest.mark.parametrize(
    "config, message", [("solver: [smal]", "did not match any solver"), ("solver: [", "while parsing")]
)
def test_a_wrong_config_of_what_is_expected_is_a_usage_error(command, config, message, tmp_path, capsys):
    (tmp_path / "run.parquet").touch()
    (tmp_path / "c.yml").write_text(config)
    with pytest.raises(SystemExit, match="2"):
        main([command, str(tmp_path / "run.parquet"), "--expect", str(tmp_path / "c.yml")])
    error = capsys.readouterr().err
    assert f"{tmp_path / 'c.yml'}: " in error and message in error


def test_a_run_from_another_folder_says_where_to_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["run", "-s", "small"])
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"runs start in the folder of the benchmark: cd {ROOT}")


@pytest.mark.parametrize("command", [[], ["run"], ["table"], ["report"], ["listen"]])
def test_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    assert f"python -m benchmark_utils {' '.join(command)}" in capsys.readouterr().out


class Overriding(PosteriorSampler):
    name = "overriding"

    def set_objective(self, **_):
        raise ValueError("no such network")


def test_what_an_override_fails_with_is_recorded(tmp_path):
    solver = Overriding.get_instance()
    solver._run_context = RunContext(
        run_output_base=tmp_path / "run", dataset_name="d", objective_name="o", solver_name="s", repetition=0
    )
    with pytest.raises(ValueError, match="no such network"):
        solver.set_objective()
    assert "ValueError: no such network" in last_attempt(tmp_path, ("d", "o", "s", 0))


@pytest.mark.parametrize("command", ["table", "report", "listen"])
def test_a_missing_result_is_a_usage_error(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([command, "nowhere.parquet"])
    assert "nowhere.parquet does not exist" in capsys.readouterr().err


def start(bench, *arguments, **environment):
    """Start ``python -m benchmark_utils run`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark_utils", "run", *arguments],
        cwd=bench,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment,
        stdout=open(bench / "log", "w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )


def wait_for_text(bench, process, *texts):
    while not all(text in plain((bench / "log").read_text()) for text in texts):
        assert process.poll() is None, (bench / "log").read_text()
        time.sleep(0.2)


def wait_for_a_cell(bench, process):
    """Return True when a cell of this run is at work, False if the run ends before."""
    since = psutil.Process(process.pid).create_time()
    while process.poll() is None:
        for note in (bench / "outputs" / "attempts").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # the cell has ended
                if note.stat().st_mtime > since:
                    return True
        time.sleep(0.05)
    return False


def workers(process, mark="popen_loky_posix"):
    """The worker processes of a run, by what their command line contains: loky's, or ``spawn_main`` for Dask's."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if mark in " ".join(child.cmdline())]


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_cells(bench):
    arguments = ["-s", "small[seconds=[0.0,100.0]]", *TASK, "--no-display"]
    process = start(bench, *arguments)
    wait_for_text(bench, process, "seconds=0.0]: done")
    assert wait_for_a_cell(bench, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    (line,) = missing((bench / "log").read_text())
    assert "seconds=100.0" in line and "interrupted" in line
    assert set(rows_of(bench).p_solver_seconds) == {0.0}


@pytest.mark.slow
def test_a_killed_worker_leaves_the_finished_cells(bench):
    arguments = ["-s", "small[seconds=[0.0,0.1,100.0]]", *TASK, "-j", "2", "--no-plot"]
    process = start(bench, *arguments)
    wait_for_text(bench, process, "seconds=0.0]: done", "seconds=0.1]: done")
    time.sleep(5)  # a cell is written to the cache after it says that it is done
    assert wait_for_a_cell(bench, process)
    for worker in workers(process):
        worker.kill()
    assert process.wait(120) == 1
    (line,) = missing((bench / "log").read_text())
    assert "seconds=100.0" in line and "killed" in line
    assert set(rows_of(bench).p_solver_seconds) == {0.0, 0.1}


@pytest.mark.slow
def test_dask_repeats_the_cell_of_a_killed_worker(bench):
    pytest.importorskip("distributed", reason="pip install '.[scale]' -c constraints.txt")
    arguments = ["-s", "small[seconds=[10.0,11.0]]", *TASK, "--no-plot", "--parallel-config", "configs/dask.yml"]
    process = start(bench, *arguments)
    assert wait_for_a_cell(bench, process)
    workers(process, "spawn_main")[0].kill()
    assert process.wait(600) == 0, (bench / "log").read_text()
    rows = rows_of(bench)
    found = sorted(zip(rows.p_solver_seconds, rows.objective_image, strict=True))
    assert found == [(10.0, 0), (10.0, 1), (11.0, 0), (11.0, 1)]


@pytest.fixture()
def small_disk(tmp_path):
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_the_rerun_does_the_rest(bench, small_disk):
    (small_disk / "outputs").mkdir()
    (bench / "outputs").symlink_to(small_disk / "outputs")
    cache = {"BENCHOPT_CACHE": str(small_disk / "cache")}
    first, then = ["-s", "small[seconds=0.0]"], ["-s", "small[seconds=0.01]"]
    arguments = [*TASK, "--no-plot"]
    code, output = accounted_run(bench, *first, "-s", "small[fills=True]", *then, *arguments, **cache)
    assert code != 0 and "No space left on device" in output
    assert not list((bench / "outputs").glob("*.parquet"))  # not half a file either
    (small_disk / "filler").unlink()
    code, output = accounted_run(bench, *first, *then, *arguments, **cache)
    assert code == 0, output
    assert "seconds=0.0]: done (cached)" in plain(output)
    rows = rows_of(bench)
    code, output = accounted_run(bench, *first, *then, *arguments, BENCHOPT_CACHE=str(bench / "elsewhere"))
    assert code == 0, output
    assert_same(rows, rows_of(bench))


def assert_same(rows, others):
    """The same cells and images, once each, with the same numbers to the last bit."""
    frames = []
    for frame in (rows, others):
        frame = frame.set_index(["dataset_name", "solver_name", "objective_image"]).sort_index()
        assert frame.index.is_unique
        frames.append(frame[["objective_mean_error", "objective_variance_ratio", "objective_data_misfit"]])
    pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.slow
def test_twenty_kills_of_workers_and_drivers_leave_the_rows_of_an_undisturbed_run(bench):
    """SIGKILL at random moments; when all cells are done the cache is emptied, so that every kill finds work."""
    levels = ",".join(f"{0.1 + 0.01 * i:.2f}" for i in range(60))
    arguments = ["-s", "small[seconds=0.5]", "-d", f"gaussian[n_problems=2,noise_std=[{levels}]]"]
    arguments += ["-o", "*[n_samples=20]", "-j", "2", "--no-plot"]
    code, output = benchopt(bench, "run", ".", *arguments, BENCHOPT_CACHE=str(bench / "undisturbed"))
    assert code == 0, output
    undisturbed = rows_of(bench)
    assert len(undisturbed) == 120

    moments, n_kills, finished = random.Random(0), 0, False
    while n_kills < 20 or not finished:
        process, family = start(bench, *arguments), []
        if n_kills < 20 and wait_for_a_cell(bench, process):
            time.sleep(moments.uniform(0, 6))
            family = workers(process)  # none if the run ended meanwhile
            if family:
                victim = process if n_kills % 2 else moments.choice(family)
                victim.kill()
                n_kills += 1
        finished = process.wait(600) == 0
        psutil.wait_procs(family, timeout=60)  # the workers of a killed driver end their cell first
        found = list((bench / "outputs").glob("*.parquet"))
        if finished:
            assert_same(rows_of(bench), undisturbed)
            shutil.rmtree(bench / "__cache__")
        elif found:
            rows = rows_of(bench)  # of the cells that were finished when a worker was killed
            assert not rows.duplicated(["dataset_name", "objective_image"]).any()
