import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DDRM: "Denoising Diffusion Restoration Models",
    Kawar, Elad, Ermon and Song, NeurIPS 2022, https://arxiv.org/abs/2201.11793

    Eq. 7 and 8 in the spectral coordinates of ``A = U diag(s_i) V^T`` and the variance-exploding variable
    ``x_t / sqrt(abar_t)``, with y_bar = U^T y / s and y_bar's noise level sigma_y / s. ``eta`` is the part of the
    noise of a level that is fresh (a fraction of sigma_s, not of DDPM's), ``eta_b`` the weight of y_bar where it
    is cleaner than the level. The paper takes sigma_y on [0, 1] and doubles it; here it is on [-1, 1] throughout.
    With ``eta_b = 1`` this is DDNM+ without time travel.
    """

    name = "ddrm"
    parameters = {"n_steps": [None], "eta": [None], "eta_b": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    ranges = {"eta": (0, 1), "eta_b": (0, 1)}
    PRESETS = {("*", "*"): {"n_steps": 20, "eta": 0.85, "eta_b": 1.0}}  # paper, section 5, every task

    def sample(self, problem, prior, rng):
        schedule, operator = prior.schedule, problem.operator
        levels = schedule.grid(self.n_steps)
        y_spectrum = operator.U_adjoint(problem.y)
        singular = operator.mask.expand_as(y_spectrum)
        seen, divisor = singular > 0, singular.clamp(min=1e-12)
        y_bar = torch.where(seen, y_spectrum / divisor, 0.0)
        y_std = torch.where(seen, problem.noise.std / divisor, torch.inf)

        sigma = schedule.sigma(levels[0])
        cleaner = y_std < sigma
        std = torch.where(cleaner, (sigma**2 - y_std**2).clamp(min=0).sqrt(), sigma)
        x_bar = torch.where(cleaner, y_bar, 0.0) + std * rng.randn_like(y_spectrum)
        for t, s in self.steps(levels):
            x_hat = operator.V_adjoint(prior.denoise(schedule.abar(t) ** 0.5 * operator.V(x_bar), t))
            sigma = schedule.sigma(s)
            kept = (1 - self.eta**2) ** 0.5 * sigma
            unseen_mean = x_hat + kept * (x_bar - x_hat) / schedule.sigma(t)
            noisier_mean = x_hat + kept * (y_bar - x_hat) / y_std
            cleaner_mean = (1 - self.eta_b) * x_hat + self.eta_b * y_bar
            cleaner = y_std <= sigma
            mean = torch.where(seen, torch.where(cleaner, cleaner_mean, noisier_mean), unseen_mean)
            std = torch.where(cleaner, (sigma**2 - (self.eta_b * y_std) ** 2).clamp(min=0).sqrt(), self.eta * sigma)
            x_bar = mean + std * rng.randn_like(y_spectrum)
        return operator.V(x_bar)
