"""What the scripts that measure print: intervals and tables."""


def markdown(frame):
    """A DataFrame as a markdown table, without its index."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.to_numpy()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def interval(values, digits=3):
    """Mean and 95 % interval, 1.96 sd / sqrt(n), of a Series."""
    return f"{values.mean():.{digits}f} ± {1.96 * values.std() / len(values) ** 0.5:.{digits}f}"
