"""Functions and classes of a user's Python file."""

import functools
import importlib.util
import os
import sys


def load_module(path):
    """The module of a Python file, which is run once for as long as it is not changed."""
    return _load(path.resolve(), os.stat(path).st_mtime_ns)


def read_beside(path, owner):
    """What a user's Python file reads beside it: the paths that ``reads`` of ``owner``, or of the file, names.

    Raises ValueError, naming the file, if one does not exist or ``reads`` is no tuple of names.
    """
    names = getattr(owner, "reads", getattr(load_module(path), "reads", ()))
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, (str, os.PathLike)) for name in names):
        raise ValueError(f'{path} has reads={names!r}: write a tuple of names, as ("net.pt",)')
    found = [path.parent / name for name in names]
    if missing := [str(file) for file in found if not file.exists()]:
        raise ValueError(f"{path} has reads={names!r}, but there is no {missing[0]}: correct the name")
    return found


@functools.cache
def _load(path, changed):
    name = f"own_{path.stem}_{changed}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    spec.loader.exec_module(module)
    return module
