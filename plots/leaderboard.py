from benchmark_utils import results, tables
from benchmark_utils.table_plot import TablePlot


class Plot(TablePlot):
    """Scores and costs of every solver, best first."""

    name = "leaderboard"
    options = {"task": results.tasks}
    table = staticmethod(tables.leaderboard)
