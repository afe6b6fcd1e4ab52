from benchopt import BasePlot

from benchmark_utils import results, tables


class Plot(BasePlot):
    """Scores and costs of every solver, best first."""

    name = "leaderboard"
    type = "table"
    options = {"task": results.tasks}

    def plot(self, df, task):
        return tables.page_table(tables.leaderboard(df, task))[1]

    def get_metadata(self, df, task):
        return tables.page_table(tables.leaderboard(df, task))[0]
