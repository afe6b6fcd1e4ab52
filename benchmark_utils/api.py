"""Former name of ``benchmark_utils.evaluate``."""

import warnings

from benchmark_utils.evaluate import evaluate  # noqa: F401

warnings.warn("benchmark_utils.api is now benchmark_utils.evaluate", DeprecationWarning, stacklevel=2)
