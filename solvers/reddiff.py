import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """RED-diff: "A Variational Perspective on Solving Inverse Problems with Diffusion Models",
    Mardani, Song, Kautz and Vahdat, ICLR 2024, https://arxiv.org/abs/2305.04391

    Algorithm 1: one Adam step on the image mu at each level, from T down, for the loss
      1/2 mean_j (y - A(mu))_j^2 + w_t mean_i (eps(x_t) - z)_i mu_i,   x_t = sqrt(abar_t) mu + sqrt(1 - abar_t) z
    with the noise difference held fixed and ``w_t = grad_term_weight sqrt((1 - abar_t) / abar_t)``. The means run
    over the observed values and over the values of the image, as in the released code, so that their balance
    depends on the task. mu starts at ``V s / (s^2 + sigma_y^2) U^T y`` where A has an SVD (``A^+ y`` in the
    paper, which a wide blur turns into amplified noise), else at the operator's own ``first_guess`` (y for blurs and
    JPEG, y / 2 for HDR), else at noise. The result is one point, a minimiser, rather than a draw of the posterior.
    ``learning_rate`` is Adam's, whose betas are (0.9, 0.99).
    """

    name = "reddiff"
    parameters = {"n_steps": [None], "learning_rate": [None], "grad_term_weight": [None]}
    test_config = {"n_steps": 3}
    needs = {"differentiable", "gaussian"}
    # released configuration, which the MGDM paper keeps for all its tasks
    PRESETS = {("*", "*"): {"n_steps": 1000, "learning_rate": 0.1, "grad_term_weight": 0.25}}

    def sample(self, problem, prior, rng):
        schedule, shape = prior.schedule, prior.event_shape
        mu = self.start(problem, rng, shape).clone().requires_grad_()
        optimiser = torch.optim.Adam([mu], lr=self.learning_rate, betas=(0.9, 0.99))
        for t in self.progress(schedule.grid(self.n_steps)[:-1]):
            alpha, std = schedule.abar(t) ** 0.5, (1 - schedule.abar(t)) ** 0.5
            z = rng.randn(*shape)
            x_t = alpha * mu + std * z
            eps = (x_t - alpha * prior.denoise(x_t, t)) / std
            with torch.enable_grad():
                data_term = (problem.residual(mu).square().flatten(1).sum(1) / (2 * problem.n_observed)).sum()
            (gradient,) = torch.autograd.grad(data_term, mu)
            weight = self.grad_term_weight * schedule.sigma(t)
            mu.grad = gradient + weight * (eps - z) / mu[0].numel()
            optimiser.step()
        return mu.detach()

    def start(self, problem, rng, shape):
        if "svd" in problem.capabilities:
            return problem.correction(problem.y.new_zeros(len(problem.y), *shape), problem.noise.std**2)
        if hasattr(problem.operator, "first_guess"):
            return problem.operator.first_guess(problem.y)
        return rng.randn(*shape)
