"""Functions and classes of a user's Python file."""

import functools
import importlib.util
import os
import sys


def load_module(path):
    """The module of a Python file, which is run once for as long as it is not changed."""
    return _load(path.resolve(), os.stat(path).st_mtime_ns)


def read_beside(path):
    """Files beside a user's Python file that it reads, as ``files`` in it says; raises ValueError for a missing one."""
    names = getattr(load_module(path), "files", ())
    found = [path.parent / name for name in ([names] if isinstance(names, str) else names)]
    if missing := [str(file) for file in found if not file.is_file()]:
        raise ValueError(f"{path} names files={names!r}, but there is no {missing[0]}: correct the name")
    return found


@functools.cache
def _load(path, changed):
    name = f"own_{path.stem}_{changed}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    spec.loader.exec_module(module)
    return module
