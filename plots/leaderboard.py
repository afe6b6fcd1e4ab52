from benchmark_utils.results import scores, tables
from benchmark_utils.results.page import TablePlot


class Plot(TablePlot):
    """Scores and costs of every solver, best first."""

    name = "leaderboard"
    options = {"task": scores.tasks}
    table = staticmethod(tables.leaderboard)
