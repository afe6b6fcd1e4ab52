from benchmark_utils.particles import Particles
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """FPS-SMC: "Diffusion Posterior Sampling for Linear Inverse Problem Solving: A Filtering Perspective",
    Dou and Song, ICLR 2024, https://openreview.net/forum?id=tplXNcHZs1

    Algorithm 2 in the spectral coordinates of A. A path ``y_T = A z, ..., y_0 = y`` of noisy observations is drawn
    with the noise of the DDIM kernel (a share ``c`` of it fresh at each step); each sample is the outcome of its own
    filter of ``n_particles`` particles, which weights them by the predictive density
    ``N(y_s; A mu, abar_s sigma^2 I + c (1 - abar_s) A A^T)``, resamples them and draws from the kernel
    ``N(mu, c (1 - abar_s) I)`` given y_s. One particle is the paper's FPS. The noise of y counts anew at each level,
    so for sigma > 0 the samples are less spread than the posterior, the more so the more steps.
    """

    name = "fps_smc"
    parameters = {"n_particles": [None], "n_steps": [None], "c": [None]}
    test_config = {"n_particles": 2, "n_steps": 3}
    needs = {"svd", "gaussian"}
    ranges = {"c": (0, 1)}
    PRESETS = {
        ("*", "*"): {"n_particles": 5, "n_steps": 1000, "c": 0.95},  # released code
        ("mixture", "*"): {"n_steps": 100},
    }

    def sample(self, problem, prior, rng):
        schedule, n_draws, n_filters = prior.schedule, problem.n_draws, len(problem.images)
        cloud = rng.particles(n_draws * self.n_particles)
        filters = Particles(cloud, n_filters)
        problem = problem.with_draws(n_draws * self.n_particles)
        operator, levels = problem.operator, schedule.grid(self.n_steps)
        y = operator.U_adjoint(problem.y)
        singular = operator.mask.expand_as(y)

        def path_noise():
            """Spectrum of A z, the same for all particles of a filter."""
            z = cloud.randn_like(y)[:: self.n_particles]
            return singular * z.repeat_interleave(self.n_particles, 0)

        x, y_t = cloud.randn_like(y), path_noise()
        for t, s in self.steps(levels):
            abar_t, abar_s = schedule.abar(t), schedule.abar(s)
            kept, variance = (1 - self.c) * (1 - abar_s), self.c * (1 - abar_s)
            y_s = abar_s**0.5 * y + (kept / (1 - abar_t)) ** 0.5 * (y_t - abar_t**0.5 * y)
            y_s = y_s + variance**0.5 * path_noise()
            x_hat = operator.V_adjoint(prior.denoise(operator.V(x), t))
            eps = (x - abar_t**0.5 * x_hat) / (1 - abar_t) ** 0.5
            mean = abar_s**0.5 * x_hat + kept**0.5 * eps
            observed_variance = abar_s * problem.noise.std**2
            predicted_variance = observed_variance + variance * singular**2
            log_weights = -((y_s - singular * mean).square() / predicted_variance).double().flatten(1).sum(1) / 2
            mean = mean[filters.multinomial(log_weights)]
            gain = variance * singular / predicted_variance
            spread = (variance * observed_variance / predicted_variance).sqrt()
            x = mean + gain * (y_s - singular * mean) + spread * cloud.randn_like(y)
            y_t = y_s
        self.ess = filters.ess_per_image(n_filters // n_draws)
        return operator.V(x)[:: self.n_particles]  # after resampling any particle is a draw by the last weights
