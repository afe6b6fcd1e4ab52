import shutil

import pytest
from helpers import ROOT


@pytest.fixture()
def copy_of_benchmark(tmp_path):
    """A copy without results or cache, so that runs do not meet the developer's own."""
    target = tmp_path / "bench"
    shutil.copytree(
        ROOT,
        target,
        ignore=shutil.ignore_patterns(".venv", ".git", "__cache__", "outputs", "benchopt_run", "__pycache__", "data"),
    )
    return target
