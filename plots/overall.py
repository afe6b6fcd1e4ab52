from benchmark_utils import results, tables
from benchmark_utils.table_plot import TablePlot


class Plot(TablePlot):
    """Mean rank of every solver over the tasks, with its bootstrap interval."""

    name = "overall"
    options = {"task": lambda df: list(results.comparisons(df))}
    table = staticmethod(tables.overall)
