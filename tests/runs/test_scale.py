"""Runs in shards, on Dask and on SLURM: the rows are those of one run on one machine."""

import os
import shutil
import subprocess

import pandas as pd
import pytest
import yaml
from helpers import ROOT, accounted_run, benchopt, copied_benchmark, rows_of

WHOLE, SHARDS = {"first": [0], "n_images": [4]}, {"first": [0, 2], "n_images": [2]}
NOT_COMPARED = {"objective_name", "objective_image", "objective_seconds_per_image", "objective_peak_memory_gb"}


def write_config(folder, images):
    """A run config of two solvers on half-hidden faces with the closed-form prior, whose numbers are float64."""
    dataset = {"ffhq_inpainting": {"mask": ["half"], "prior": ["faces64_mfa"]} | images}
    config = {"dataset": [dataset], "solver": ["ddnm[n_steps=4]", "dps[n_steps=4]"], "plot": False}
    (folder / "run.yml").write_text(yaml.safe_dump(config))
    return ["--config", "run.yml"]


def scores(rows):
    """What a run measures, apart from time and memory, by solver and image."""
    columns = [name for name in rows if name.startswith("objective_") and name not in NOT_COMPARED]
    found = rows.set_index(["solver_name", "objective_image"]).sort_index()[columns]
    assert found.index.is_unique
    return found


def assert_same_rows(rows, others):
    """To 1e-6 in float64, as for every batch (``tests/solvers/test_invariance.py``)."""
    pd.testing.assert_frame_equal(scores(rows), scores(others), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of the run on one machine, in one piece."""
    folder = copied_benchmark(tmp_path_factory.mktemp("whole") / "bench")
    code, output = benchopt(folder, "run", ".", *write_config(folder, WHOLE))
    assert code == 0, output
    rows = rows_of(folder)
    assert len(rows) == 8
    return rows


@pytest.mark.slow
def test_merged_shards_are_the_whole(copy_of_benchmark, whole):
    arguments = write_config(copy_of_benchmark, SHARDS)
    for first in (0, 2):
        dataset = f"ffhq_inpainting[mask=half,prior=faces64_mfa,first={first},n_images=2]"
        code, output = benchopt(copy_of_benchmark, "run", ".", *arguments, "-d", dataset, "--output", f"shard{first}")
        assert code == 0, output
    shards = ["-f", "outputs/shard0.parquet", "-f", "outputs/shard2.parquet"]
    code, output = benchopt(copy_of_benchmark, "merge", ".", *shards, "--keep", "all", "-o", "merged")
    assert code == 0, output
    for shard in (0, 2):
        (copy_of_benchmark / "outputs" / f"shard{shard}.parquet").unlink()
    assert_same_rows(rows_of(copy_of_benchmark), whole)


# makes a cell fail outside of Dask, and leaves a file named after its worker
RECORD_WORKER = """

def recorded(run):
    def run_on_dask(self, _):
        from distributed import get_worker

        with open(f"worker_{get_worker().name}", "w"):
            run(self, _)

    return run_on_dask


PosteriorSampler.run = recorded(PosteriorSampler.run)
"""


@pytest.mark.slow
def test_dask_gives_the_same_rows(copy_of_benchmark, whole):
    pytest.importorskip("distributed", reason="pip install '.[scale]' -c constraints.txt")
    with open(copy_of_benchmark / "benchmark_utils" / "sampler.py", "a") as file:
        file.write(RECORD_WORKER)
    arguments = write_config(copy_of_benchmark, SHARDS)
    code, output = accounted_run(copy_of_benchmark, *arguments, "--parallel-config", "configs/dask.yml")
    assert code == 0, output
    assert_same_rows(rows_of(copy_of_benchmark), whole)
    assert {path.name for path in copy_of_benchmark.glob("worker_*")} == {"worker_0", "worker_1"}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which sbatch reaches a SLURM of one node on this machine."""
    pytest.importorskip("submitit", reason="pip install '.[scale]' -c constraints.txt")
    if os.getuid() != 0:
        pytest.skip("only root can start slurmd")
    for program in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install --no-install-recommends slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    script = ROOT / "tests" / "local_slurm.sh"
    started = subprocess.run([script, "start", folder], capture_output=True, text=True)
    if started.returncode:
        pytest.skip(f"SLURM does not start on this machine: {started.stderr}")
    yield {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    subprocess.run([script, "stop", folder], check=True)


def slurm_config(folder, **changes):
    """configs/slurm.yml for a node without GPUs and with few cores."""
    config = yaml.safe_load((folder / "configs" / "slurm.yml").read_text())
    del config["slurm_gres"], config["slurm_mem"]
    (folder / "slurm.yml").write_text(yaml.safe_dump(config | {"slurm_cpus_per_task": 1} | changes))
    return ["--parallel-config", "slurm.yml"]


@pytest.mark.slow
def test_slurm_gives_the_same_rows(copy_of_benchmark, whole, slurm):
    arguments = write_config(copy_of_benchmark, SHARDS) + slurm_config(copy_of_benchmark)
    code, output = accounted_run(copy_of_benchmark, *arguments, **slurm)
    assert code == 0, output
    assert_same_rows(rows_of(copy_of_benchmark), whole)
    jobs = list((copy_of_benchmark / "benchopt_run").glob("*_result.pkl"))
    assert len(jobs) == 4  # two solvers on two shards: one job per cell


UNLUCKY = """
import os
import signal
import time

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    name = "unlucky"
    parameters = {"end": ["well"]}

    def sample(self, problem, prior, rng):
        if self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.end == "late":
            time.sleep(600)
        return rng.randn(*prior.event_shape)
"""


@pytest.mark.slow
def test_slurm_jobs_that_die_or_exceed_their_time_are_missing_cells(copy_of_benchmark, slurm):
    (copy_of_benchmark / "solvers" / "unlucky.py").write_text(UNLUCKY)
    arguments = ["-s", "unlucky[end=[killed,late,well]]", "-d", "gaussian[n_problems=2]", "-o", "*[n_samples=20]"]
    limits = slurm_config(copy_of_benchmark, timeout_min=4, slurm_signal_delay_s=60)
    code, output = accounted_run(copy_of_benchmark, *arguments, *limits, "--no-plot", **slurm)
    assert code == 1
    missing = [line for line in output.splitlines() if line.startswith("missing:")]
    assert len(missing) == 2, output
    assert "end=killed" in missing[0] and "killed" in missing[0].partition("gaussian")[2]
    assert "end=late" in missing[1] and "timed-out" in missing[1]
    assert set(rows_of(copy_of_benchmark).solver_name) == {"unlucky[end=well]"}
