from benchopt import BasePlot

from benchmark_utils import tables


class Plot(BasePlot):
    """Distance to the exact posterior, on priors that have one in closed form."""

    name = "exactness"
    type = "table"
    options = {"task": tables.exactness_tasks}

    def plot(self, df, task):
        return tables.page_table(tables.exactness(df, task))[1]

    def get_metadata(self, df, task):
        return tables.page_table(tables.exactness(df, task))[0]
