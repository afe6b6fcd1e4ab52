"""What a user runs: benchopt in a copy of the benchmark, its rows, its cache and its failures."""

import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from helpers import benchopt, rows_of

from benchmark_utils.provenance import find_imported_beside

CLOSED = "ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]"


def test_a_run_gives_one_row_per_image_and_uses_the_cache(copy_of_benchmark):
    arguments = ["run", ".", "-s", "ddnm[n_steps=5]", "-s", "pseudo_inverse", "-d", CLOSED, "--no-plot"]
    code, output = benchopt(copy_of_benchmark, *arguments)
    assert code == 0, output
    frame = rows_of(copy_of_benchmark)
    assert sorted(zip(frame.solver_name, frame.objective_image, strict=True)) == [
        ("ddnm[n_steps=5]", 0),
        ("ddnm[n_steps=5]", 1),
        ("pseudo_inverse", 0),
        ("pseudo_inverse", 1),
    ]
    ddnm = frame[frame.solver_name == "ddnm[n_steps=5]"]
    assert (ddnm.objective_nfe == 5).all() and (ddnm.objective_vjp == 0).all()
    assert ddnm.objective_peak_memory_gb.isna().all() or ddnm.objective_peak_memory_gb.gt(0).all()
    assert frame.objective_file.tolist()[:2] == ["00000.png", "00001.png"]

    code, output = benchopt(copy_of_benchmark, *arguments)
    assert plain(output).count("done (cached)") == 2
    with open(copy_of_benchmark / "benchmark_utils" / "metrics.py", "a") as file:
        file.write("# an edit of a file that benchopt does not hash\n")
    code, output = benchopt(copy_of_benchmark, *arguments)
    assert "(cached)" not in output


BESIDE = """
from benchmark_utils.sampler import PosteriorSampler
from step_rule import scale


class Solver(PosteriorSampler):
    name = "beside"

    def sample(self, problem, prior, rng):
        return scale * rng.randn(*prior.event_shape)
"""


def test_a_module_beside_a_solver_is_part_of_the_cache_key(copy_of_benchmark, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "beside.py").write_text(BESIDE)
    arguments = ["run", ".", "-s", str(folder / "beside.py"), "-d", "gaussian[n_problems=1]", "--no-plot"]
    cached = []
    for scale in (1, 1, 2):
        (folder / "step_rule.py").write_text(f"scale = {scale}")
        code, output = benchopt(copy_of_benchmark, *arguments, PYTHONPATH=str(folder))
        assert code == 0, output
        cached.append("done (cached)" in plain(output))
    assert cached == [False, True, False]


def test_imported_files_are_found_through_each_other(tmp_path):
    texts = {"a": "from . import b\nimport torch.nn", "b": "from x.c import f", "c": "import a, d.e", "z": "import a"}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "e.py").touch()
    found = find_imported_beside(tmp_path / "a.py")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in found) == ["a.py", "b.py", "c.py", "d/e.py"]


def test_a_solver_that_returns_nan_is_named_and_the_others_survive(copy_of_benchmark):
    (copy_of_benchmark / "solvers" / "broken.py").write_text(
        "from benchmark_utils.sampler import PosteriorSampler\n"
        "class Solver(PosteriorSampler):\n"
        "    name = 'broken'\n"
        "    def sample(self, problem, prior, rng):\n"
        "        x = problem.y.clone()\n"
        "        x[1] = float('nan')\n"
        "        return x\n"
    )
    code, output = benchopt(
        copy_of_benchmark, "run", ".", "-s", "broken", "-s", "pseudo_inverse", "-d", CLOSED, "--no-plot"
    )
    assert "broken: the sample of image 1 (draw 0) is not finite" in output
    assert set(rows_of(copy_of_benchmark).solver_name) == {"pseudo_inverse"}


def test_sharded_runs_equal_the_whole(copy_of_benchmark):
    rows = {}
    for shards in ([(0, 4)], [(0, 2), (2, 2)]):
        datasets = [f"ffhq_inpainting[mask=box,prior=faces64_mfa,first={f},n_images={n}]" for f, n in shards]
        arguments = [part for name in datasets for part in ("-d", name)]
        code, output = benchopt(copy_of_benchmark, "run", ".", "-s", "ddnm[n_steps=4]", *arguments, "--no-plot")
        assert code == 0, output
        frame = rows_of(copy_of_benchmark).sort_values("objective_image")
        rows[len(shards)] = frame[["objective_image", "objective_lpips", "objective_psnr", "objective_data_misfit"]]
    np.testing.assert_allclose(rows[1].to_numpy(float), rows[2].to_numpy(float), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "dataset, parameters, message",
    [
        ("ffhq_inpainting", {"mask": "circle"}, "unknown mask 'circle'"),
        ("ffhq_inpainting", {"mask": "half", "first": 20, "n_images": 10}, "has 24"),
        ("ffhq_inpainting", {"mask": "half", "prior": "nobody"}, "unknown prior 'nobody'"),
        ("ffhq_inpainting", {"mask": "half", "noise_std": 0}, "noise_std must be a number above 0, got 0"),
        ("ffhq_super_resolution", {"factor": 5}, "divides the image size, got factor=5"),
    ],
)
def test_bad_parameters_get_a_clear_error(dataset, parameters, message):
    Dataset = import_module(f"datasets.{dataset}").Dataset
    with pytest.raises(ValueError, match=message):
        Dataset.get_instance(**parameters).get_data()


def test_a_bad_parameter_ends_the_run_with_its_message(copy_of_benchmark):
    dataset = "ffhq_inpainting[mask=circle]"
    code, output = benchopt(copy_of_benchmark, "run", ".", "-s", "pseudo_inverse", "-d", dataset, "--no-plot")
    assert code != 0 and "unknown mask 'circle'" in output


def test_an_altered_asset_is_refused(copy_of_benchmark):
    weights = copy_of_benchmark / "assets" / "faces64" / "faces64_mfa.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, output = benchopt(copy_of_benchmark, "run", ".", "-s", "ddnm", "-d", CLOSED, "--no-plot")
    assert code != 0 and "truncated or altered" in output


def test_a_missing_dependency_is_named(copy_of_benchmark, tmp_path):
    (tmp_path / "lpips.py").write_text("raise ImportError(\"No module named 'lpips'\")")
    arguments = ["run", ".", "-s", "pseudo_inverse", "-d", CLOSED, "--no-plot"]
    code, output = benchopt(copy_of_benchmark, *arguments, PYTHONPATH=str(tmp_path))
    assert code != 0 and "No module named 'lpips'" in output


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_finished_cells(copy_of_benchmark):
    arguments = ["run", ".", "-s", "ddnm[n_steps=3]", "-s", "mgdm", "-d", CLOSED, "--no-plot"]
    executable = Path(sys.executable).parent / "benchopt"
    with open(copy_of_benchmark / "log", "w") as log:
        process = subprocess.Popen([executable, *arguments], cwd=copy_of_benchmark, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while "ddnm[n_steps=3]: done" not in plain((copy_of_benchmark / "log").read_text()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)
        process.kill()
        process.wait()
    assert not list((copy_of_benchmark / "outputs").glob("*.parquet"))
    arguments[arguments.index("mgdm")] = "pseudo_inverse"
    code, output = benchopt(copy_of_benchmark, *arguments)
    assert code == 0
    assert "ddnm[n_steps=3]: done (cached)" in plain(output) and "pseudo_inverse: done" in plain(output)


def plain(text):
    """Terminal output without colours, and with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))
