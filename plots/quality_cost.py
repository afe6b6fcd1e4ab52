from benchmark_utils.results import charts, scores
from benchmark_utils.results.page import BasePlot


class Plot(BasePlot):
    """The headline score against what a sample costs, with its confidence interval and the Pareto front."""

    name = "quality_cost"
    type = "scatter"
    options = {"task": scores.tasks, "cost": list(charts.COST_AXES)}

    def plot(self, df, task, cost):
        points = charts.tradeoff(df, task, cost)
        traces = []
        for point in points:
            style = self.get_style(point.solver)
            x = charts.log_position(point.cost, cost)
            low, high = point.quality.mean - point.quality.half_width, point.quality.mean + point.quality.half_width
            if low < high:
                traces.append({"x": [x, x], "y": [low, high], "label": point.label, **style, "marker": WHISKER})
            traces.append({"x": [x], "y": [point.quality.mean], "label": point.label, **style})
        front = [point for point in points if point.on_front]
        if front:
            traces.append(
                {
                    "x": [charts.log_position(point.cost, cost) for point in front],
                    "y": [point.quality.mean for point in front],
                    "label": charts.FRONT_LABEL,
                    "color": (0.3, 0.3, 0.3, 0.6),
                    "marker": CIRCLE,
                }
            )
        return traces

    def get_metadata(self, df, task, cost):
        return {
            "title": task,
            "xlabel": charts.cost_label(cost),
            "ylabel": charts.quality_label(df, task),
            "scale": "semilog-x",
        }


# plotly's symbol numbers: a horizontal tick and an open circle
WHISKER, CIRCLE = 141, 100
