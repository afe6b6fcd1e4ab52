"""What several test files share: a three-coordinate problem with a known posterior, running a solver or benchopt."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from benchopt.results import read_results
from deepinv.physics import DecomposablePhysics

from benchmark_utils.checks.batches import draw  # noqa: F401
from benchmark_utils.evaluate import objective_of
from benchmark_utils.files.images import THUMBNAILS, stack_images
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities

ROOT = Path(__file__).parents[1]


def identity(x):
    return x


def diagonal_operator(*singular_values):
    """``A = diag(singular_values)`` on (n, d) tensors, as a deepinv operator with U = V = I."""
    mask = torch.tensor([singular_values], dtype=torch.float64)
    return DecomposablePhysics(U=identity, U_adjoint=identity, V=identity, V_adjoint=identity, mask=mask)


def fingerprint_problem(noise_std=0.2):
    """Prior N(0, I_3), ``A = diag(1, 0.3, 0)``, ``y = (1, 0.5, -)``: (problem of one image, prior handle).

    With noise_std = 0.2 the posterior has mean (0.9615, 1.1538, 0) and variances (0.0385, 0.3077, 1).
    """
    prior, operator, noise = (
        Prior("gaussian", (("dim", 3),)),
        diagonal_operator(1.0, 0.3, 0.0),
        GaussianNoise(noise_std),
    )
    y = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64)
    found = capabilities(operator, noise, prior)
    return InverseProblem(operator, noise, y, "gaussian", 2, (0,), capabilities=found), prior


def read_thumbnails(n_images):
    """The first shipped faces, (n, 3, 64, 64) in [-1, 1]."""
    return stack_images(sorted(THUMBNAILS.glob("*.png"))[:n_images], 64)


def problem_of(dataset):
    """The problem that the objective makes of a dataset with seed 0."""
    return objective_of(dataset).problem


def copied_benchmark(target):
    """A copy without results or cache, so that runs do not meet the developer's own."""
    left_out = (".venv", ".git", "__cache__", "outputs", "benchopt_run", "__pycache__", "data")
    return shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*left_out))


def benchopt(folder, *arguments, **environment):
    """Run benchopt in a folder; returns (exit code, output)."""
    executable = Path(sys.executable).parent / "benchopt"
    done = subprocess.run(
        [executable, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout + done.stderr


def rows_of(folder):
    """The rows of the only result of a benchmark's folder, whose file is removed."""
    (path,) = (folder / "outputs").glob("*.parquet")
    frame = read_results(path)
    path.unlink()
    return frame


def accounted_run(folder, *arguments, **environment):
    """Run ``python -m benchmark_utils run`` in a folder; returns (exit code, output)."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmark_utils", "run", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout + done.stderr


def git(folder, *arguments):
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", folder, *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder):
    """Make a folder a checkout of one commit, and return its number."""
    for arguments in (["init"], ["add", "--all"], ["commit", "--message", "all"]):
        git(folder, *arguments)
    return git(folder, "rev-parse", "HEAD")
