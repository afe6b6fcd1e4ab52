"""Which of benchopt's own tests apply here; see the benchopt documentation on ``test_config.py``."""

import pytest


def check_test_solver_install(benchmark, solver_class):
    pytest.skip("solvers share the packages of requirements.txt; benchopt's per-solver install needs conda")
