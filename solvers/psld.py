import torch

from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """PSLD: "Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models",
    Rout, Raoof, Daras, Caramanis, Dimakis and Shakkottai, NeurIPS 2023, https://arxiv.org/abs/2307.00619

    Algorithm 2, for linear A: a DDIM step of the latent (``eta`` = 0, 1 is DDPM), then, with z_0 = D(z_t),
      z_{t-1} -= grad_{z_t} ( omega ||y - A Dec(z_0)|| + gamma ||z_0 - Enc(A* y + (I - A* A) Dec(z_0))|| ).
    The second term glues z_0 to the latent of its image with y put in. Norms as in the released code, per image (the
    paper squares them). ``backward`` is A*: ``"adjoint"`` is the paper's transpose; where A A^T is not the identity
    (averaging, blurs) that puts in a multiple of y, and ``"pinv"``, the pseudo-inverse, puts in y itself. The released
    code adds new noise to the prediction in the first norm, which is left out.
    """

    name = "psld"
    parameters = {"n_steps": [None], "omega": [None], "gamma": [None], "eta": [None], "backward": [None]}
    test_config = {"n_steps": 3, "dataset": {"name": "gaussian_latent"}}
    needs = {"differentiable", "gaussian", "latent", "linear_operator"}
    choices = {"backward": ("adjoint", "pinv")}
    ranges = {"eta": (0, 1)}
    # steps and weights of the MGDM paper's comparison, which are those of PSLD's scripts for FFHQ
    PRESETS = {
        ("*", "*"): {"n_steps": 1000, "omega": 0.1, "gamma": 0.1, "eta": 0.0, "backward": "adjoint"},
        ("*", "sr*"): {"omega": 0.9, "backward": "pinv"},
    }

    def sample(self, problem, prior, rng):
        pixel, schedule = problem.pixel, prior.schedule
        put_back = pixel.operator.A_adjoint if self.backward == "adjoint" else pixel.operator.A_dagger
        z = rng.randn(*prior.event_shape)
        for t, s in self.steps(schedule.grid(self.n_steps)):
            with torch.enable_grad():
                z_t = z.requires_grad_()
                z_0 = prior.denoise(z_t, t)
                x_0 = prior.decode(z_0)
                residual = pixel.residual(x_0)
                glued = prior.encode(x_0 + put_back(residual))
                distance = self.omega * row_norms(residual) + self.gamma * row_norms(z_0 - glued)
                (gradient,) = torch.autograd.grad(distance.sum(), z_t)
            z = schedule.sample_bridge(z_0.detach(), z_t.detach(), 0, s, t, rng, self.eta) - gradient
        return z


def row_norms(x):
    return x.flatten(1).norm(dim=1)
