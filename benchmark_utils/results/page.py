"""What benchopt's page needs of a plot that is one of the tables of ``benchmark_utils.tables``."""

from benchopt import BasePlot

from benchmark_utils.results.tables import page_table


class TablePlot(BasePlot):
    """A subclass names its ``table(df, task)`` and, in ``options``, the tasks."""

    type = "table"

    def plot(self, df, task):
        return page_table(self.table(df, task))[1]

    def get_metadata(self, df, task):
        return page_table(self.table(df, task))[0]
