from benchopt import BasePlot

from benchmark_utils import results, tables


class Plot(BasePlot):
    """Mean rank of every solver over the tasks, with its bootstrap interval."""

    name = "overall"
    type = "table"
    options = {"tasks": lambda df: list(results.comparisons(df))}

    def plot(self, df, tasks):
        return tables.page_table(tables.overall(df, tasks))[1]

    def get_metadata(self, df, tasks):
        return tables.page_table(tables.overall(df, tasks))[0]
