"""What the scripts that measure print: intervals and tables."""

from benchmark_utils.metrics import mean_and_ci


def markdown(frame):
    """A DataFrame as a markdown table, without its index."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.to_numpy()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def interval(values, digits=3):
    """Mean and Student's 95 % interval of a Series."""
    mean, half_width = mean_and_ci(values)
    return f"{mean:.{digits}f} ± {half_width:.{digits}f}"
