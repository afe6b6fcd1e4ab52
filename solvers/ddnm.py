import torch

from benchmark_utils.sampler import PosteriorSampler
from benchmark_utils.schedule import time_travel


class Solver(PosteriorSampler):
    """DDNM+: "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
    Wang, Yu and Zhang, ICLR 2023, https://arxiv.org/abs/2212.00490

    The noisy form (eq. 17 to 19 and appendix I) in the spectral coordinates of ``A = U diag(s) V^T``: the
    range-space part of the denoised image moves towards ``y / s`` as far as the noise of y allows, and only the
    noise that y does not already carry is added. ``travel_length`` and ``travel_repeat`` are the time travel of
    algorithm 2 (1 and 1: none), as in the released code: the first steps are not redone, and the denoised image is
    noised back, where the paper noises the state.
    """

    name = "ddnm"
    parameters = {"n_steps": [None], "eta": [None], "travel_length": [None], "travel_repeat": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    ranges = {"eta": (0, 1)}
    PRESETS = {
        ("*", "*"): {"n_steps": 100, "eta": 0.85, "travel_length": 1, "travel_repeat": 1},  # released code
        ("audio", "*"): {"n_steps": 1000},  # MGDM paper, section B.4
    }

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        x = x_hat = rng.randn(*prior.event_shape)
        for t, s in self.progress(time_travel(schedule.grid(self.n_steps), self.travel_length, self.travel_repeat)):
            if s > t:
                x = schedule.sample_forward(x_hat, 0, s, rng)
            else:
                x_hat = prior.denoise(x, t)
                x = self.step(problem, schedule, rng, x_hat, x, t, s)
        return x

    def step(self, problem, schedule, rng, x_hat, x_t, t, s):
        operator, abar = problem.operator, schedule.abar
        std = (1 - abar(s)) ** 0.5
        eps = (x_t - abar(t) ** 0.5 * x_hat) / (1 - abar(t)) ** 0.5
        spectrum = operator.V_adjoint(x_hat)
        singular = operator.mask.expand_as(spectrum)
        seen = singular > 0
        # standard deviation that y / s has in the coordinates of x_s; infinite where y says nothing
        y_std = torch.where(seen, abar(s) ** 0.5 * problem.noise.std / singular.clamp(min=1e-12), torch.inf)
        raw = rng.randn_like(spectrum)
        free = self.eta * raw + (1 - self.eta**2) ** 0.5 * operator.V_adjoint(eps)
        pull = torch.where(std >= y_std, 1.0, std * (1 - self.eta**2) ** 0.5 / y_std)
        innovation = operator.U_adjoint(problem.y) - singular * spectrum
        corrected = spectrum + torch.where(seen, pull * innovation / singular.clamp(min=1e-12), 0.0)
        carried = torch.where(std >= y_std, (std**2 - y_std**2).clamp(min=0).sqrt(), self.eta * std) * raw
        added = torch.where(seen, carried, std * free)
        return operator.V(abar(s) ** 0.5 * corrected + added)
