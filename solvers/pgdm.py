import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """PiGDM: "Pseudoinverse-Guided Diffusion Models for Inverse Problems",
    Song, Vahdat, Mardani and Kautz, ICLR 2023, https://openreview.net/forum?id=9_gsMA8MRKQ

    Algorithm 1: a DDIM(eta) step plus ``w g``, with ``p(x_0 | x_t)`` modelled as ``N(D(x_t), r_t^2 I)`` (eq. 6),
    ``r_t^2 = 1 - abar_t``, and the guidance of eq. 7, where J is the Jacobian of the denoiser D at x_t:
      g = J^T A^T (A A^T + sigma^2 / r_t^2 I)^{-1} (y - A D(x_t))
    ``weight`` is w: "paper" sqrt(abar_t); "reddiff" sqrt(abar_s abar_t), of the RED-diff code and the MGDM paper;
    "score" the one that makes g a gradient of log p(y | x_t) in the guided denoiser. The first two do not shrink
    with the length of the step, so that many steps guide too much; "score" is exact for a prior N(0, I). A step
    multiplies the error by about 1 - w J^2, and J reaches 1 / sqrt(abar_t) where the prior is wide: only "reddiff"
    keeps w J^2 near 1; in 100 steps the others diverge under a wide Gaussian or faces64_mfa. Hence the default.
    JPEG is its own decoder, hence ``A^+ A D`` is the decoded image (section 3.2) and ``g = J^T (y - A(D(x_t)))``.
    """

    name = "pgdm"
    parameters = {"n_steps": [None], "eta": [None], "weight": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    choices = {"weight": ("paper", "reddiff", "score")}
    ranges = {"eta": (0, 1)}
    PRESETS = {
        ("*", "*"): {"n_steps": 100, "eta": 1.0, "weight": "reddiff"},  # steps and eta of the paper, section 4
        ("*", "jpeg*"): {"weight": "paper"},  # MGDM paper, section B.4
        ("audio", "*"): {"n_steps": 1000},  # MGDM paper, section B.4
    }

    def skip(self, problem, prior, **_):
        return (False, None) if "idempotent" in problem.capabilities else super().skip(problem, prior)

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        x = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            with torch.enable_grad():
                x_t = x.requires_grad_()
                x_hat = prior.denoise(x_t, t)
                direction = self.direction(problem, x_hat.detach(), 1 - schedule.abar(t))
                (guidance,) = torch.autograd.grad(x_hat, x_t, direction)
            x_t, x_hat = x_t.detach(), x_hat.detach()
            x = schedule.sample_bridge(x_hat, x_t, 0, s, t, rng, self.eta)
            x = x + self.guidance_weight(schedule, s, t) * guidance
        return x

    def direction(self, problem, x_hat, r2):
        """``A^T (A A^T + sigma^2 / r^2 I)^{-1} (y - A x_hat)``, (n, *event)."""
        if "idempotent" in problem.capabilities:
            return problem.residual(x_hat)
        return problem.correction(x_hat, problem.noise.std**2 / r2)

    def guidance_weight(self, schedule, s, t):
        if self.weight == "paper":
            return schedule.abar(t) ** 0.5
        if self.weight == "reddiff":
            return (schedule.abar(s) * schedule.abar(t)) ** 0.5
        c_0, _, _ = schedule.bridge(0, s, t, self.eta)
        return c_0 / schedule.abar(t) ** 0.5
