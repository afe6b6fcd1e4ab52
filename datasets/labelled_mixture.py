from benchopt import BaseDataset

from benchmark_utils.options import check_options
from benchmark_utils.priors import Prior
from benchmark_utils.tasks import label_data


class Dataset(BaseDataset):
    """A plane of 25 labelled Gaussians, whose law tilted by a label, ``p(x) p(label | x)^weight``, is known.

    ``label`` is one of 0 to 4, the measurement. Guidance aims at that law; label 1 asks for local changes, label 3 for
    modes that change their weights. ``dim`` may be larger than 2: the other directions do not depend on the label. The
    ``n_problems`` repetitions differ by the random numbers of the samplers.
    """

    name = "labelled_mixture"
    parameters = {"dim": [2], "label": [1], "weight": [3.0], "n_problems": [3]}
    test_config = {"n_problems": 1}

    def get_data(self):
        check_options(self)
        prior = Prior("labelled_mixture", (("dim", self.dim),))
        return label_data(prior, self.label, self.weight, self.n_problems, n_samples=2000)
