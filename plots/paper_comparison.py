from benchmark_utils import results, tables
from benchmark_utils.table_plot import TablePlot


class Plot(TablePlot):
    """Measured scores beside the published ones."""

    name = "paper_comparison"
    options = {"task": results.tasks}
    table = staticmethod(tables.paper_comparison)
