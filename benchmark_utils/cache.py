"""Make benchopt's cache see edits of ``benchmark_utils`` and of the shipped assets."""

import functools
import hashlib
from pathlib import Path

from benchmark_utils.hub import user_files_state


@functools.cache
def fingerprint():
    """A digest of the sources, and the state of the files that the user named (images, weights).

    benchopt hashes the file of a solver, dataset or objective but not what they import or read; the base solver
    and the objective return this from ``_get_state``, which enters the cache key. Taken once in a process: benchopt
    pickles in one thread (``-j``) while another rebuilds the benchmark, whose configuration cannot be read then.
    """
    return {"benchmark_utils": source_digest(), "user_files": user_files_state()}


# they start or read a run, and change no row of it
SHOWS_RESULTS = {
    f"{name}.py"
    for name in "results tables table_plot charts pictures expected summary report api run attempts".split()
}


@functools.cache
def source_digest():
    """A digest of the ``benchmark_utils`` source files that a result depends on and of the assets' checksums."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256((root / "assets" / "SHA256SUMS").read_bytes())
    for path in sorted((root / "benchmark_utils").rglob("*.py")):
        if path.name not in SHOWS_RESULTS:
            digest.update(path.read_bytes())
    return digest.hexdigest()
