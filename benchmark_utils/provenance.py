"""What the rows of a result say of their origin: version, commit, libraries, device, and the weights' sha256."""

import ast
import functools
import hashlib
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import torch

from benchmark_utils.files.paths import sha256_of, user_files_state

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
LIBRARIES = ("torch", "diffusers", "deepinv")


@functools.cache
def git_commit():
    """The commit of this checkout, with ``-dirty`` if tracked files differ from it."""
    command = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown: git is not installed"
    return done.stdout.strip() if done.returncode == 0 else "unknown: not a git checkout"


def digest(values):
    """Digest of a tensor's values to four decimals: the rounding of another machine does not change it."""
    return hashlib.sha256((values.double() * 1e4).round().long().cpu().numpy().tobytes()).hexdigest()[:16]


@functools.cache
def code_digest(path):
    """Digest of the code of a Python file, so of a solver's method and presets: without comments and docstrings."""
    tree = ast.parse(path.read_bytes())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in [node for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]:
        node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def weights(prior):
    """``name sha256`` of the files that a loaded prior was read from; a closed form may read none."""
    return ", ".join(f"{path.name} {sha256_of(path)}" for path in prior.weight_files) or "no file recorded"


def device_name(device):
    """The GPU's name, or cpu: benchopt records the processor itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def provenance(prior, device):
    """Texts for the rows of a cell that this process computed on ``device`` with a loaded ``prior``."""
    versions = {"benchmark_version": VERSION} | {name: version(name) for name in LIBRARIES}
    return {"git_commit": git_commit(), "device": device_name(device), "weights": weights(prior)} | versions


@functools.cache
def _shared_state():
    """What every cell depends on, as texts: joblib's hash sees whether two arguments share a list or a dictionary."""
    digest = hashlib.sha256((ROOT / "assets" / "SHA256SUMS").read_bytes())
    sources = ROOT / "benchmark_utils"
    for path in sorted(sources.rglob("*.py")):
        if path.relative_to(sources).parts[0] not in ("checks", "results", "runs", "__main__.py"):
            digest.update(path.read_bytes())
    return {"sources": digest.hexdigest(), "user_files": " ".join(user_files_state().values())}


@functools.cache
def fingerprint(module):
    """What a cached cell depends on: sources, assets, and the state of the files that the user named.

    benchopt hashes the file of a solver, dataset or objective but not what they import or read; the base solver
    and the objective return this from ``_get_state``, which enters the cache key. Of ``benchmark_utils`` all counts
    but what only reads results or starts runs; of the files beside ``module``, the path of a solver's or dataset's
    file or None, what it imports. Taken once in a process: benchopt pickles in one thread (``-j``) while another
    rebuilds the benchmark, whose configuration cannot be read then.
    """
    imported = sorted(find_imported_beside(module)) if module else []
    return _shared_state() | {"imported": " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in imported)}


def find_imported_beside(module, found=()):
    """Files of the folder of a source file that it imports by name, and those that these import."""
    names = set()
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            names |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {name for alias in node.names for name in alias.name.split(".")}
    found = {*found, module}
    for name in names - {""}:
        for path in (module.with_name(f"{name}.py"), *module.with_name(name).rglob("*.py")):
            if path.is_file() and path not in found:
                found |= find_imported_beside(path, found)
    return found
