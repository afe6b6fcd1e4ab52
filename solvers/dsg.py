import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DSG: "Guidance with Spherical Gaussian Constraint for Conditional Diffusion",
    Yang, Ding, Cai, Yu, Wang and Shi, ICML 2024, https://arxiv.org/abs/2402.03201

    DPS whose step keeps the length of the noise. A DDPM step has mean mu, standard deviation s and noise z of
    n values; with ``g = grad_{x_t} ||y - A(D(x_t))||``, R = sqrt(n) s and d = s z it becomes
      d' = d + scale (-R g / ||g|| - d),    x = mu + R d' / ||d'||
    at every ``interval``-th step, counted from the last, which returns D. Norms are per image. sigma_y never
    enters: ``scale`` alone sets the strength, and what it does depends on n_steps and interval. D is not
    clipped (the code clips it to [-1, 1]).
    """

    name = "dsg"
    parameters = {"n_steps": [None], "interval": [None], "scale": [None]}
    test_config = {"n_steps": 3}
    needs = {"differentiable", "gaussian"}
    ranges = {"scale": (0, 1)}
    PRESETS = {  # table 3, 100 steps, FFHQ, sigma_y = .05; inpainting's for the tasks that it lacks
        ("*", "*"): {"n_steps": 100, "interval": 1, "scale": 0.2},
        ("*", "sr*"): {"interval": 2, "scale": 0.1},
        ("*", "gaussian_blur*"): {"scale": 0.1},
    }

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        x = rng.randn(*prior.event_shape)
        for i, (t, s) in enumerate(self.steps(schedule.grid(self.n_steps))):
            c_0, c_t, std = schedule.bridge(0, s, t)
            noise = std * rng.randn_like(x)
            if s == 0 or (self.n_steps - 1 - i) % self.interval:
                x = c_0 * prior.denoise(x, t) + c_t * x + noise
                continue
            with torch.enable_grad():
                x_t = x.requires_grad_()
                x_hat = prior.denoise(x_t, t)
                distance = problem.residual(x_hat).flatten(1).norm(dim=1)
                (gradient,) = torch.autograd.grad(distance.sum(), x_t)
            radius = std * noise[0].numel() ** 0.5
            towards_y = -radius * self.normalise(gradient)
            direction = noise + self.scale * (towards_y - noise)
            x = c_0 * x_hat.detach() + c_t * x_t.detach() + radius * self.normalise(direction)
        return x

    def normalise(self, v):
        """Each row of ``v`` (n, *event) divided by its norm; 0 stays 0."""
        norm = v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
        return v / norm.clamp(min=torch.finfo(v.dtype).tiny)
