"""Which of benchopt's own tests apply here; see the benchopt documentation on ``test_config.py``."""

import pytest


def check_test_solver_install(benchmark, solver_class):
    pytest.skip("solvers share the packages of requirements.txt; benchopt's per-solver install needs conda")


def check_test_solver_run(benchmark, solver_class):
    if solver_class.name == "demucs":
        pytest.importorskip("demucs.api", reason="the package demucs is optional: pip install 'demucs>=4.1'")
