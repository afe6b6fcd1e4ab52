"""The imports of the project, those inside functions too: no circle, and science never imports presentation."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from helpers import ROOT

FOLDERS = ("benchmark_utils", "datasets", "plots", "scripts", "solvers")
PRESENTATION = ("benchmark_utils.checks", "benchmark_utils.results", "benchmark_utils.runs")
MAY_PRESENT = (*PRESENTATION, "plots", "benchmark_utils.__main__")


def find_modules(root):
    """``{module name: path}`` of a project's sources."""
    paths = [root / "objective.py", *(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def find_imports(name, path, modules):
    """Names of the project's modules that a module imports; of a package, the modules that are named in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level or None] if path.name != "__init__.py" else name.split(".")
            if node.level > 1 and path.name == "__init__.py":
                package = package[: 1 - node.level]
            source = ".".join(filter(None, [*(package if node.level else []), node.module]))
            for alias in node.names:
                found.add(f"{source}.{alias.name}" if f"{source}.{alias.name}" in modules else source)
    return found & modules.keys()


def belongs(name, layers):
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


def find_violations(root):
    """What is wrong with the imports of a project, in words."""
    modules = find_modules(root)
    imports = {name: find_imports(name, path, modules) for name, path in modules.items()}
    found = [
        f"{name} imports {imported}"
        for name in sorted(imports)
        if not belongs(name, MAY_PRESENT)
        for imported in sorted(imports[name])
        if belongs(imported, PRESENTATION)
    ]
    found += [  # checks show tables, results know nothing of checks
        f"{name} imports {imported}"
        for name in sorted(imports)
        if belongs(name, ("benchmark_utils.results",))
        for imported in sorted(imports[name])
        if belongs(imported, ("benchmark_utils.checks",))
    ]
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found.append(f"circle: {' <- '.join(error.args[1])}")
    return found


def test_the_layers_hold():
    assert find_violations(ROOT) == []


IN_A_FUNCTION = "def f():\n    from benchmark_utils.results import {}\n"
MADE_UP = {
    "objective.py": "from benchmark_utils import metrics\n",
    "benchmark_utils/metrics.py": "import torch\n",
    "benchmark_utils/results/scores.py": "from benchmark_utils.metrics import x\n",
    "benchmark_utils/__main__.py": IN_A_FUNCTION.format("scores"),
    "benchmark_utils/priors/__init__.py": "",
    "benchmark_utils/priors/base.py": "",
    "plots/leaderboard.py": IN_A_FUNCTION.format("scores"),
}


@pytest.mark.parametrize(
    "planted, violations",
    [
        ({}, []),
        ({"objective.py": IN_A_FUNCTION.format("scores")}, ["objective imports benchmark_utils.results.scores"]),
        ({"solvers/dps.py": "import benchmark_utils.results.scores as s"}, ["solvers.dps imports"]),
        ({"benchmark_utils/evaluate.py": "from .results.scores import x"}, ["benchmark_utils.evaluate imports"]),
        ({"benchmark_utils/metrics.py": "from benchmark_utils.metrics import x"}, ["circle: benchmark_utils.metrics"]),
        (
            {
                "benchmark_utils/checks/solver.py": "",
                "benchmark_utils/results/site.py": "from benchmark_utils.checks.solver import x",
            },
            ["benchmark_utils.results.site imports benchmark_utils.checks.solver"],
        ),
        (
            {
                "benchmark_utils/priors/__init__.py": "from .base import x",
                "benchmark_utils/priors/base.py": "def f():\n    from benchmark_utils.priors.pipeline import x",
                "benchmark_utils/priors/pipeline.py": "if True:\n    from .. import priors",
            },
            ["circle: benchmark_utils.priors"],
        ),
    ],
)
def test_a_planted_violation_is_found(planted, violations, tmp_path):
    for name, text in (MADE_UP | planted).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = find_violations(tmp_path)
    assert len(found) == len(violations)
    assert all(text.startswith(start) for text, start in zip(found, violations, strict=True))
