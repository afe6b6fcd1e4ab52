"""Rows for others to compare with: of one commit, without pictures, small enough to be shipped."""

import re
import subprocess

from benchopt.results import read_results
from benchopt.results.parquet import to_parquet

from benchmark_utils.files.paths import write_atomically
from benchmark_utils.provenance import ROOT, git_commit

COMMIT = r"[0-9a-f]{40}"
SOURCES = ("objective.py", "datasets", "solvers", "benchmark_utils")


def check_checkout():
    """Raise ValueError unless this is a checkout of a commit without changes, which is what the rows will name.

    Sources that git does not track count as changes: a run would use them, and the commit does not have them.
    """
    if not re.fullmatch(COMMIT, git_commit()):
        raise ValueError(
            f"--rows needs a checkout of one commit without changes, so that others can remake them; "
            f"this one is {git_commit()}"
        )
    command = ["git", "-C", ROOT, "status", "--porcelain", "--untracked-files=all", "--", *SOURCES]
    if changes := subprocess.run(command, capture_output=True, text=True, check=True).stdout:
        raise ValueError(f"--rows needs sources that are all in the commit, commit or remove: {changes.strip()}")


def write_rows(path, folder):
    """Write the rows of the results at ``path``, without pictures and audio, to ``folder``; returns the file's path.

    It replaces a file of that name. Raises ValueError for rows that do not name a commit without changes.
    """
    df = read_results(path)
    commits = sorted({str(commit) for commit in df["objective_git_commit"]})
    if unclear := [commit for commit in commits if not re.fullmatch(COMMIT, commit)]:
        raise ValueError(f"{path} has rows of {', '.join(unclear)}: compute these again with --no-cache")
    target = folder / path.name
    rows = df.drop(columns=[c for c in ("final_results",) if c in df])
    write_atomically(target, lambda partial: to_parquet(rows, partial))
    print(f"{len(rows)} rows of {', '.join(commits)} in {target} ({target.stat().st_size / 1e6:.2f} MB)")
    return target
