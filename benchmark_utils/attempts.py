"""Notes on the cells that did not finish, in a folder beside the results.

A cell that begins writes a small file to ``outputs/attempts/``; if it fails, the file says with which error. It is
removed when the cell finishes, so the files that are left explain the missing cells.
"""

import functools
import hashlib
import json
import platform
from datetime import datetime

from benchmark_utils.files.paths import write_atomically

FOLDER = "attempts"
STEPS = {
    "set_objective",
    "run",
    "get_result",
    "evaluate_result",
    "save_final_results",
}  # methods that benchopt calls for a cell


def _path(outputs, cell):
    return outputs / FOLDER / f"{hashlib.sha256(repr(cell).encode()).hexdigest()[:24]}.json"


def _place(component):
    """Path of the note for the cell of a solver or objective; None outside of ``benchopt run``."""
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
    """Make a method of a solver or objective write the note of its cell: that it began, and its error."""

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
    """Record the methods ``STEPS`` of a solver or objective, also where a subclass overrides them."""

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
