from benchmark_utils.results import tables
from benchmark_utils.results.page import TablePlot


class Plot(TablePlot):
    """Distance to the exact posterior, on priors that have one in closed form."""

    name = "exactness"
    options = {"task": tables.exactness_tasks}
    table = staticmethod(tables.exactness)
