"""Find and check the files a prior or metric needs; nothing is ever replaced by random weights."""

import hashlib
from pathlib import Path

from safetensors.torch import load_file

ASSETS = Path(__file__).parents[1] / "assets"


def sha256_of(path):
    """Hex sha256 of a file, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def asset(name):
    """Path of a shipped file, checked against ``assets/SHA256SUMS``.

    Raises FileNotFoundError if it is missing and ValueError if its content is not the shipped one.
    """
    path = ASSETS / name
    sums = dict(line.split()[::-1] for line in (ASSETS / "SHA256SUMS").read_text().splitlines())
    if name not in sums:
        raise ValueError(f"{name} is not listed in {ASSETS / 'SHA256SUMS'}; known: {', '.join(sorted(sums))}")
    if not path.exists():
        raise FileNotFoundError(f"the shipped file {path} is missing: restore it with `git checkout -- assets`")
    if sha256_of(path) != sums[name]:
        raise ValueError(
            f"the shipped file {path} is truncated or altered (its sha256 is not the one in SHA256SUMS): "
            "restore it with `git checkout -- assets`"
        )
    return path


def asset_tensors(name):
    """Tensors of a shipped safetensors file, checked like :func:`asset`."""
    return load_file(asset(name))
