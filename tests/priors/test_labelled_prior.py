"""The labelled mixtures: conditional denoisers, moments, draws and denoiser of the tilted law, and the digits."""

import pytest
import torch

from benchmark_utils.files.paths import asset
from benchmark_utils.files.weights import read_safetensors
from benchmark_utils.label_scores import class_accuracy
from benchmark_utils.noise import LabelTilt
from benchmark_utils.operators.label import ClassProbabilities, LabelOnly
from benchmark_utils.priors import Prior, labelled
from benchmark_utils.priors.labelled import LabelledMixture, TiltedMixture
from benchmark_utils.problem import InverseProblem, capabilities, cast
from benchmark_utils.rng import RNG

S = 0.8


@pytest.fixture(scope="module")
def prior():
    return Prior("labelled_mixture").spec.load("cpu")


def components():
    """(means (25, 2), weights (25,), labels (25,)) written out from the definition of the bed."""
    grid = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    weights = torch.tensor([1.0 + k % 3 for k in range(25)], dtype=torch.float64)
    labels = torch.tensor([(i + 2 * j) % 5 for i, j in grid])
    return 2 * torch.tensor(grid, dtype=torch.float64), weights / weights.sum(), labels


def joint_densities(x, variance=S**2):
    """``w_k N(x; mu_k, variance I)`` of points (n, 2): (n, 25)."""
    means, weights, _ = components()
    return weights * (-torch.cdist(x, means).square() / (2 * variance)).exp() / variance


def plane_grid(n=801, edge=8.0):
    """Points (n^2, 2) of a square grid around the mixture, whose sums are integrals."""
    axis = torch.linspace(-edge, edge, n, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


def random_normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_bed_has_five_labels_of_five_components(prior):
    means, weights, labels = components()
    torch.testing.assert_close(prior.means, means)
    torch.testing.assert_close(prior.log_weights.exp(), weights)
    assert labels.bincount().tolist() == [5] * 5 and prior.n_classes == 5
    assert torch.equal(prior.log_mask.exp().argmax(0), labels)


def test_class_probabilities(prior):
    x = 3 * random_normal(20, 2)
    joint, (_, _, labels) = joint_densities(x), components()
    expected = torch.stack([joint[:, labels == c].sum(1) for c in range(5)], 1) / joint.sum(1, keepdim=True)
    torch.testing.assert_close(prior.log_class_probabilities(x).exp(), expected)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_conditional_denoiser_is_that_of_the_labels_components(prior, sigma):
    means, _, labels = components()
    x, label = 3 * random_normal(10, 2), torch.arange(10) % 5
    joint = joint_densities(x, S**2 + sigma**2) * (labels == label[:, None])
    component_means = (S**2 * x[:, None] + sigma**2 * means) / (S**2 + sigma**2)
    expected = (joint[..., None] * component_means).sum(1) / joint.sum(1, keepdim=True)
    torch.testing.assert_close(prior.denoise_sigma(x, sigma, label), expected)


Z = {3.0: (0.4083, 0.4349, 0.4025, 0.5021, 0.4556), 5.0: (0.261, 0.273, 0.263, 0.362, 0.302)}


@pytest.mark.parametrize("weight, digits", [(3.0, 4), (5.0, 3)])
def test_acceptance_of_exact_draws(prior, weight, digits):
    found = [round(float(prior.moments(c, weight).acceptance), digits) for c in range(5)]
    assert found == list(Z[weight])


@pytest.mark.parametrize("label, weight", [(1, 3.0), (3, 5.0), (0, 1.0), (2, 0.5)])
def test_moments_are_integrals_over_the_plane(prior, label, weight):
    """Against sums over a grid of spacing 0.02."""
    x, (_, _, labels) = plane_grid(), components()
    joint = joint_densities(x)
    probability = joint[:, labels == label].sum(1) / joint.sum(1)
    masses = joint.sum(1) * probability**weight
    masses = masses / masses.sum()
    moments = prior.moments(label, weight)
    mean = masses @ x
    torch.testing.assert_close(moments.mean, mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(moments.trace_cov, masses @ (x - mean).square().sum(1), rtol=0, atol=1e-4)
    torch.testing.assert_close(moments.label_probability, masses @ probability, rtol=0, atol=1e-4)
    by_component = masses @ (joint / joint.sum(1, keepdim=True))
    torch.testing.assert_close(moments.weights, by_component, rtol=0, atol=1e-4)


def test_printed_moments(prior):
    moments = prior.moments(1, 3.0)
    printed = torch.tensor([-0.40445, -0.16877], dtype=torch.float64)
    torch.testing.assert_close(moments.mean, printed, rtol=0, atol=1e-5)
    assert moments.trace_cov.item() == pytest.approx(14.78959, abs=1e-4)
    assert moments.label_probability.item() == pytest.approx(0.7771, abs=1e-4)
    in_80 = Prior("labelled_mixture", (("dim", 80),)).spec.load("cpu").moments(1, 3.0)
    assert in_80.trace_cov.item() == pytest.approx(14.78959 + 0.64 * 78, abs=1e-4)
    assert in_80.acceptance.item() == pytest.approx(moments.acceptance.item(), abs=1e-9)


def stream(n, seed=0):
    return RNG(seed, "reference", "label", range(n), dtype=torch.float64, block=1)


@pytest.mark.parametrize("label, weight", [(1, 3.0), (3, 0.5)])
def test_exact_draws_have_the_moments(prior, label, weight):
    """6000 draws, 4 standard errors."""
    law, n = TiltedMixture(prior, torch.tensor([label]), weight), 6000
    x = law.sample(stream(n))
    probability = prior.log_class_probabilities(x)[:, label].exp()
    squared = (x - law.mean).square().sum(1)
    for draws, expected in ((x, law.mean[0]), (squared, law.trace_cov[0]), (probability, law.label_probability[0])):
        assert ((draws.mean(0) - expected).abs() / (draws.std(0) / n**0.5)).max() < 4
    shares = prior.responsibilities(x)
    assert ((shares.mean(0) - law.weights[0]).abs() <= 5 * shares.std(0) / n**0.5 + 1e-4).all()


def test_exact_draws_of_a_row_are_its_own(prior):
    law = TiltedMixture(prior, torch.tensor([1, 3]), 5.0)
    together = law.sample(RNG(0, "reference", "label", [7, 8], dtype=torch.float64))
    for i, (image, label) in enumerate(((7, 1), (8, 3))):
        alone = TiltedMixture(prior, torch.tensor([label]), 5.0)
        x = alone.sample(RNG(0, "reference", "label", [image], dtype=torch.float64))
        torch.testing.assert_close(x[0], together[i], rtol=0, atol=1e-12)


def test_a_weight_that_rejection_cannot_reach_is_an_error(prior, monkeypatch):
    monkeypatch.setattr(labelled, "MAX_TURNS", 1)
    with pytest.raises(RuntimeError, match="exact draws at weight 5: no proposal accepted in 1 turns; use a smaller"):
        TiltedMixture(prior, torch.tensor([1]), 5.0).sample(stream(50))


@pytest.mark.parametrize("sigma, error", [(0.2, 1e-5), (1.0, 1e-3), (5.0, 4e-3)])
@pytest.mark.parametrize("weight", [3.0, 0.5])
def test_corrected_denoiser_is_an_integral_over_the_plane(prior, sigma, error, weight):
    """To the error of 12 nodes an axis, which grows with the width of the denoising posterior."""
    grid, (_, _, labels) = plane_grid(401), components()
    x, label = 2 * random_normal(12, 2, seed=3), 1
    joint = joint_densities(grid)
    probability = joint[:, labels == label].sum(1) / joint.sum(1)
    prior_masses = joint.sum(1) * probability**weight
    masses = prior_masses * (-torch.cdist(x, grid).square() / (2 * sigma**2)).exp()
    expected = masses @ grid / masses.sum(1, keepdim=True)
    found = prior.tilted_denoise_sigma(x, sigma, torch.full((12,), label), weight)
    torch.testing.assert_close(found, expected, rtol=0, atol=error)


def test_corrected_denoiser_of_more_dimensions(prior):
    """In the plane as in two dimensions, across it a Gaussian's shrinkage."""
    higher = Prior("labelled_mixture", (("dim", 6),)).spec.load("cpu")
    plane = torch.eye(2, dtype=torch.float64).repeat(1, 3) / 3**0.5  # (2, 6), orthonormal rows
    torch.testing.assert_close(higher.means, prior.means @ plane)
    x, label, sigma = 2 * random_normal(9, 6), torch.arange(9) % 5, 0.9
    across = x - x @ plane.T @ plane
    in_plane = prior.tilted_denoise_sigma(x @ plane.T, sigma, label, 3.0)
    expected = in_plane @ plane + S**2 / (S**2 + sigma**2) * across
    torch.testing.assert_close(higher.tilted_denoise_sigma(x, sigma, label, 3.0), expected)


def test_guidance_lacks_the_gradient_of_a_renyi_divergence(prior):
    """``D* = D_w + sigma^2 (w - 1) grad R_w``, R_w by a sum over the plane and its gradient by differences."""
    grid, (_, _, labels) = plane_grid(401), components()
    sigma, w, label, x = 0.7, 3.0, torch.tensor([1]), torch.tensor([[0.4, -0.9]], dtype=torch.float64)
    joint = joint_densities(grid)
    conditional = joint[:, labels == 1].sum(1)

    def renyi(x):
        kernel = (-torch.cdist(x, grid).square() / (2 * sigma**2)).exp()[0]
        p, q = (density * kernel / (density @ kernel) for density in (conditional, joint.sum(1)))
        return (p**w * q ** (1 - w)).sum().log() / (w - 1)

    step = 1e-4 * torch.eye(2, dtype=torch.float64)
    gradient = torch.stack([(renyi(x + e) - renyi(x - e)) / 2e-4 for e in step])
    guided = w * prior.denoise_sigma(x, sigma, label) + (1 - w) * prior.denoise_sigma(x, sigma)
    corrected = prior.tilted_denoise_sigma(x, sigma, label, w)
    torch.testing.assert_close(corrected, guided + sigma**2 * (w - 1) * gradient, rtol=0, atol=1e-3)
    assert (corrected - guided).norm() > 0.1


def problem_of(handle, weight=3.0, label=1, n_classes=5):
    operator, noise = ClassProbabilities(handle), LabelTilt(weight)
    y = torch.eye(n_classes, dtype=torch.float64)[[label]]
    found = capabilities(operator, noise, handle)
    return InverseProblem(operator, noise, y, "label", n_classes, (0,), capabilities=found)


def test_likelihood_and_label_of_the_problem(prior):
    problem = problem_of(Prior("labelled_mixture"))
    assert problem.capabilities == {"likelihood", "labelled", "closed_form", "tilted_denoiser"}
    assert problem.label.tolist() == [1] and problem.weight == 3
    x = random_normal(1, 2).requires_grad_()
    log_likelihood = problem.log_likelihood(x)
    torch.testing.assert_close(log_likelihood, 3 * prior.log_class_probabilities(x)[:, 1])
    assert torch.autograd.grad(log_likelihood.sum(), x)[0].abs().sum() > 0
    torch.testing.assert_close(problem.misfit(x), -log_likelihood / 3)
    assert problem.rows([0], 4).label.tolist() == [1] * 4


def test_operator_moves_with_the_problem():
    operator = cast(ClassProbabilities(Prior("labelled_mixture")), torch.float64).to("meta")
    assert operator.A(torch.zeros(3, 2, device="meta")).shape == (3, 5)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_below_zero_is_refused(weight):
    with pytest.raises(ValueError, match="the weight of a label must be a number of 0 or more, got"):
        LabelTilt(weight)


def test_a_prior_without_labels_is_refused():
    with pytest.raises(ValueError, match="the measurement is a label, and prior gaussian has no labels"):
        capabilities(LabelOnly(), LabelTilt(2.0), Prior("gaussian"))
    with pytest.raises(NotImplementedError, match="no forward map"):
        LabelOnly().A(torch.zeros(1, 2))


@pytest.mark.parametrize("dim", [0, 3])
def test_the_bed_needs_an_even_dimension(dim):
    with pytest.raises(ValueError, match=f"the labelled mixture needs an even dimension, got dim={dim}"):
        Prior("labelled_mixture", (("dim", dim),)).spec  # noqa: B018


@pytest.fixture(scope="module")
def digits():
    return Prior("digits").spec.load("cpu")


def test_digits_are_small_and_well_formed(digits):
    assert asset("digits/digits.safetensors").stat().st_size < 64e3
    assert digits.factors.shape == (30, 64, 8) and digits.n_classes == 10
    assert digits.log_mask.exp().sum(1).tolist() == [3] * 10
    assert (digits.s2.sqrt() >= 0.3 - 1e-6).all() and (digits.means.abs() <= 1.01).all()


def test_digits_and_their_classifier_agree_with_real_pictures(digits):
    examples = read_safetensors(asset("digits/classifier.safetensors"))["examples"].double() / 8 - 1
    assert examples.shape == (10, 1, 8, 8)
    assert digits.log_class_probabilities(examples).argmax(1).tolist() == list(range(10))
    accuracy = [class_accuracy(examples[c : c + 1], c) for c in range(10)]
    assert sum(accuracy) >= 9
    shuffled = [class_accuracy(examples[c : c + 1], (c + 1) % 10) for c in range(10)]
    assert sum(shuffled) <= 1


def test_tilted_law_of_digits_is_nearly_the_conditional_one(digits, monkeypatch):
    monkeypatch.setattr(labelled, "N_IMPORTANCE", 10_000)
    fresh = Prior("digits").spec.load("cpu")
    moments = fresh.moments(8, 3.0)
    assert fresh.plane is None and 0.998 < moments.acceptance < 1
    law, n = TiltedMixture(fresh, torch.tensor([8]), 3.0), 1000
    x = law.sample(stream(n))
    assert x.shape == (n, 1, 8, 8)
    # 1 / n of the trace is what exact draws get, and 1 / 10,000 the moments' own error
    assert (x.mean(0) - law.mean[0]).square().sum() / law.trace_cov[0] < 2 / n
    spread = (x - law.mean).flatten(1).square().sum(1)
    assert abs(spread.mean() - law.trace_cov[0]) < 4 * spread.std() * (1 / n + 1 / 10_000) ** 0.5
    weights = digits.log_weights.softmax(0)[24:27] / digits.log_weights.softmax(0)[24:27].sum()
    torch.testing.assert_close(moments.weights[24:27], weights, rtol=0, atol=0.02)


def test_labels_are_read_off_the_components():
    one = torch.ones(2)
    mixture = LabelledMixture(one, torch.tensor([[-3.0], [3.0]]), torch.zeros(2, 1, 0), one, (1,), torch.tensor([1, 0]))
    assert mixture.log_class_probabilities(torch.tensor([[3.0]], dtype=torch.float64)).argmax().item() == 0
