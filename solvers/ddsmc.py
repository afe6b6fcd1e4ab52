from benchmark_utils.particles import Particles
from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import karras_levels


class Solver(PosteriorSampler):
    """DDSMC: "Solving Linear-Gaussian Bayesian Inverse Problems with Decoupled Diffusion Sequential Monte Carlo",
    Kelvinius, Zhao and Lindsten, ICML 2025, https://arxiv.org/abs/2502.06379

    A particle filter on the decoupled chain, in the spectral coordinates of ``A = U diag(s) V^T``:
      p(x_low | x) = N(w D + (1 - w) x, w sigma_low^2),  w = (sigma^2 - sigma_low^2) / (sigma^2 - (1 - eta) sigma_low^2)
    for D = E[x_0 | x] at the levels sigma > sigma_low of a poly-7 grid (variance exploding). The proposal
    replaces D by ``N(b, M)``, the posterior of ``x_0 ~ N(D, rho^2)`` given y, whose evidence ``N(y; s D,
    sigma_y^2 + rho^2 s^2)`` is the potential of x; particles are resampled at each level. The last move has
    no noise and returns b. As N grows the samples are draws of the posterior under *the prior that this chain
    generates*, whose variance for N(0, 1) is .48, .65, .95 at eta = 0, .5, 1 in 200 levels: only ``eta = 1``,
    DDPM's chain, tends to the prior. ``rho`` is rho^2 over sigma^2 / (1 + sigma^2), the variance of x_0 given
    x for N(0, 1). Each sample is the outcome of its own filter of ``n_particles`` particles, so that draws
    are independent.
    Departures: where a grid is so coarse that a variance of the proposal were negative, rho^2 is sigma_low^2
    / w; D is the denoised image (the paper has an ODE of ten steps, too).
    """

    name = "ddsmc"
    parameters = {
        "n_particles": [None],
        "n_levels": [None],
        "sigma_max": [None],
        "sigma_min": [None],
        "eta": [None],
        "rho": [None],
    }
    test_config = {"n_particles": 2, "n_levels": 3}
    needs = {"svd", "gaussian"}
    ranges = {"eta": (0, 1), "rho": (1e-6, 1)}
    # N and levels: InverseBench's MRI, where eta is .5 and rho has a grid of its own, in other units. No image setting
    # was found; chosen here: rho of the paper's Gaussian mixtures, rho^2 = (1 - abar) / 2, and eta = 1
    PRESETS = {
        ("*", "*"): {
            "n_particles": 16,
            "n_levels": 200,
            "sigma_max": 100.0,
            "sigma_min": 0.01,
            "eta": 1.0,
            "rho": 0.5,
        }
    }

    def sample(self, problem, prior, rng):
        n_draws, n_filters, N = problem.n_draws, len(problem.images), self.n_particles
        cloud = rng.particles(n_draws * N)
        filters = Particles(cloud, n_filters)
        problem = problem.with_draws(n_draws * N)
        operator, noise_variance = problem.operator, problem.noise.std**2
        y, singular = operator.U_adjoint(problem.y), operator.mask
        levels = [*karras_levels(self.sigma_max, self.sigma_min, self.n_levels), 0.0]
        x, log_weights = levels[0] * cloud.randn_like(y), 0.0
        for sigma, lower in self.steps(levels):
            w = (sigma**2 - lower**2) / (sigma**2 - (1 - self.eta) * lower**2)
            rho2 = self.rho * sigma**2 / (1 + sigma**2)
            rho2 = min(rho2, lower**2 / w) if lower > 0 else rho2
            x_hat = operator.V_adjoint(prior.denoise_sigma(operator.V(x), sigma))
            evidence = noise_variance + rho2 * singular**2
            potential = log_normal(y - singular * x_hat, evidence)
            rows = filters.multinomial(log_weights + potential)
            x, x_hat, log_weights = x[rows], x_hat[rows], -potential[rows]
            shift = rho2 * singular / evidence * (y - singular * x_hat)  # b - D
            if lower == 0:
                x = x_hat + shift
                continue
            # the chain's variance, of which w^2 rho^2 is x_0's and becomes w^2 M
            variance = w * lower**2 - w**2 * (rho2 - rho2 * noise_variance / evidence)
            z = variance**0.5 * cloud.randn_like(y)
            x = w * (x_hat + shift) + (1 - w) * x + z
            log_weights = log_weights + log_normal(w * shift + z, w * lower**2) - log_normal(z, variance)
        x = operator.V(x)
        rows = filters.multinomial(log_weights + problem.log_likelihood(x).double())
        self.ess = filters.ess_per_image(n_filters // n_draws)
        return x[rows][::N]


def log_normal(distance, variance):
    """Logarithm of the density, without the term that all particles of a filter share, in float64: (n,)."""
    return -(distance.double().square() / variance).flatten(1).sum(1) / 2
