from benchopt import BasePlot

from benchmark_utils import results, tables


class Plot(BasePlot):
    """Measured scores beside the published ones."""

    name = "paper_comparison"
    type = "table"
    options = {"task": results.tasks}

    def plot(self, df, task):
        return tables.page_table(tables.paper_comparison(df, task))[1]

    def get_metadata(self, df, task):
        return tables.page_table(tables.paper_comparison(df, task))[0]
