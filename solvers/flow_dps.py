import torch

from benchmark_utils.flow import denoise_flow, flow_velocity
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """FlowDPS: "FlowDPS: Flow-Driven Posterior Sampling for Inverse Problems",
    Kim, Kim and Ye, ICCV 2025, https://arxiv.org/abs/2503.08136

    In flow time (``benchmark_utils/flow.py``; the paper's s = 1 - tau is the part of noise). From each s to
    s':
      z_0 = D,  z_1 = E[eps | x] = z_0 - v;   w = z_0, then three times  w -= step grad_w ||P (y - A w)||
      w = (1 - s) z_0 + s w,    e = sqrt(s') z_1 + sqrt(1 - s') eps,    x = (1 - s') w + s' e
    on the grid ``s = 4 l / (1 + 3 l)``, l uniform from 1 to .003, then 0. ``project`` is P: "adjoint" A^T,
    "pseudo_inverse" A^+, of an A that is not linear 1. The weight s of the data vanishes and nothing knows
    sigma_y; without data the last line already does not keep the marginals. Norms are per image. ``step`` is
    published for the latents of Stable Diffusion 3 only, 15; 30 has the lowest LPIPS of .3, 1, 3, 10, 30 and
    100 on faces 8 to 19, on the half mask, sr4 and Gaussian blur. No text, and no guidance by it.
    """

    name = "flow_dps"
    parameters = {"n_steps": [None], "n_inner": [None], "step": [None], "project": [None]}
    test_config = {"n_steps": 3}
    needs = {"differentiable", "gaussian"}
    choices = {"project": ("adjoint", "pseudo_inverse")}
    steps_are_levels = False
    PRESETS = {
        ("*", "*"): {"n_steps": 28, "n_inner": 3, "step": 30.0, "project": "adjoint"},
        ("*", "sr*"): {"project": "pseudo_inverse"},  # released code
        ("gaussian", "*"): {"step": 1.0},  # ours, for a few values of size 1
        ("mixture", "*"): {"step": 1.0},
    }

    def sample(self, problem, prior, rng):
        uniform = torch.linspace(1, 0.003, self.n_steps, dtype=torch.float64).tolist()
        x = rng.randn(*prior.event_shape)
        for s, s_next in self.steps([*(4 * l / (1 + 3 * l) for l in uniform), 0.0]):
            x_hat = denoise_flow(prior, x, 1 - s)
            eps = x_hat - flow_velocity(x, x_hat, 1 - s)
            w = (1 - s) * x_hat + s * self.descend(problem, x_hat)
            fresh = s_next**0.5 * eps + (1 - s_next) ** 0.5 * rng.randn_like(x)
            x = (1 - s_next) * w + s_next * fresh
        return x

    def descend(self, problem, w):
        """``n_inner`` steps of w (n, *event) along the gradient of the residual's norm."""
        operator = problem.operator
        for _ in range(self.n_inner):
            with torch.enable_grad():
                w = w.detach().requires_grad_()
                residual = problem.residual(w)
                if "linear" in problem.capabilities:
                    project = operator.A_adjoint if self.project == "adjoint" else operator.A_dagger
                    residual = project(residual)
                (gradient,) = torch.autograd.grad(residual.flatten(1).norm(dim=1).sum(), w)
            w = w.detach() - self.step * gradient
        return w
