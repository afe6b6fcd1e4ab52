from benchmark_utils.results import page, pictures


class Plot(page.BasePlot):
    """Truth, observation and every solver for the first images of a task: sample, error, zoom or spread."""

    name = "reconstructions"
    type = "image"
    options = {"task": pictures.picture_tasks, "view": list(pictures.VIEWS)}

    def plot(self, df, task, view):
        return [
            # benchopt multiplies by 255 and truncates: half a level keeps every value
            {"image": None if pixels is None else (pixels + 0.5) / 255, "label": page.breakable(label)}
            for label, pixels in pictures.pictures(df, task, view)
        ]

    def get_metadata(self, df, task, view):
        return {"title": pictures.title(df, task, view), "ncols": pictures.n_columns(df, task, view)}
