import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """SITCOM: "SITCOM: Step-wise Triple-Consistent Diffusion Sampling for Inverse Problems",
    Alkhouri, Liang, Huang, Dai, Qu, Ravishankar and Wang, ICML 2025, https://arxiv.org/abs/2410.04479

    Algorithm 1: at each of ``n_steps`` levels the denoiser D is evaluated at most ``n_inner`` times, at an input v that
    Adam moves in between, from v = x_t, for the loss
      ||y - A(D(v))||^2 + regularisation ||v - x_t||^2
    then ``x_s = sqrt(abar_s) D(v) + sqrt(1 - abar_s) z`` with the last D(v), which has seen ``n_inner - 1`` Adam steps,
    as in the released code. It is clipped to [-1, 1] where the signals are images, in the loss too. An image's steps
    stop when its squared residual is below ``(sigma_y + 0.001)^2 m``, whatever the other images do, and it is then left
    out of the denoiser's batch. The result is the last D(v); the released scripts keep, of all iterates, the one
    nearest to the true image, and have ``regularisation = 0``.
    """

    name = "sitcom"
    parameters = {"n_steps": [None], "n_inner": [None], "learning_rate": [None], "regularisation": [None]}
    test_config = {"n_steps": 3, "n_inner": 2}
    needs = {"differentiable", "gaussian"}
    PRESETS = {
        # paper, section 5; regularisation of the released code
        ("*", "*"): {"n_steps": 20, "n_inner": 20, "learning_rate": 0.01, "regularisation": 0.0},
        ("ecg", "*"): {"learning_rate": 0.02},  # values twice as large as images'
        ("mixture", "*"): {"learning_rate": 0.2},  # chosen here, out of 0.01, 0.05 and 0.2, for values up to 16
    }

    def sample(self, problem, prior, rng):
        abar, levels = prior.schedule.abar, prior.schedule.grid(self.n_steps)
        x_t = rng.randn(*prior.event_shape)
        for t, s in self.steps(levels):
            x_hat = self.consistent_estimate(problem, prior, x_t, t)
            x_t = abar(s) ** 0.5 * x_hat + (1 - abar(s)) ** 0.5 * rng.randn(*prior.event_shape)
        return x_hat

    def consistent_estimate(self, problem, prior, x_t, t):
        """The last D(v), (n, *event). Adam is written out, because each row leaves it at its own time."""
        bound = 1.0 if "image" in problem.capabilities and "latent" not in problem.capabilities else torch.inf
        open_rows = torch.arange(len(x_t), device=x_t.device)
        v, x_hat = x_t.clone(), torch.empty_like(x_t)
        momentum, scale = torch.zeros_like(x_t), torch.zeros_like(x_t)
        for k in range(1, self.n_inner + 1):
            with torch.enable_grad():
                v_open = v[open_rows].requires_grad_()
                x_hat_open = prior.denoise(v_open, t).clamp(-bound, bound)
                open_problem = problem.rows(open_rows.tolist())
                misfit = open_problem.residual(x_hat_open).square().flatten(1).sum(1)
                loss = misfit.sum() + self.regularisation * (v_open - x_t[open_rows]).square().sum()
            x_hat[open_rows] = x_hat_open.detach()
            unmet = misfit.detach() > (problem.noise.std + 0.001) ** 2 * open_problem.n_observed
            open_rows = open_rows[unmet]
            if k == self.n_inner or not len(open_rows):
                return x_hat
            gradient = torch.autograd.grad(loss, v_open)[0][unmet]
            momentum[open_rows] = 0.9 * momentum[open_rows] + 0.1 * gradient
            scale[open_rows] = 0.999 * scale[open_rows] + 0.001 * gradient.square()
            step = momentum[open_rows] / (1 - 0.9**k) / ((scale[open_rows] / (1 - 0.999**k)).sqrt() + 1e-8)
            v[open_rows] -= self.learning_rate * step
