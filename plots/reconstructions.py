from benchopt import BasePlot

from benchmark_utils import results


class Plot(BasePlot):
    """Truth, observation and one sample of every solver, for the first images of a task."""

    name = "reconstructions"
    type = "image"
    options = {"task": results.picture_tasks}

    def plot(self, df, task):
        return [
            # benchopt multiplies by 255 and truncates: half a level keeps every value
            {"image": None if pixels is None else (pixels + 0.5) / 255, "label": label}
            for label, pixels in results.pictures(df, task)[0]
        ]

    def get_metadata(self, df, task):
        return {"title": task, "ncols": results.pictures(df, task)[1]}
