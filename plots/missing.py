from benchmark_utils.results import page, tables


class Plot(page.BasePlot):
    """The cells of the run that have no row, and why."""

    name = "missing"
    type = "table"

    def plot(self, df):
        return page.page_table(tables.missing(df))[1]

    def get_metadata(self, df):
        return page.page_table(tables.missing(df))[0]
