"""Scores of draws under a label: against closed forms and numbers worked out by hand."""

import pytest
import torch

from benchmark_utils.label_scores import mmd, precision_recall


def random_normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mmd_of_two_gaussians():
    """N(0, I) and N(m, I) in d dimensions: ``2 (h^2 / (h^2 + 2))^(d / 2) (1 - exp(-||m||^2 / (2 (h^2 + 2))))``."""
    n, d, h2, shift = 3000, 2, 2.0, 1.0
    x, y = random_normal(n, d), random_normal(n, d, seed=1)
    expected = 2 * (h2 / (h2 + 2)) ** (d / 2) * (1 - torch.tensor(-d * shift**2 / (2 * (h2 + 2))).exp())
    assert mmd(x + shift, y, h2) == pytest.approx(float(expected), abs=0.02)
    assert abs(mmd(x, y, h2)) < 2e-3


def test_mmd_is_unbiased():
    """Of three points each, on average over 400 pairs of sets, 0; with the diagonal it would be about 0.4."""
    found = torch.tensor(
        [mmd(random_normal(3, 2, seed=i), random_normal(3, 2, seed=1000 + i), 1.0) for i in range(400)]
    )
    assert abs(found.mean()) < 4 * found.std() / 20


def test_precision_and_recall_by_hand():
    """On a line with k = 1: the reals 0, 1, 3 have balls of radius 1, 1, 2; the fakes 0.5, 10, 12 of 9.5, 2, 2."""
    reals, fakes = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [10.0], [12.0]])
    found = precision_recall(fakes, reals, k=1)
    assert found["precision"] == pytest.approx(1 / 3)  # 0.5 alone lies in a ball of the reals
    assert found["density"] == pytest.approx(2 / 3)  # in those of 0 and 1
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["recall"] == 1  # all reals lie within 9.5 of 0.5


def test_a_set_against_itself_and_a_collapsed_one():
    x = random_normal(200, 3)
    assert precision_recall(x, x)["precision"] == precision_recall(x, x)["recall"] == 1
    assert precision_recall(x, x)["coverage"] == 1
    collapsed = precision_recall(0.01 * x, x)
    assert collapsed["precision"] == 1 and collapsed["recall"] < 0.05 and collapsed["density"] > 1.2
