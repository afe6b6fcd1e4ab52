from benchmark_utils.results import scores, tables
from benchmark_utils.results.page import TablePlot


class Plot(TablePlot):
    """Mean rank of every solver over the tasks, with its bootstrap interval."""

    name = "overall"
    options = {"task": lambda df: list(scores.comparisons(df))}
    table = staticmethod(tables.overall)
