from benchmark_utils.results import scores, tables
from benchmark_utils.results.page import TablePlot


class Plot(TablePlot):
    """What the columns of the other tables are."""

    name = "definitions"
    options = {"task": scores.tasks}
    table = staticmethod(tables.definitions)
