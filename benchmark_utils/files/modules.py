"""Functions and classes of a user's Python file."""

import functools
import importlib.util
import os
import sys


def load_module(path):
    """The module of a Python file, which is run once for as long as it is not changed."""
    return _load(path.resolve(), os.stat(path).st_mtime_ns)


@functools.cache
def _load(path, changed):
    name = f"own_{path.stem}_{changed}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    spec.loader.exec_module(module)
    return module
