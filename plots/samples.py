from benchmark_utils.results import tables
from benchmark_utils.results.page import TablePlot


class Plot(TablePlot):
    """Best, mean and spread of several samples per image."""

    name = "samples"
    options = {"task": tables.samples_tasks}
    table = staticmethod(tables.samples)
