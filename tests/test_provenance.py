"""Digests of rows: the same for the same data and code, another one for any change that matters."""

import cloudpickle
import joblib
import torch
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from helpers import ROOT

from benchmark_utils.evaluate import objective_of
from benchmark_utils.provenance import code_digest, digest

SOLVER = '''"""A module."""

class Solver:
    """DPS, {text}."""

    PRESETS = {{("*", "*"): {{"zeta": {zeta}}}}}  # {text}

    def sample(self):
        """{text}"""
'''


def test_digest_of_data_survives_rounding_and_sees_a_change():
    x = torch.linspace(-1, 1, 500, dtype=torch.float64).view(2, 250)
    assert digest(x + 1e-12) == digest(x) == digest(x.clone()) != digest(-x)
    changed = x.clone()
    changed[1, 3] += 1 / 255
    assert digest(changed) != digest(x)


def test_digest_of_code_sees_presets_and_neither_comments_nor_docstrings(tmp_path):
    def written(name, **values):
        path = tmp_path / f"{name}.py"
        path.write_text(SOLVER.format(**values))
        return code_digest(path)

    original = written("original", text="first", zeta=0.3)
    assert written("reworded", text="second", zeta=0.3) == original
    assert written("changed", text="first", zeta=0.4) != original


def test_a_worker_keeps_a_cell_by_the_key_that_it_is_asked_for():
    """With -j, the process that hands out cells asks for their key, a worker makes it of the copies that it got."""
    benchmark = Benchmark(ROOT)
    ((dataset, _),) = _list_parametrized_classes(*benchmark.check_dataset_patterns(["gaussian[n_problems=1]"]))
    ((solver, _),) = _list_parametrized_classes(*benchmark.check_solver_patterns(["ddrm"]))
    objective = benchmark.get_benchmark_objective().get_instance()
    objective._state = objective_of(dataset)._state
    cell = {"dataset": dataset, "objective": objective, "solver": solver}
    assert joblib.hash(cloudpickle.loads(cloudpickle.dumps(cell))) == joblib.hash(cell)
