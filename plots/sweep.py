from benchmark_utils.results import scores, sweep
from benchmark_utils.results.page import BasePlot


class Plot(BasePlot):
    """The headline, the posterior error and the cost of a solver against one of its settings."""

    name = "sweep"
    type = "scatter"
    options = {"task": scores.tasks, "setting": sweep.settings, "quantity": list(sweep.QUANTITIES)}

    def plot(self, df, task, setting, quantity):
        found = sweep.sweep(df, task, setting, quantity) if setting != sweep.NO_SWEEP else {}
        if not found:
            return [{"x": [0, 1], "y": [0, 1], "label": sweep.REMEDY, **self.get_style("none")}]
        traces = []
        for label, points in found.items():
            style, points = self.get_style(label), [point for point in points if point.score]
            for x, score in points:
                ends = [score.mean - score.half_width, score.mean + score.half_width]
                if ends[0] < ends[1] and quantity != "cost":
                    traces.append({"x": [x, x], "y": ends, "label": label, **style, "marker": WHISKER})
            line = {"x": [point.value for point in points], "y": [point.score.mean for point in points]}
            traces.append(line | {"label": label, **style})
        return traces

    def get_metadata(self, df, task, setting, quantity):
        ylabel = sweep.quantity_label(df, task, quantity)
        return {"title": task, "xlabel": setting, "ylabel": ylabel, "scale": "linear"}


WHISKER = 141  # plotly's number of a horizontal tick
