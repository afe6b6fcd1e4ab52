from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Baseline that ignores y: a draw from the prior by DDPM,
    "Denoising Diffusion Probabilistic Models", Ho, Jain and Abbeel, NeurIPS 2020, https://arxiv.org/abs/2006.11239

    Algorithm 2 with the smaller of the two variances, ``x_{t-1} ~ q(x_{t-1} | x_t, x_0 = D(x_t))`` (eq. 7), on
    ``n_steps`` levels. What a solver gains over this row is what it took from y.
    """

    name = "prior_sample"
    parameters = {"n_steps": [None]}
    test_config = {"n_steps": 3}
    PRESETS = {("*", "*"): {"n_steps": 1000}}  # paper, section 4

    def sample(self, problem, prior, rng):
        x = rng.randn(*prior.event_shape)
        for t, s in self.steps(prior.schedule.grid(self.n_steps)):
            x = prior.schedule.sample_bridge(prior.denoise(x, t), x, 0, s, t, rng)
        return x
