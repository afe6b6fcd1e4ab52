from benchmark_utils.results import page, traces


class Plot(page.BasePlot):
    """Electrocardiograms: per lead the truth, what was seen of it, the mean, the range and single draws of a method."""

    name = "traces"
    type = "image"
    options = {"task": traces.trace_tasks}

    def plot(self, df, task):
        # benchopt multiplies by 255 and truncates: half a level keeps every value
        return [
            {"image": (traces.trace_pixels(trace) + 0.5) / 255, "label": page.breakable(trace.label)}
            for trace in traces.traces(df, task)
        ]

    def get_metadata(self, df, task):
        return {"title": traces.title(df, task), "ncols": 1}
