import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DDPM guided by ``p(y | x_t) = N(y; A(D(x_t)), sigma^2 + 1 - abar_t)``: title, authors, venue, URL, eq. 7"""

    name = "my_sampler"
    parameters = {"n_steps": [None]}
    PRESETS = {("*", "*"): {"n_steps": 100}, ("ffhq", "sr4"): {"n_steps": 200}}
    needs = {"differentiable", "gaussian"}

    def sample(self, problem, prior, rng):
        x_t = rng.randn(*prior.event_shape)
        for t, s in self.steps(prior.schedule.grid(self.n_steps)):
            abar = prior.schedule.abar(t)
            with torch.enable_grad():
                x_t.requires_grad_()
                x_hat = prior.denoise(x_t, t)
                distance = problem.residual(x_hat).square().sum() / (problem.noise.std**2 + 1 - abar)
                (gradient,) = torch.autograd.grad(distance / 2, x_t)
            x_hat = x_hat - (1 - abar) / abar**0.5 * gradient
            x_t = prior.schedule.sample_bridge(x_hat.detach(), x_t.detach(), 0, s, t, rng)
        return x_t
