from benchopt import BasePlot

from benchmark_utils import results


class Plot(BasePlot):
    """Distance to the exact posterior, on priors that have one in closed form."""

    name = "exactness"
    type = "table"
    options = {"task": results.exactness_tasks}

    def plot(self, df, task):
        return results.page_table(results.exactness(df, task))[1]

    def get_metadata(self, df, task):
        return results.page_table(results.exactness(df, task))[0]
