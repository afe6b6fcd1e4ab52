"""A solver's scores against one of its settings, the others being equal: what a run shows that sweeps a parameter."""

import re
from typing import NamedTuple

from benchmark_utils.metrics import mean_and_ci
from benchmark_utils.results import scores
from benchmark_utils.results.tables import heading

ALL = "every setting"
NO_SWEEP = "no setting swept"
REMEDY = 'a sweep needs one solver with several values of a parameter, e.g. -s "mgdm[n_gibbs=[1,2,4]]"'
QUANTITIES = ("headline", "posterior error", "cost")
COST_LABEL = "denoiser evaluations + backward passes per sample"
PAIRED = "bars: 95 % of the paired difference to the first value"
AS_REFERENCE = "reference"


class Point(NamedTuple):
    """A value of the swept setting: number, or text where one of them is no number, and what was measured there.

    ``score`` has the half-width of the interval of the paired difference to the first value of its line, where it is
    0; None where the quantity was not measured.
    """

    value: float | str
    score: scores.Score | None


def settings_of(rows):
    """``{solver: {parameter: text}}`` of a task's rows, presets resolved, as the solvers record them."""
    if "objective_settings" not in rows:
        return {}
    texts = rows.groupby("solver_name", sort=False)["objective_settings"].first().dropna()
    found = {solver: dict(re.findall(r"(\w+)=(.*?)(?=, \w+=|$)", text)) for solver, text in texts.items()}
    return {solver: {k: v for k, v in own.items() if k != "preset"} for solver, own in found.items()}


def _method(solver):
    """A solver's name without its parameters, with the commit that marks reference rows."""
    return re.sub(r"\[.*\]", "", solver)


def _lines(rows, setting):
    """``{(method, other settings): {value: solver}}`` with two values or more."""
    found = {}
    for solver, own in settings_of(rows).items():
        if setting in own:
            others = tuple((name, value) for name, value in own.items() if name != setting)
            found.setdefault((_method(solver), others), {})[own[setting]] = solver
    return {key: line for key, line in found.items() if len(line) > 1}


@scores.once_per_frame
def settings(df):
    """Names of the settings that a run sweeps in some task; one placeholder where there are none.

    ``ALL``, which comes last, compares all the runs of a method where they differ in more than one setting.
    """
    found, several = {}, False
    for task in scores.tasks(df):
        rows = scores.rows_of(df, task)
        known = settings_of(rows)
        swept = [name for name in dict.fromkeys(n for own in known.values() for n in own) if _lines(rows, name)]
        found |= dict.fromkeys(swept)
        several |= len(swept) > 1
    return [*found, *([ALL] if several else [])] or [NO_SWEEP]


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None


def _compared(rows, setting):
    """``{label of a line: [(value, solver)]}``: numbers in order, other values in order of appearance."""
    known = settings_of(rows)
    if setting == ALL:
        methods = {}
        for solver in known:
            methods.setdefault(_method(solver), []).append(solver)
        compared = {}
        for method, (first, *others) in methods.items():
            if others:
                changed = [[f"{k}={v}" for k, v in known[s].items() if known[first].get(k) != v] for s in others]
                compared[method] = [(AS_REFERENCE, first), *zip(map(", ".join, changed), others, strict=True)]
        return compared
    lines = _lines(rows, setting)
    compared = {}
    for (method, others), line in lines.items():
        same = [other for name, other in lines if name == method]
        differing = [f"{k}={v}" for k, v in others if any((k, v) not in other for other in same)]
        label = f"{method}[{','.join(differing)}]" if differing else method
        numbers = {value: _number(value) for value in line}
        if None not in numbers.values():
            line = {numbers[value]: line[value] for value in sorted(line, key=numbers.get)}
        compared[label] = list(line.items())
    return compared


def _column(rows, quantity):
    """Names of the scores whose sum is a quantity; none where it was not measured."""
    if quantity == "cost":
        return ["nfe", "vjp"]
    name = scores.headline(rows) if quantity == "headline" else "mean_error"
    return [name] if name in scores.metrics_of(rows) else []


def sweep(df, task, setting, quantity):
    """``{label of a line: [Point]}`` of a task; empty where this setting or quantity is not in its rows."""
    rows = scores.rows_of(df, task)
    names = _column(rows, quantity)
    if not names:
        return {}
    table = scores.per_image(rows, names).sum(axis=1, skipna=False).unstack("solver_name", sort=False)
    found = {}
    for label, line in _compared(rows, setting).items():
        first = table[line[0][1]]
        if wild := [f"{value}" for value, solver in line if solver in scores.diverged(rows)]:
            label = f"{label} (diverged at {', '.join(wild)})"
        found[label] = []
        for value, solver in line:
            own = table[solver].dropna()
            differences = (own - first).dropna()
            half_width = mean_and_ci(differences)[1] if len(differences) else float("nan")
            found[label].append(Point(value, scores.Score(own.mean(), half_width, len(own)) if len(own) else None))
    return found


def quantity_label(df, task, quantity):
    """Label of the axis of a quantity."""
    rows = scores.rows_of(df, task)
    if quantity == "cost":
        return COST_LABEL
    return f"{heading((_column(rows, quantity) or ['mean_error'])[0])}, {PAIRED}"


def sweep_settings(df, task):
    """Those of :func:`settings` that a task has."""
    return [setting for setting in settings(df) if setting != NO_SWEEP and sweep(df, task, setting, "cost")]
