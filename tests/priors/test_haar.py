"""The Haar priors: denoisers against integrals and log-densities, posteriors against importance sampling and limits."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import pywt
import torch
from deepinv.physics import Inpainting
from scipy.integrate import quad
from scipy.stats import laplace, norm
from scipy.stats import t as student

from benchmark_utils.evaluate import evaluate
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.colorization import Colorization
from benchmark_utils.operators.denoising import denoising
from benchmark_utils.operators.elementwise import Clip
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.operators.super_resolution import super_resolution
from benchmark_utils.priors import Prior
from benchmark_utils.priors.haar import DEGREES, Haar, HaarPrior, laplace_mean, mixing_law
from benchmark_utils.problem import InverseProblem, capabilities
from benchmark_utils.results import calibration
from benchmark_utils.rng import RNG
from datasets.ffhq_inpainting import Dataset as HalfMask
from scripts.train.faces64_haar import student_scale
from solvers.exact_posterior import Solver as ExactPosterior

FACE, SMALL = (3, 64, 64), (1, 2, 2)
LAWS = {"laplace": laplace(), "student": student(DEGREES)}
TASKS = {
    "denoising": lambda: denoising(FACE),
    "half": lambda: inpainting("half", FACE).double(),
    "sr4": lambda: super_resolution("average", 4, FACE),
    "sr16": lambda: super_resolution("average", 16, FACE),
    "colorization": lambda: Colorization(FACE),  # the grey image is the first colour of the basis
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small_prior(law, scale=(0.3, 0.7, 0.2, 1.5)):
    """Four coefficients of images of 2 x 2 pixels."""
    scales = torch.tensor([scale], dtype=torch.float64)
    return HaarPrior(law, scales, torch.tensor([[0.4]], dtype=torch.float64), SMALL)


def problem_of(operator, y, noise_std, prior=None):
    spec = SimpleNamespace(has_posterior=Haar(SMALL).separates)
    handle = prior or SimpleNamespace(is_latent=False, closed_form=True, signal_shape=SMALL, spec=spec)
    found = capabilities(operator, GaussianNoise(noise_std), handle)
    images = tuple(range(len(y)))
    return InverseProblem(operator, GaussianNoise(noise_std), y, "task", y[0].numel(), images, capabilities=found)


def streams(n_images, n_draws, prior_seed=0):
    images = [i for i in range(n_images) for _ in range(n_draws)]
    return RNG(prior_seed, "sampler", "task", images, list(range(n_draws)) * n_images, dtype=torch.float64)


def test_transform_is_the_orthonormal_one_of_pywt_and_its_blocks_are_at_most_half_the_image():
    transform, x = Haar((1, 64, 64)), normal(2, 1, 64, 64)
    found = transform.coefficients(x)
    averages, *details = pywt.wavedec2(x[:, 0].numpy(), "haar", level=5)
    expected = [averages, *(part for level in details for part in level)]
    np.testing.assert_allclose(found[:, 0], np.concatenate([p.reshape(2, -1) for p in expected], 1), atol=1e-12)
    torch.testing.assert_close(transform.image(found), x)
    colour, x = Haar(FACE), normal(2, *FACE)
    torch.testing.assert_close(colour.coefficients(x).square().sum(), x.square().sum())
    assert averages.shape == (2, 2, 2)
    with pytest.raises(ValueError, match="power of 2"):
        Haar((3, 48, 48))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("sigma", [0.01, 0.3, 4.0, 6.0])
def test_denoiser_is_the_integral(law, sigma):
    """Error below 1e-6 of the scale, in the tails too, where few nodes count; brute-force integration of scipy."""
    prior, scale = small_prior(law), 0.4
    z = torch.tensor([-30.0, -0.3, 0.0, 0.8, 4.0, 18.3], dtype=torch.float64)
    s, noise = torch.tensor(scale, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64)
    found = laplace_mean(z, s, noise) if law == "laplace" else prior.mixture_mean(z, s, noise)
    for value, mean in zip(z.tolist(), found.tolist(), strict=True):
        # c = value + sigma g, so that the narrow factor is the variable; relative to the largest exponent
        peak = max(LAWS[law].logpdf((value + sigma * g) / scale) + norm.logpdf(g) for g in np.linspace(-60, 60, 1001))

        def density(g, value=value, peak=peak):
            return np.exp(LAWS[law].logpdf((value + sigma * g) / scale) + norm.logpdf(g) - peak)

        breaks = sorted({-60, 60, *np.linspace(-59, 59, 40), float(np.clip(-value / sigma, -60, 60))})
        parts = list(zip(breaks[:-1], breaks[1:], strict=True))
        total = sum(quad(density, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in parts)
        moment = sum(quad(lambda g, f=density: g * f(g), a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in parts)
        assert mean == pytest.approx(value + sigma * moment / total, abs=1e-6 * scale)


def test_mixture_of_gaussians_is_laplace_law_to_the_stated_error():
    z = torch.linspace(-80, 80, 801, dtype=torch.float64)
    prior, one = small_prior("laplace"), torch.tensor(1.0, dtype=torch.float64)
    for sigma in (0.05, 1.0, 10.0):
        noise = torch.tensor(sigma, dtype=torch.float64)
        torch.testing.assert_close(prior.mixture_mean(z, one, noise), laplace_mean(z, one, noise), rtol=0, atol=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_denoiser_is_tweedies_formula_of_its_log_density(law):
    """``D(x) = x + sigma^2 grad log p_sigma(x)`` by autograd of the mixture's density, on images of 2 x 2 pixels."""
    prior, sigma = small_prior(law), 0.6
    x = (1.5 * normal(5, *SMALL)).requires_grad_()
    z = prior.transform.coefficients(x) - prior.location
    densities = [weight * norm_pdf(z, prior.scales**2 * w + sigma**2) for w, weight in prior.mixture]
    (score,) = torch.autograd.grad(sum(densities).log().sum(), x)
    torch.testing.assert_close(prior.denoise_sigma(x, sigma), (x + sigma**2 * score), rtol=0, atol=1e-6)


def norm_pdf(z, variance):
    return (-z.square() / (2 * variance)).exp() * variance.rsqrt()


@pytest.mark.parametrize("law", LAWS)
def test_denoiser_has_finite_gradients_at_the_ends_of_the_schedule_and_does_not_couple_rows(law):
    prior = Prior(f"haar_{law}").load()
    x = torch.cat([prior.sample(2, torch.Generator().manual_seed(0)), 100 * normal(1, *FACE)]).requires_grad_()
    for level in (1, 500, 1000):
        denoised = prior.denoise(x, level)
        (gradient,) = torch.autograd.grad(denoised.square().sum(), x)
        assert denoised.isfinite().all() and gradient.isfinite().all()
        torch.testing.assert_close(prior.denoise(x[1:2], level), denoised[1:2], rtol=0, atol=1e-12)
    sigmas = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    each = torch.cat([prior.denoise_sigma(x[i : i + 1], float(s)) for i, s in enumerate(sigmas)])
    torch.testing.assert_close(prior.denoise_sigma(x, sigmas), each)


def test_derivative_of_laplaces_denoiser_is_the_posterior_variance_at_every_level():
    """``sigma^2 D' = Var[c | z]``, here of the mixture of Gaussians that is Laplace's law."""
    prior, scale = small_prior("laplace"), torch.tensor([0.003, 0.01, 0.5, 5.0], dtype=torch.float64)
    for sigma in (0.01, 0.5, 2.99, 3.01, 20.0, 157.0, 1000.0):  # on both sides of the limit of wide noise
        noise = torch.tensor(sigma, dtype=torch.float64)
        z = (sigma * torch.tensor([[-6.0], [-1.0], [0.3]], dtype=torch.float64)).expand(3, 4).clone().requires_grad_()
        mean = laplace_mean(z, scale, noise)
        (slope,) = torch.autograd.grad(mean.sum(), z)
        pull, moments = z.detach() / sigma**2, torch.zeros(3, 3, 4, dtype=torch.float64)
        for weight, variance in prior.nodes(scale, 1 / noise**2, pull):
            moments += weight * torch.stack(
                torch.broadcast_tensors(pull**0, variance * pull, variance + (variance * pull) ** 2)
            )
        expected, second = moments[1:] / moments[0]
        torch.testing.assert_close(mean.detach(), expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(sigma**2 * slope, second - expected**2, rtol=1e-3, atol=0)


def test_scale_of_largest_likelihood_is_that_of_scipy():
    c = student(DEGREES, scale=0.7).rvs(20_000, random_state=0)
    _, _, expected = student.fit(c, fdf=DEGREES, floc=0)
    assert student_scale(torch.from_numpy(c)).item() == pytest.approx(expected, rel=1e-3)


def test_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ptwt", None)
    data = HalfMask.get_instance(prior="haar_laplace", truth="prior", n_images=1).get_data()
    assert data == {"missing": 'the Haar priors need the package ptwt: pip install ".[wavelets]" -c constraints.txt'}


@pytest.mark.parametrize("law", LAWS)
def test_denoiser_runs_on_meta(law):
    prior = Prior(f"haar_{law}").spec.load("meta")
    x = torch.empty(2, *FACE, dtype=torch.float64, device="meta", requires_grad=True)
    (gradient,) = torch.autograd.grad(prior.denoise(x, torch.tensor([3, 500])).sum(), x)
    assert gradient.device.type == "meta" and gradient.shape == x.shape


@pytest.mark.parametrize("law", LAWS)
def test_draws_of_the_prior_have_the_law(law):
    from scipy.stats import kstest

    prior = small_prior(law)
    c = (
        prior.transform.coefficients(prior.sample(2000, torch.Generator().manual_seed(0))) - prior.location
    ) / prior.scales
    for column in c[:, 0].T:
        assert kstest(column.numpy(), LAWS[law].cdf).pvalue > 0.002
    assert sum(weight for _, weight in mixing_law(law)) == pytest.approx(1)


def test_an_operator_that_fails_is_not_one_that_mixes_coefficients():
    """Its error is raised; an operator of pieces has no adjoint to ask, and masks of several rows have no posterior."""
    assert not Haar(FACE).separates(Clip())
    assert not Haar(FACE).separates(Inpainting(img_size=FACE, mask=torch.ones(2, *FACE, dtype=torch.float64)))
    broken = Inpainting(img_size=FACE, mask=torch.ones(FACE, dtype=torch.float64))
    broken.A_adjoint = lambda y: y.view(-1, 7)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        Haar(FACE).separates(broken)


@pytest.mark.parametrize("task", TASKS)
def test_coefficients_stay_independent_on_these_tasks_and_not_on_others(task):
    prior = Prior("haar_laplace")
    found = capabilities(TASKS[task]().double(), GaussianNoise(0.05), prior)
    assert "closed_form" in found
    for other in (inpainting("box", FACE), super_resolution("bicubic", 4, FACE)):
        assert "closed_form" not in capabilities(other.double(), GaussianNoise(0.05), prior)
    y = torch.zeros(1, *FACE, dtype=torch.float64)
    with pytest.raises(ValueError, match="mixes Haar coefficients"):
        prior.load().posterior(problem_of(inpainting("box", FACE).double(), y, 0.05, prior))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("measured", ["pixels", "average"])
def test_posterior_is_that_of_importance_sampling_in_four_dimensions(law, measured):
    """All four pixels with noise, or their average, which leaves the three details to the prior."""
    noise_std, prior = 0.5, small_prior(law)
    if measured == "average":
        operator, y = super_resolution("average", 2, SMALL), torch.tensor([[[[0.9]]]], dtype=torch.float64)
    else:
        mask = torch.ones(SMALL, dtype=torch.float64)
        operator, y = Inpainting(img_size=SMALL, mask=mask), normal(1, *SMALL)
    problem = problem_of(operator, y, noise_std)
    posterior = prior.posterior(problem)
    n = 200_000
    x = prior.sample(n, torch.Generator().manual_seed(1))
    log_weights = -(y - operator.A(x)).square().flatten(1).sum(1) / (2 * noise_std**2)
    weights = log_weights.softmax(0)[:, None]
    mean = (weights * x.flatten(1)).sum(0)
    error = (weights.square() * (x.flatten(1) - mean).square()).sum(0).sqrt()
    assert ((posterior.mean.flatten() - mean).abs() < 4.5 * error).all()
    deviation = (x.flatten(1) - mean).square().sum(1, keepdim=True)
    trace = (weights * deviation).sum()
    assert abs(posterior.trace_cov - trace) < 5 * (weights.square() * (deviation - trace).square()).sum().sqrt()
    draws = posterior.sample(streams(1, 20_000))
    assert ((draws.mean(0) - posterior.mean[0]).abs() < 4.5 * draws.std(0) / 20_000**0.5).all()
    spread = (draws - posterior.mean).square().flatten(1).sum(1)
    assert abs(spread.mean() - posterior.trace_cov) < 4.5 * spread.std() / 20_000**0.5


@pytest.mark.parametrize("task", TASKS)
def test_posterior_of_a_single_node_is_the_gaussian_one(task):
    """With one node of w = 1 the prior is Gaussian: its mean by conjugate gradients on y."""
    prior = Prior("haar_laplace").spec.load("cpu")
    prior.mixture = [(1.0, 1.0)]
    operator = TASKS[task]()
    y = operator.A(0.3 * normal(2, *FACE))
    posterior = prior.posterior(problem_of(operator, y, 0.1, Prior("haar_laplace")))
    # E = m + S A^T (A S A^T + r)^-1 (y - A m) by conjugate gradients on y
    to_image, to_c, variance = prior.transform.image, prior.transform.coefficients, prior.scales.square()

    def covariance(x):
        return to_image(variance * to_c(x))

    center = to_image(prior.location.expand(2, -1, -1))
    residual = y - operator.A(center)
    solution, r = torch.zeros_like(y), residual.clone()
    if task == "half":
        r = r * operator.mask
    p, norm2 = r.clone(), r.square().sum()
    for _ in range(400):
        image = operator.A(covariance(operator.A_adjoint(p))) + 0.01 * p
        step = norm2 / (p * image).sum()
        solution, r = solution + step * p, r - step * image
        new = r.square().sum()
        if new < 1e-26:
            break
        p, norm2 = r + new / norm2 * p, new
    expected = center + covariance(operator.A_adjoint(solution))
    torch.testing.assert_close(posterior.mean, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("law", LAWS)
def test_draws_of_the_posterior_do_not_couple_rows(law):
    handle = Prior(f"haar_{law}")
    prior, operator = handle.load(), TASKS["sr4"]()
    y = operator.A(prior.sample(2, torch.Generator().manual_seed(0)))
    problem = problem_of(operator, y, 0.05, handle)
    both = prior.posterior(problem)
    alone = prior.posterior(problem.rows([1]))
    torch.testing.assert_close(both.mean[1:], alone.mean)
    rng = RNG(0, "sampler", "task", [1, 1], [0, 1], dtype=torch.float64)
    torch.testing.assert_close(both.sample(streams(2, 2))[2:], alone.sample(rng))


@pytest.mark.parametrize("law, task", [("laplace", "inpainting[mask=half"), ("student", "super_resolution[factor=4")])
def test_exact_draws_are_calibrated_on_truths_of_the_prior(law, task):
    """Coverage, ranks and random regions inside their null bands: the hidden half is a few coarse blocks."""
    rows = evaluate(ExactPosterior, f"ffhq_{task},prior=haar_{law},truth=prior,n_images=4]", n_samples=16)
    rows = rows.add_prefix("objective_").assign(solver_name="exact_posterior", idx_rep=0)
    (curves,) = calibration.curves(rows).values()
    assert max(curve.excess for curve in curves.values()) < 1
    assert rows["objective_data_misfit"].between(0.9, 1.1).all()
    assert rows["objective_variance_ratio"].between(0.3, 2).all()
