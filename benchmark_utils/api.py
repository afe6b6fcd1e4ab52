"""Former name of ``benchmark_utils.evaluate``."""

import warnings

from benchmark_utils.evaluate import evaluate  # noqa: F401

# FutureWarning: python hides DeprecationWarning where a module, and no script, imports
warnings.warn("benchmark_utils.api is now benchmark_utils.evaluate", FutureWarning, stacklevel=2)
