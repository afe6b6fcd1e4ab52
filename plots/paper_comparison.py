from benchmark_utils.results import paper, scores
from benchmark_utils.results.page import TablePlot


class Plot(TablePlot):
    """Measured scores beside the published ones."""

    name = "paper_comparison"
    options = {"task": scores.tasks}
    table = staticmethod(paper.paper_comparison)
