"""Scores of draws under a label against exact draws of the law that it tilts."""

import torch

from benchmark_utils.files.paths import asset
from benchmark_utils.files.weights import read_safetensors

NEIGHBOURS = 5
CLASSIFIER = "digits/classifier.safetensors"


def mmd(x, reference, squared_scale):
    """Unbiased squared maximum mean discrepancy of two sets (n, d), (m, d) under ``exp(-||x - y||^2 / (2 h^2))``.

    Gretton et al. 2012, "A Kernel Two-Sample Test", eq. 3; ``squared_scale`` is h^2. Below 0 by chance only.
    """

    def kernel(a, b):
        return (-torch.cdist(a, b).square() / (2 * squared_scale)).exp()

    def mean_of_pairs(a):
        return (kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1))

    return float(mean_of_pairs(x) + mean_of_pairs(reference) - 2 * kernel(x, reference).mean())


def precision_recall(fakes, reals, k=NEIGHBOURS):
    """Precision, recall, density and coverage of fakes (M, d) against reals (N, d).

    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 2, and Naeem et al. 2020,
    https://arxiv.org/abs/2002.09797, eq. 3 to 6: balls around each point reach its k-th nearest neighbour.
    """

    def radii(points):
        return torch.cdist(points, points).kthvalue(k + 1, dim=1).values  # the nearest is the point itself

    distance = torch.cdist(reals, fakes)
    in_ball_of_real = distance <= radii(reals)[:, None]
    return {
        "precision": float(in_ball_of_real.any(0).double().mean()),
        "recall": float((distance <= radii(fakes)).any(1).double().mean()),
        "density": float(in_ball_of_real.sum() / (k * len(fakes))),
        "coverage": float(in_ball_of_real.any(1).double().mean()),
    }


def class_accuracy(digits, label):
    """Share of digits (n, 1, 8, 8) in which a logistic regression on real ones sees ``label``.

    Its weights are those that ``scripts/train/digits.py`` wrote.
    """
    classifier = read_safetensors(asset(CLASSIFIER))
    logits = digits.double().flatten(1) @ classifier["weight"].double().T + classifier["bias"].double()
    return float((logits.argmax(1) == label).double().mean())


def tilted_scores(names, draws, reference, posterior, problem):
    """Those of ``names`` that compare draws (n, *event) under one label with exact draws of ``posterior``.

    ``problem`` has one row, whose posterior it is; all tensors are in float64.
    """
    label, flat, exact = problem.label[0], draws.flatten(1), reference.flatten(1)
    found = {}
    if "label_probability" in names:
        found["label_probability"] = float(problem.A(draws)[:, label].exp().mean())
    if "mmd" in names:
        found["mmd"] = mmd(flat, exact, posterior.trace_cov[0])
    if "precision" in names:
        found |= precision_recall(flat, exact)
    if "class_accuracy" in names:
        found["class_accuracy"] = class_accuracy(draws, label)
    return found
