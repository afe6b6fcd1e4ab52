from benchmark_utils.results import charts, scores
from benchmark_utils.results.page import BasePlot


class Plot(BasePlot):
    """The headline score of every image, as one box per solver, in the order of the leaderboard."""

    name = "per_image"
    type = "boxplot"
    options = {"task": scores.tasks}

    def plot(self, df, task):
        return [
            # four digits: a fifth of the page's bytes
            {"x": [label], "y": [[float(f"{v:.4g}") for v in values]], "label": label, "color": self._color(solver)}
            for solver, label, values in charts.box_values(df, task)
        ]

    def _color(self, solver):
        """Half transparent, since benchopt draws box and median in one colour."""
        return (*self.get_style(solver)["color"][:3], 0.5)

    def get_metadata(self, df, task):
        return {"title": task, "ylabel": charts.box_label(df, task), "scale": "linear"}
