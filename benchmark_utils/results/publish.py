"""Send rows to a Hugging Face dataset, beside those that are there."""

from benchopt.benchmark import Benchmark
from benchopt.results.hugging_face import publish_result_file

from benchmark_utils.provenance import ROOT
from benchmark_utils.results.scores import read_file


def publish(path, repository, token=None):
    """Add the rows of the results at ``path`` to the dataset ``org/name``; without a token, that of the login.

    ``benchopt publish`` of benchopt 1.10 ignores its option ``--keep`` and merges with "last", which keeps one row, so
    one image, of each cell. Here all rows stay. Raises PermissionError without a login.
    """
    read_file(path)
    try:
        publish_result_file(Benchmark(ROOT), path, repository, token, keep="all")
    except RuntimeError as error:
        raise PermissionError(
            f"Hugging Face does not let you write to {repository}: give --token, or log in with hf auth login "
            f"({' '.join(str(error).split())})"
        ) from error
