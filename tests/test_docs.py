"""The code of the docs, run as it is written there; the docs' links; the length of docstrings."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, copied_benchmark

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def run_page(page, folder):
    """Run a page in a copy of the benchmark: Python is saved as its first line says, bash is run; yields its output."""
    environment = {"OMP_NUM_THREADS": "1", "BENCHOPT_RAISE_ON_ERROR": "true"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    text = (ROOT / "docs" / page).read_text()
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language == "python":
            first, _, code = code.partition("\n")
            (folder / first.removeprefix("# ")).write_text(code)
        elif language == "bash":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", code],
                cwd=folder,
                env=os.environ | environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, code + done.stdout + done.stderr
            yield done.stdout


@pytest.fixture
def folder(tmp_path):
    return copied_benchmark(tmp_path / "bench")


def test_add_a_task(folder):
    clipped, projected = run_page("add_a_task.md", folder)
    assert "ddrm needs svd, which soft_clip2 with faces64_mfa has not" in clipped
    assert re.search(r"1 +dps\[n_steps=20\]", clipped)
    assert re.search(r"\d +exact_posterior ", projected) and re.search(r"\d +ddrm\[n_steps=20\]", projected)


def test_add_a_prior(folder):
    for printed in run_page("add_a_prior.md", folder):
        assert "done" in printed and "skip" not in printed and "error" not in printed


@pytest.mark.slow  # the README's example runs without it
def test_add_a_sampler(folder):
    (printed,) = run_page("add_a_sampler.md", folder)
    assert re.search(r"\d +my_sampler ", printed) and re.search(r"\d +exact_posterior ", printed)
    assert printed.count("done") == 4 + 2  # two runs of two solvers, and both say that they have loaded


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", *(f"docs/{name}" for name in PAGES)])
def test_links_lead_to_files(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


LONGEST_DOCSTRING = 25


@pytest.mark.parametrize("path", sorted((ROOT / "benchmark_utils").rglob("*.py")), ids=lambda path: path.stem)
def test_docstrings_are_short(path):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(path.read_text())):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        assert not text or len(text.splitlines()) <= LONGEST_DOCSTRING, text.splitlines()[0]


def test_the_index_lists_every_page():
    listed = re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "index.md").read_text())
    assert sorted([*listed, "index.md"]) == PAGES
