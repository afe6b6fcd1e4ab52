from benchmark_utils import tables
from benchmark_utils.table_plot import TablePlot


class Plot(TablePlot):
    """Distance to the exact posterior, on priors that have one in closed form."""

    name = "exactness"
    options = {"task": tables.exactness_tasks}
    table = staticmethod(tables.exactness)
