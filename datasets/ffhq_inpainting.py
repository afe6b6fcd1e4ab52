from benchmark_utils.tasks import FFHQ, TASKS


class Dataset(FFHQ):
    """FFHQ faces with a hidden box or right half (``mask``), or with 70 % of the pixels hidden (``"random"``).

    ``hidden`` is another fraction of the random mask: 0.5 is the task ``random50``.
    """

    name = "ffhq_inpainting"
    task = TASKS["inpainting"]
    parameters = FFHQ.parameters | task.parameters
    test_config = {"mask": "half", "prior": "faces64_mfa", "n_images": 1}
