"""Fit the embedded prior ``digits`` and the classifier that scores it, and write both to ``assets/digits``.

    pip install scikit-learn
    python -m scripts.train.digits

The pictures are the 1797 digits of 8 x 8 pixels that scikit-learn ships (Alpaydin and Kaynak 1998, "Optical Recognition
of Handwritten Digits", https://doi.org/10.24432/C50P49), 1297 of them for training. Each class is a mixture of three
factor analysers: k-means, then probabilistic PCA of rank 8 of each cluster (Tipping & Bishop 1999). Its isotropic part
is at least 0.3, since less makes a spike of rows that are always empty. The classifier is scikit-learn's logistic
regression. ``examples`` are the first test picture of each class, which the page shows as the measurement.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from benchmark_utils.priors.labelled import LabelledMixture
from scripts.train.faces64_mfa import k_means, probabilistic_pca

N_TRAINING = 1297
CLUSTERS, RANK, LEAST_ISOTROPIC = 3, 8, 0.3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/digits"))
    args = parser.parse_args()
    torch.manual_seed(0)
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = torch.from_numpy(data.data / 8 - 1).float()[order]
    y = torch.from_numpy(data.target).long()[order]
    (x, x_test), (y, y_test) = (part.split([N_TRAINING, len(y) - N_TRAINING]) for part in (x, y))

    fitted = []
    for digit in range(10):
        pictures = x[y == digit]
        clusters = k_means(pictures, CLUSTERS)
        for k in range(CLUSTERS):
            mean, factors, variance = probabilistic_pca(pictures[clusters == k], RANK)
            share = (clusters == k).sum() / len(x)
            fitted.append((share, mean, factors, variance.sqrt().clamp(min=LEAST_ISOTROPIC)))
    weights, means, factors, isotropic = map(torch.stack, zip(*fitted, strict=True))
    labels = torch.arange(10).repeat_interleave(CLUSTERS).to(torch.uint8)
    tensors = {"weights": weights, "means": means.half(), "factors": factors.half(), "isotropic": isotropic}
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors | {"labels": labels}, args.out / "digits.safetensors")

    regression = LogisticRegression(max_iter=5000).fit(x.numpy(), y.numpy())
    weight, bias = (torch.from_numpy(part).float().contiguous() for part in (regression.coef_, regression.intercept_))
    examples = torch.stack([x_test[(y_test == digit).nonzero()[0, 0]] for digit in range(10)])
    examples = ((examples + 1) * 8).round().to(torch.uint8).view(10, 1, 8, 8)
    save_file({"weight": weight, "bias": bias, "examples": examples}, args.out / "classifier.safetensors")

    stored = {name: value.double() for name, value in load_file(args.out / "digits.safetensors").items()}
    prior = LabelledMixture(**stored, event_shape=(1, 8, 8))
    generative = prior.log_class_probabilities(x_test.double().view(-1, 1, 8, 8)).argmax(1)
    for name, found in (("generative", generative), ("logistic regression", (x_test @ weight.T + bias).argmax(1))):
        print(f"{name}: accuracy on {len(y_test)} test pictures {(found == y_test).double().mean():.3f}")
    print(f"isotropic {isotropic.min():.3f} to {isotropic.max():.3f}")


if __name__ == "__main__":
    main()
