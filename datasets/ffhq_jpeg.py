from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """FFHQ faces in JPEG files of quality 2, or ``quality``; ``codec="soft"`` is the papers' soft codec.

    Another quality is another task: 10 is ``jpeg10``.
    """

    name = "ffhq_jpeg"
    task = TASKS["jpeg"]
    parameters = FFHQ.parameters | task.parameters
