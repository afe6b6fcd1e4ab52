import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """MPGD: "Manifold Preserving Guided Diffusion",
    He, Murata, Lai, Takida, Uesaka, Kim, Liao, Mitsufuji, Kolter, Salakhutdinov and Ermon, ICLR 2024,
    https://arxiv.org/abs/2311.16424

    Algorithm 1, without the autoencoder that projects on the manifold: a DDIM(eta) step, whose noise is that of the
    denoised image x_hat as it was, minus
      ``form="code"``     scale grad_{x_hat} ||y - A(x_hat)||
      ``form="paper"``    scale sqrt(abar_s / abar_t) grad_{x_hat} ||y - A(x_hat)||
    The second moves x_hat by ``scale / sqrt(abar_t)``. No gradient passes through the denoiser. The norm is taken per
    image, and x_hat is not clipped. A step has the same length for every residual: ``scale`` has the units of the norm
    of an image.
    """

    name = "mpgd"
    parameters = {"n_steps": [None], "scale": [None], "eta": [None], "form": [None]}
    test_config = {"n_steps": 3}
    needs = {"differentiable", "gaussian"}
    choices = {"form": ("code", "paper")}
    ranges = {"eta": (0, 1)}
    PRESETS = {
        ("*", "*"): {"n_steps": 100, "scale": 4.0, "eta": 0.5, "form": "code"},  # released: FFHQ, sr4, no projection
        ("*", "gaussian_blur*"): {"scale": 10.0},  # released code
        ("mixture", "*"): {"scale": 1.0, "form": "paper"},  # chosen here, out of 0.1, 0.5, 1 and 4
        ("gaussian", "*"): {"scale": 0.1, "form": "paper"},  # chosen here, for a few values of size 1
    }

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        x_t = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            x_hat = prior.denoise(x_t, t)
            with torch.enable_grad():
                x_hat.requires_grad_()
                distance = problem.residual(x_hat).flatten(1).norm(dim=1)
                (gradient,) = torch.autograd.grad(distance.sum(), x_hat)
            x_hat = x_hat.detach()
            x_s = schedule.sample_bridge(x_hat, x_t, 0, s, t, rng, self.eta)
            ratio = 1.0 if self.form == "code" else (schedule.abar(s) / schedule.abar(t)) ** 0.5
            x_t = x_s - ratio * self.scale * gradient
        return x_t
