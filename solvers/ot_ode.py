import torch

from benchmark_utils.flow import denoise_flow, flow_sigma, flow_variance, flow_velocity
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """OT-ODE: "Training-free Linear Image Inverses via Flows",
    Pokle, Muckley, Chen and Karrer, TMLR 2024, https://arxiv.org/abs/2310.04432

    PiGDM in flow time (``benchmark_utils/flow.py``): with ``p(x_0 | x_tau) = N(D, r^2 I)``, ``r^2 = (1 -
    tau)^2 / (tau^2 + (1 - tau)^2)``, and J the Jacobian of D at x_tau,
      x += 1 / n_steps [v + (1 - tau) / tau weight J^T A^T (r^2 A A^T + sigma_y^2 I)^{-1} (y - A D)],
    v the velocity, from ``x = start A^T y + (1 - start) eps`` at the time ``start`` on. ``weight`` is 1
    ("constant") or ``sqrt(tau / (tau^2 + (1 - tau)^2))`` ("gamma_t"). For N(0, I) r^2 is the exact
    covariance, and the method is exact as start -> 0 and the steps grow; a later start forgets that x was
    built from y. The paper's own start is .2 for every task; the presets are those that the PnP-Flow
    benchmark chose on validation images. ``start n_steps`` is rounded, where that code truncates, and
    one step at least is made. The SVD replaces its GMRES.
    """

    name = "ot_ode"
    parameters = {"n_steps": [None], "start": [None], "weight": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    choices = {"weight": ("constant", "gamma_t")}
    ranges = {"start": (0, 0.9)}
    steps_are_levels = False
    PRESETS = {  # PnP-Flow's code
        ("*", "*"): {"n_steps": 100, "start": 0.1, "weight": "constant"},
        **{("*", task): {"weight": "gamma_t"} for task in ("box", "half")},
        ("*", "denoising"): {"start": 0.3, "weight": "gamma_t"},
        **{("*", task): {"start": 0.4, "weight": "gamma_t"} for task in ("gaussian_blur*", "motion_blur")},
    }

    def sample(self, problem, prior, rng):
        first = min(max(1, round(self.start * self.n_steps)), self.n_steps - 1)
        x = rng.randn(*prior.event_shape)
        x = first / self.n_steps * problem.operator.A_adjoint(problem.y) + (1 - first / self.n_steps) * x
        for i in self.progress(range(first, self.n_steps)):
            tau = i / self.n_steps
            r2, weight = flow_variance(tau), 1.0
            if self.weight == "gamma_t":
                weight = (tau / (tau**2 + (1 - tau) ** 2)) ** 0.5
            with torch.enable_grad():
                x_tau = x.requires_grad_()
                x_hat = denoise_flow(prior, x_tau, tau)
                direction = problem.correction(x_hat.detach(), problem.noise.std**2 / r2) / r2
                (guidance,) = torch.autograd.grad(x_hat, x_tau, direction)
            x, x_hat = x_tau.detach(), x_hat.detach()
            x = x + (flow_velocity(x, x_hat, tau) + flow_sigma(prior, tau) * weight * guidance) / self.n_steps
        return x
