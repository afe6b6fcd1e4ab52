"""What the scripts that measure share: the objective without benchopt's runner, intervals, tables."""

from objective import Objective


def objective_of(dataset, **parameters):
    """The objective after it has drawn y for a dataset, as benchopt has it with seed 0."""
    objective = Objective.get_instance(**parameters)
    objective.get_seed = lambda **_: 0
    objective.set_data(**dataset.get_data())
    return objective


def markdown(frame):
    """A DataFrame as a markdown table, without its index."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.to_numpy()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def interval(values, digits=3):
    """Mean and 95 % interval, 1.96 sd / sqrt(n), of a Series."""
    return f"{values.mean():.{digits}f} ± {1.96 * values.std() / len(values) ** 0.5:.{digits}f}"
