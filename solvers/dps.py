import torch

from benchmark_utils.adam import AdamMoments
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DPS: "Diffusion Posterior Sampling for General Noisy Inverse Problems",
    Chung, Kim, McCann, Klasky and Ye, ICLR 2023, https://arxiv.org/abs/2209.14687

    Algorithm 1: a DDPM step, then ``x_{t-1} -= zeta grad_{x_t} ||y - A(D(x_t))||``. The norm is taken per image
    (public codes take it over the batch). ``zeta`` follows the released code, which scales the gradient of the
    norm; the paper writes the gradient of the squared norm over the norm, which is twice as long, so its step
    sizes are doubled here. The small DDPM variance is used, and the denoiser is not clipped.
    For photon counts k of mean mu the paper's Gaussian approximation (eq. 19) has the gradient of
    ``sum (k - mu)^2 / (2 k)``, k at least 1 in the divisor, over ``||k - mu||``, halved here as above. The released
    code has the gradient of the mean of ``||k - mu|| / k`` instead.
    ``preset="adam"`` is AdamDPS (Belardi et al., ICLR 2026, https://arxiv.org/abs/2603.16797): with ``adam`` =
    (rho, beta1, beta2) the step is ``rho sqrt(abar_s / abar_t)`` along Adam's normalised gradient. Settings are that
    paper's for cats at 256 px, 100 steps and a y without noise; its D is clipped in the DDPM step, here it is not. Its
    settings for ImageNet are not here.
    """

    name = "dps"
    parameters = {"n_steps": [None], "zeta": [None], "adam": [None], "preset": [None]}
    test_config = {"n_steps": 3}
    needs = {"differentiable"}
    choices = {"adam": ("off", float)}
    # step sizes of the MGDM paper's DPS (its section B.4, paper form: doubled), else of DPS's configurations
    PRESETS = {
        ("*", "*"): {"n_steps": 1000, "zeta": 0.3, "adam": "off", "preset": None},
        **{("*", task): {"zeta": 2.0} for task in ("box", "half", "sr*")},
        ("*", "random*"): {"zeta": 0.5},
        ("*", "gaussian_blur*"): {"zeta": 0.6},
        ("*", "motion_blur"): {"zeta": 0.6},
        ("*", "phase_retrieval"): {"zeta": 0.8},
        ("*", "nonlinear_blur"): {"zeta": 0.2},
        ("*", "hdr"): {"zeta": 0.14},
        ("*", "jpeg*"): {"zeta": 0.4},
        ("mixture", "*"): {"n_steps": 1000, "zeta": 1.0},
        # in latent space: the sum of PSLD's two weights
        ("ffhq_latent", "*"): {"zeta": 0.2},
        ("ffhq_latent", "sr*"): {"zeta": 1.0},
        ("audio", "*"): {"zeta": 2.0},
        # zeta of the masks of images; the gamma .5 of the ECG follow-up of MGPS has an unknown convention
        ("ecg", "*"): {"n_steps": 200, "zeta": 2.0},
        # the best of its authors' 150 trials; the random mask's, of 90 %, for the tasks that they lack
        ("adam", "*"): {"n_steps": 100, "adam": (0.037, 0.68, 0.71)},
        ("adam", "sr*"): {"adam": (0.028, 0.14, 0.03)},
        ("adam", "sr16"): {"adam": (0.018, 0.20, 0.53)},
        ("adam", "gaussian_blur*"): {"adam": (0.062, 0.70, 0.76)},
    }

    def sample(self, problem, prior, rng):
        schedule = prior.schedule
        if self.adam != "off":
            rho, *betas = self.adam
            normalise = AdamMoments(*betas)
        x = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            with torch.enable_grad():
                x_t = x.requires_grad_()
                x_hat = prior.denoise(x_t, t)
                (gradient,) = torch.autograd.grad(self.distance(problem, x_hat).sum(), x_t)
            x_t, x_hat = x_t.detach(), x_hat.detach()
            x = schedule.sample_bridge(x_hat, x_t, 0, s, t, rng)
            if self.adam == "off":
                x = x - self.zeta * gradient
            else:
                x = x - rho * (schedule.abar(s) / schedule.abar(t)) ** 0.5 * normalise(gradient)
        return x

    def distance(self, problem, x_hat):
        """What a step descends, one number per row."""
        residual = problem.residual(x_hat).flatten(1)
        if "gaussian" in problem.capabilities:
            return residual.norm(dim=1)
        residual, k = problem.noise.gain * residual, problem.noise.counts(problem.y).flatten(1)
        squared = (residual.square() / (2 * k.clamp(min=1))).sum(1)
        return squared / (2 * residual.detach().norm(dim=1))
