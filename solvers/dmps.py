from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DMPS: "Diffusion Model Based Posterior Sampling for Noisy Linear Inverse Problems",
    Meng and Kabashima, ACML 2024, https://arxiv.org/abs/2211.12343

    Algorithm 1: a DDPM step plus ``scale (1 - alpha_t) / sqrt(alpha_t)`` times the likelihood score under an
    uninformative prior on x_0, which looks at the noisy state and not at the denoised image:
      1 / sqrt(abar_t) A^T (sigma_y^2 I + sigma_t^2 A A^T)^{-1} (y - A x_t / sqrt(abar_t)),
    ``sigma_t^2 = (1 - abar_t) / abar_t``. No gradient passes through the denoiser. The paper has scale 1.
    """

    name = "dmps"
    parameters = {"n_steps": [None], "scale": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    PRESETS = {("*", "*"): {"n_steps": 1000, "scale": 1.75}}  # released configurations, every task

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        x_t = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            abar, alpha = schedule.abar(t), schedule.abar(t) / schedule.abar(s)
            ridge = (problem.noise.std / schedule.sigma(t)) ** 2
            score = problem.correction(x_t / abar**0.5, ridge) / (schedule.sigma(t) ** 2 * abar**0.5)
            x_s = schedule.sample_bridge(prior.denoise(x_t, t), x_t, 0, s, t, rng)
            x_t = x_s + self.scale * (1 - alpha) / alpha**0.5 * score
        return x_t
