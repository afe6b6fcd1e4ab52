from benchopt import BaseDataset

from benchmark_utils.files.paths import asset
from benchmark_utils.files.weights import read_safetensors
from benchmark_utils.label_scores import CLASSIFIER
from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.tasks import EXACT_LAW_METRICS, label_data


class Dataset(BaseDataset):
    """Handwritten digits of 8 x 8 pixels under a prior whose law tilted by a label, 0 to 9, is known.

    "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998, https://doi.org/10.24432/C50P49. The classes
    of the prior hardly overlap, so that the tilted law is nearly the conditional one at any weight: guidance should
    change nothing. The measurement is shown as a real picture of the digit. The ``n_problems`` repetitions differ by
    the random numbers of the samplers.
    """

    name = "digits"
    parameters = {"label": [8], "weight": [3.0], "n_problems": [3]}
    test_config = {"n_problems": 1}

    def get_data(self):
        check_options(self)
        pictures = read_safetensors(asset(CLASSIFIER))["examples"] / 8 - 1
        metrics = (*EXACT_LAW_METRICS, "class_accuracy")
        return label_data(Prior("digits"), self.label, self.weight, self.n_problems, 1000, pictures, metrics)
