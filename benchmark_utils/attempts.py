"""Notes on the cells that a run works on, beside its results: what a missing cell failed with.

``outputs/attempts/`` has one small file per cell that was begun and did not finish: begun, or failed and with what.
It disappears when the cell finishes.
"""

import functools
import hashlib
import json
import platform
from datetime import datetime

from benchmark_utils.files.paths import write_atomically

FOLDER = "attempts"
STEPS = {"set_objective", "run", "get_result", "evaluate_result", "save_final_results"}  # of a cell, by benchopt


def _path(outputs, cell):
    return outputs / FOLDER / f"{hashlib.sha256(repr(cell).encode()).hexdigest()[:24]}.json"


def _place(component):
    """Path of the note of the cell that a solver or objective works on; None outside of ``benchopt run``."""
    context = component._run_context
    if context is None or context.run_output_base is None:
        return None
    cell = (context.dataset_name, context.objective_name, context.solver_name, context.repetition)
    return _path(context.run_output_base.parent, cell)


def _write(component, text):
    path = _place(component)
    if path is None:
        return
    date = datetime.now().isoformat(" ", "seconds")
    note = json.dumps({"date": date, "host": platform.node(), "text": text})
    write_atomically(path, lambda partial: partial.write_text(note))


def describe(error):
    """Kind and message of an exception."""
    return f"{type(error).__name__}: {error}"


def record_failure(component, error):
    """Note what the cell of a solver or objective failed with."""
    _write(component, describe(error))


def record_attempt(method):
    """Let a method of a solver or objective note that its cell has begun, and what it fails with."""

    @functools.wraps(method)
    def recording(self, *args, **kwargs):
        _write(self, "began, and was stopped: killed, interrupted, out of time or of memory")
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            record_failure(self, error)
            raise

    return recording


class RecordsAttempts:
    """What a solver or objective does for a cell is recorded, in subclasses that override it too."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        for name in STEPS & vars(cls).keys():
            setattr(cls, name, record_attempt(vars(cls)[name]))


def forget_attempt(component):
    """Remove the note of a cell."""
    path = _place(component)
    if path is not None:
        path.unlink(missing_ok=True)


def last_attempt(outputs, cell):
    """What is noted of a missing cell (dataset, objective, solver, repetition), None if nothing is."""
    path = _path(outputs, tuple(cell))
    if not path.exists():
        return None
    note = json.loads(path.read_text())
    return f"{note['text']} ({note['date']}, {note['host']})"
