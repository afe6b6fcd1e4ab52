from benchopt import BasePlot

from benchmark_utils import tables


class Plot(BasePlot):
    """Best, mean and spread of several samples per image."""

    name = "samples"
    type = "table"
    options = {"task": tables.samples_tasks}

    def plot(self, df, task):
        return tables.page_table(tables.samples(df, task))[1]

    def get_metadata(self, df, task):
        return tables.page_table(tables.samples(df, task))[0]
