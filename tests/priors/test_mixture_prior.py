"""The closed-form priors: denoiser, posterior and samples against dense linear algebra; the shipped face mixture."""

import shutil

import pytest
import torch
from deepinv.physics import Denoising, Inpainting
from helpers import read_thumbnails
from torch.distributions import Categorical, LowRankMultivariateNormal, MixtureSameFamily, MultivariateNormal

from benchmark_utils.files import paths
from benchmark_utils.files.weights import read_safetensors
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.super_resolution import BlockAverage
from benchmark_utils.priors import Prior
from benchmark_utils.priors.mixture import FactorAnalyserMixture, faces64_mfa, gaussian, gaussian_mixture
from benchmark_utils.problem import InverseProblem, capabilities, has_svd
from benchmark_utils.rng import RNG

FACES = "faces64/faces64_mfa.safetensors"


def random_normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mixture(event_shape, n_components=3, rank=4):
    """A mixture whose components overlap, so that several keep weight under a noisy measurement."""
    d = torch.Size(event_shape).numel()
    weights = torch.linspace(1, 2, n_components, dtype=torch.float64)
    means = random_normal(n_components, d, seed=1) / d**0.5
    factors = random_normal(n_components, d, rank, seed=2) * 0.7 / d**0.5
    isotropic = torch.linspace(0.5, 0.52, n_components, dtype=torch.float64)
    return FactorAnalyserMixture(weights, means, factors, isotropic, event_shape)


def covariances(prior):
    """The covariance matrix of each component, (K, d, d)."""
    return prior.factors @ prior.factors.mT + prior.s2[:, None, None] * torch.eye(prior.means.shape[1])


def dense_posterior(prior, A, y, std):
    """Component weights (K,), mean (d,) and covariance (d, d) of p(x | y = A x + std eps); A (m, d), y (m,)."""
    prior_covariances = covariances(prior)
    noise = std**2 * torch.eye(len(y), dtype=y.dtype)
    log_weights, means, posterior_covariances = [], [], []
    for log_weight, mean, covariance in zip(prior.log_weights, prior.means, prior_covariances, strict=True):
        evidence = MultivariateNormal(A @ mean, A @ covariance @ A.T + noise)
        gain = torch.linalg.solve(evidence.covariance_matrix, A @ covariance).T
        log_weights.append(log_weight + evidence.log_prob(y))
        means.append(mean + gain @ (y - A @ mean))
        posterior_covariances.append(covariance - gain @ A @ covariance)
    weights = torch.stack(log_weights).softmax(0)
    means = torch.stack(means)
    mean = weights @ means
    centred = means - mean
    covariance = torch.einsum("k,kij->ij", weights, torch.stack(posterior_covariances))
    return weights, mean, covariance + (weights * centred.T) @ centred


@pytest.mark.parametrize("sigma", [0.01, 0.3, 3.0, torch.tensor([0.05, 0.5, 1.0, 5.0, 50.0], dtype=torch.float64)])
def test_denoiser_is_dense_linear_algebra(sigma):
    prior = random_mixture((3, 8, 8))
    x = random_normal(5, 3, 8, 8)
    identity = torch.eye(192, dtype=torch.float64)
    sigmas = torch.as_tensor(sigma, dtype=torch.float64).expand(5).tolist()
    rows = zip(x.flatten(1), sigmas, strict=True)
    dense = torch.stack([dense_posterior(prior, identity, row, sigma)[1] for row, sigma in rows])
    torch.testing.assert_close(prior.denoise_sigma(x, sigma).flatten(1), dense, rtol=0, atol=1e-10)


def observations(name, n=2):
    """An operator on (n, 3, 8, 8) and the standard deviation of its noise."""
    shape = (3, 8, 8)
    seen = (random_normal(n, *shape, seed=3) > 0.3).double()
    return {
        "inpainting": (Inpainting(shape, mask=seen[0]), 0.4),
        "one mask per image": (Inpainting(shape, mask=seen), 0.4),
        "block average": (BlockAverage(4, shape), 0.1),
        "denoising": (Denoising(), 1.0),
    }[name]


OBSERVATIONS = ("inpainting", "one mask per image", "block average", "denoising")


def measured_problem(prior, operator, std, n=2, n_draws=1):
    """A problem with y drawn from the prior, hidden entries 0."""
    noise = GaussianNoise(std)
    x = prior.sample(n, torch.Generator().manual_seed(5))
    operator = operator.double()
    y = operator.A(x)
    y = y + std * random_normal(*y.shape, seed=6) * (operator.mask if isinstance(operator, Inpainting) else 1)
    assert has_svd(operator, prior.signal_shape)
    found = frozenset({"linear", "svd", "gaussian"})
    problem = InverseProblem(operator, noise, y, "mixture", y[0].numel(), tuple(range(n)), capabilities=found)
    return problem.with_draws(n_draws)


def dense_matrix(operator, event_shape, row):
    """The rows of A, for one image, that observe something: (m, d), and which entries of y these are."""
    d = torch.Size(event_shape).numel()
    basis = torch.eye(d, dtype=torch.float64).view(d, *event_shape)
    if operator.mask.ndim > len(event_shape) and len(operator.mask) > 1:
        operator = Inpainting(event_shape, mask=operator.mask[row])
    A = operator.A(basis).flatten(1).T
    observed = A.abs().sum(1) > 0
    return A[observed], observed


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_posterior_is_dense_linear_algebra(name):
    prior = random_mixture((3, 8, 8))
    operator, std = observations(name)
    problem = measured_problem(prior, operator, std)
    posterior = prior.posterior(problem)
    assert posterior.weights[0].amax() < 0.9, "the test needs several components with weight"
    for row in range(2):
        A, observed = dense_matrix(problem.operator, (3, 8, 8), row)
        weights, mean, covariance = dense_posterior(prior, A, problem.y[row].flatten()[observed], std)
        torch.testing.assert_close(posterior.weights[row], weights, rtol=0, atol=1e-10)
        torch.testing.assert_close(posterior.mean[row].flatten(), mean, rtol=0, atol=1e-10)
        torch.testing.assert_close(posterior.trace_cov[row], covariance.trace(), rtol=1e-10, atol=0)


SMALL = (1, 4, 4)


@pytest.mark.parametrize(
    "operator, std",
    [
        (Inpainting(SMALL, mask=torch.tensor([1.0, 1.0, 0.0, 1.0]).expand(SMALL)), 0.7),
        (BlockAverage(4, SMALL), 0.1),
        (Denoising(), 1.0),
    ],
    ids=["inpainting", "block average", "denoising"],
)
def test_posterior_samples_have_the_posterior_moments(operator, std):
    """4000 draws; every mean and covariance entry within 5 standard errors, estimated from the draws themselves.

    Each of the 16 + 136 entries exceeds that with probability 6e-7.
    """
    prior, n_draws = random_mixture(SMALL), 4000
    problem = measured_problem(prior, operator, std, n=1, n_draws=n_draws)
    noise = RNG(0, "sampler", "mixture", problem.images, range(n_draws), dtype=torch.float64)
    x = prior.posterior(problem).sample(noise).flatten(1)
    A, observed = dense_matrix(problem.operator, SMALL, 0)
    _, mean, covariance = dense_posterior(prior, A, problem.y[0].flatten()[observed], std)
    assert_moments(x, mean, covariance)


def assert_moments(x, mean, covariance):
    """Mean and covariance of the draws ``x`` (n, d) within 5 standard errors of the given ones."""
    centred = x - mean
    products = centred[:, :, None] * centred[:, None]
    for draws, expected in ((x, mean), (products, covariance)):
        standard_error = draws.std(0) / len(x) ** 0.5
        assert ((draws.mean(0) - expected).abs() / standard_error).max() < 5


def test_prior_samples_have_the_prior_moments():
    prior = random_mixture(SMALL)
    weights = prior.log_weights.exp()
    mean = weights @ prior.means
    centred = prior.means - mean
    covariance = torch.einsum("k,kij->ij", weights, covariances(prior)) + (weights * centred.T) @ centred
    assert_moments(prior.sample(20_000, torch.Generator().manual_seed(0)).flatten(1), mean, covariance)


def test_posterior_needs_an_svd_and_gaussian_noise():
    prior = random_mixture(SMALL)
    problem = InverseProblem(Denoising(), GaussianNoise(1.0), torch.zeros(1, *SMALL), "mixture", 16, (0,))
    with pytest.raises(ValueError, match="SVD and Gaussian noise"):
        prior.posterior(problem)


def test_gaussian_covariance():
    prior = gaussian(dim=4, correlation=0.5).load("cpu")
    index = torch.arange(4.0, dtype=torch.float64)
    expected = 0.5 ** (index[:, None] - index).abs()
    torch.testing.assert_close(covariances(prior)[0], expected, rtol=0, atol=1e-12)
    assert (prior.means == 0).all()
    x = random_normal(3, 4)
    denoised = x @ torch.linalg.solve(expected + 0.7**2 * torch.eye(4, dtype=torch.float64), expected)
    torch.testing.assert_close(prior.denoise_sigma(x, 0.7), denoised, rtol=0, atol=1e-12)


def test_gaussian_without_correlation_is_standard():
    prior = gaussian(dim=3).load("cpu")
    torch.testing.assert_close(covariances(prior)[0], torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("correlation", [-0.1, 1.0])
def test_gaussian_rejects_a_correlation_outside_its_range(correlation):
    with pytest.raises(ValueError, match=r"correlation must be a number in \[0, 1\)"):
        gaussian(correlation=correlation)


def test_gaussian_mixture_has_25_components_on_a_grid():
    prior = gaussian_mixture(dim=4, seed=1).load("cpu")
    expected = {(float(8 * i), float(8 * j)) * 2 for i in range(-2, 3) for j in range(-2, 3)}
    assert {tuple(mean) for mean in prior.means.tolist()} == expected
    assert len(prior.means) == 25
    torch.testing.assert_close(covariances(prior), torch.eye(4, dtype=torch.float64).expand(25, 4, 4))
    weights = prior.log_weights.exp()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    # far above the grid's extent the noise hides which component it was
    denoised = prior.denoise_sigma(torch.zeros(1, 4, dtype=torch.float64), 1e6)[0]
    torch.testing.assert_close(denoised, weights @ prior.means, rtol=0, atol=1e-6)
    assert torch.equal(weights, gaussian_mixture(dim=4, seed=1).load("cpu").log_weights.exp())
    assert not torch.allclose(weights, gaussian_mixture(dim=4, seed=2).load("cpu").log_weights.exp())


@pytest.mark.parametrize("dim", [0, 3])
def test_gaussian_mixture_needs_an_even_dimension(dim):
    with pytest.raises(ValueError, match=f"even dimension, got dim={dim}"):
        gaussian_mixture(dim=dim)


@pytest.fixture(scope="module")
def faces():
    return faces64_mfa().load("cpu")


@pytest.fixture(scope="module")
def photographs():
    return read_thumbnails(24).double()


def test_faces64_mfa_is_small_and_well_formed(faces):
    assert (paths.ASSETS / FACES).stat().st_size <= 12e6
    tensors = read_safetensors(paths.ASSETS / FACES)
    K, d, rank = tensors["factors"].shape
    assert (d, tensors["means"].shape, tensors["weights"].shape, tensors["isotropic"].shape) == (
        3 * 64 * 64,
        (K, d),
        (K,),
        (K,),
    )
    assert tensors["means"].dtype == tensors["factors"].dtype == torch.float16
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert tensors["isotropic"].min() > 0.02 and tensors["weights"].min() > 0


def log_density(prior, x, sigma):
    """``log p_sigma`` of the prior blurred with noise ``sigma`` at rows x (n, d), by torch's own distributions."""
    variances = (prior.s2 + sigma**2)[:, None].expand(prior.means.shape)
    components = LowRankMultivariateNormal(prior.means, prior.factors, variances, validate_args=False)
    return MixtureSameFamily(Categorical(logits=prior.log_weights), components, validate_args=False).log_prob(x)


@pytest.mark.parametrize("level", [1, 100, 300, 600, 1000])
def test_faces64_mfa_denoiser_is_the_score(faces, photographs, level):
    """``(D(x) - x) / sigma^2`` is the gradient of ``log p_sigma``, by central differences along four directions.

    The slope along a unit direction is about ``1 / sigma``. With steps of ``1e-3 sqrt(s^2 + sigma^2)``, rounding in
    a log-density of size 1e5 leaves an error near ``1e-11 / 1e-3 / sigma``, far under the 1e-5 / sigma allowed.
    """
    abar, sigma = faces.schedule.abar(level), faces.schedule.sigma(level)
    x = photographs[:1] + sigma * random_normal(1, 3, 64, 64, seed=level)
    score = ((faces.denoise(abar**0.5 * x, level) - x) / sigma**2).flatten()
    # random directions, and the one in which the denoiser moves
    directions = torch.stack([*random_normal(3, score.numel(), seed=level + 1), score])
    directions = directions / directions.norm(dim=1, keepdim=True)
    step = 1e-3 * (0.15**2 + sigma**2) ** 0.5
    high, low = (log_density(faces, x.flatten() + sign * step * directions, sigma) for sign in (1, -1))
    differences = (high - low) / (2 * step)
    torch.testing.assert_close(differences, directions @ score, rtol=1e-5, atol=1e-5 / sigma)


def test_faces64_mfa_denoiser_is_the_posterior_mean_under_denoising(faces, photographs):
    """Two derivations of one number: Woodbury in :meth:`denoise_sigma`, spectral coordinates in the posterior."""
    x = photographs[:2] + 0.5 * random_normal(2, 3, 64, 64)
    noise, handle = GaussianNoise(0.5), Prior("faces64_mfa")
    found = capabilities(Denoising(), noise, handle)
    problem = InverseProblem(Denoising(), noise, x, "denoising", x[0].numel(), (0, 1), capabilities=found)
    posterior = faces.posterior(problem)
    torch.testing.assert_close(faces.denoise_sigma(x, 0.5), posterior.mean, rtol=0, atol=1e-9)


def asset_folder(tmp_path, content):
    """A folder of assets with the shipped checksums, whose mixture holds ``content``; without the file if None."""
    (tmp_path / "faces64").mkdir()
    shutil.copy(paths.ASSETS / "SHA256SUMS", tmp_path)
    if content is not None:
        (tmp_path / FACES).write_bytes(content)
    return tmp_path


def altered(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage, error, message",
    [
        (lambda content: None, FileNotFoundError, "faces64_mfa.safetensors is missing.*git checkout"),
        (lambda content: content[:1000], ValueError, "truncated or altered.*git checkout"),
        (altered, ValueError, "truncated or altered.*git checkout"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_a_damaged_asset_is_a_clear_error(monkeypatch, tmp_path, damage, error, message):
    shipped = (paths.ASSETS / FACES).read_bytes()
    monkeypatch.setattr(paths, "ASSETS", asset_folder(tmp_path, damage(shipped)))
    with pytest.raises(error, match=message):
        faces64_mfa().load("cpu")


def test_an_unlisted_asset_is_a_clear_error(monkeypatch, tmp_path):
    (tmp_path / "SHA256SUMS").write_text("")
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    with pytest.raises(ValueError, match="faces64_mfa.safetensors is not listed"):
        faces64_mfa().load("cpu")
