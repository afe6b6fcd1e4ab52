"""The README's example of a solver, run as it is written there."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from benchopt.results import read_results

ROOT = Path(__file__).parents[1]


def code_block(text, language):
    """The first code block of an rst text, without its indentation."""
    _, _, after = text.partition(f".. code-block:: {language}\n\n")
    lines = after.split("\n")
    length = next(number for number, line in enumerate(lines) if line and not line.startswith(" "))
    return textwrap.dedent("\n".join(lines[:length])).strip() + "\n"


def test_the_example_runs_as_written(tmp_path):
    code = code_block((ROOT / "README.rst").read_text(), "python")
    assert len([line for line in code.splitlines() if line]) <= 25
    assert code == (ROOT / "examples" / "template_solver.py").read_text()
    solver = tmp_path / "my_sampler.py"
    solver.write_text(code)
    output = tmp_path / "rows.parquet"
    executable = Path(sys.executable).parent / "benchopt"
    arguments = [
        "-s",
        solver,
        "-s",
        "prior_sample[n_steps=20]",
        "-d",
        "gaussian[n_problems=2]",
        "-o",
        "*[n_samples=200]",
    ]
    done = subprocess.run(
        [executable, "run", ".", *arguments, "--no-cache", "--no-plot", "--output", output],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "BENCHOPT_RAISE_ON_ERROR": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_results(output)
    mine, ignorant = (rows[rows.solver_name.str.startswith(name)] for name in ("my_sampler", "prior_sample"))
    assert mine.objective_image.tolist() == [0, 1]
    assert (mine.objective_nfe == 100).all() and (mine.objective_vjp == 100).all()
    # it follows y: the posterior's own misfit is about 1
    assert mine.objective_data_misfit.max() < 5 < ignorant.objective_data_misfit.min()
