from benchopt import BaseDataset

from benchmark_utils.noise import LabelTilt
from benchmark_utils.operators.label import ClassProbabilities, one_hot
from benchmark_utils.priors import Prior

EXACT_LAW = ("sliced_wasserstein", "sliced_wasserstein_floor", "mode_tv", "mean_error", "mean_error_floor")
METRICS = (*EXACT_LAW, "variance_ratio", "label_probability", "mmd", "precision", "recall", "density", "coverage")


class Dataset(BaseDataset):
    """A plane of 25 labelled Gaussians, whose law tilted by a label, ``p(x) p(label | x)^weight``, is known.

    ``label`` is one of 0 to 4, the measurement. Guidance aims at that law; label 1 asks for local changes, label 3 for
    modes that change their weights. ``dim`` may be larger than 2: the other directions do not depend on the label. The
    ``n_problems`` repetitions differ by the random numbers of the samplers.
    """

    name = "labelled_mixture"
    parameters = {"dim": [2], "label": [1], "weight": [3.0], "n_problems": [3]}

    def get_data(self):
        prior = Prior("labelled_mixture", (("dim", self.dim),))
        problems = tuple(range(self.n_problems))
        return {
            "y": one_hot(self.label, 5, self.n_problems, f"prior {prior.name}"),
            "operator": ClassProbabilities(prior),
            "noise": LabelTilt(self.weight),
            "task": "label",
            "prior": prior,
            "metrics": METRICS,
            "images": problems,
            "files": tuple(f"repetition {number}" for number in problems),
            "n_samples": 2000,
            "unit": "repetitions",
        }
