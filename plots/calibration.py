from benchmark_utils.results import calibration, scores
from benchmark_utils.results.page import BasePlot

POINT = 0  # plotly's number of the filled circle


class Plot(BasePlot):
    """Whether the truth ranks among the draws as one of them, with the band that exact draws stay in."""

    name = "calibration"
    type = "scatter"
    options = {"task": calibration.calibration_tasks, "curve": list(calibration.CURVES)}

    def plot(self, df, task, curve):
        if task == calibration.ONE_DRAW:
            return [{"x": [0, 1], "y": [0, 1], "label": calibration.REMEDY, **self.get_style("none")}]
        rows, traces = scores.rows_of(df, task), []
        found = calibration.curves(rows)
        for solver, of_solver in found.items():
            x, y, *_ = of_solver[curve]
            label = scores.solver_label(rows, solver)
            traces.append({"x": x.tolist(), "y": y.tolist(), "label": label, **self.get_style(solver)})
        x, _, *edges = next(iter(found.values()))[curve]
        for edge in edges:
            if not any(edge != edge):
                line = {"color": (0.3, 0.3, 0.3, 0.6), "marker": POINT}
                traces.append({"x": x.tolist(), "y": edge.tolist(), "label": calibration.BAND_LABEL, **line})
        return traces

    def get_metadata(self, df, task, curve):
        xlabel, ylabel = calibration.CURVES[curve]
        return {"title": task, "xlabel": xlabel, "ylabel": ylabel, "scale": "linear"}
