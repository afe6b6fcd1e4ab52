import torch
from deepinv.sampling import EDMDiffusionSDE, PiGDMDataFidelity, PosteriorDiffusion

from benchmark_utils.deepinv_adapter import RowNoiseSolver, SignalDenoiser, with_noise_level
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """PiGDM as deepinv ships it, ``deepinv.sampling.PiGDMDataFidelity``, for comparison with ``pgdm[weight=score]``.
    Method: "Pseudoinverse-Guided Diffusion Models for Inverse Problems",
    Song, Vahdat, Mardani and Kautz, ICLR 2023, https://openreview.net/forum?id=9_gsMA8MRKQ
    Library: "DeepInverse", Tachella et al., https://deepinv.github.io

    deepinv adds the gradient of ``log N(y; A D, r_t^2 A A^T + sigma_y^2 I)`` to the score in its
    ``PosteriorDiffusion``, where the paper adds a multiple to the state: so it is ``weight="score"`` of
    ``pgdm``, on the same levels and with the same noise, up to the rounding of the state to float32 that
    deepinv makes. Its ``AncestralSolver`` is DDIM(eta). Images stay on [-1, 1], and all rows run at once.
    """

    name = "deepinv_pgdm"
    parameters = {"n_steps": [None], "eta": [None]}
    test_config = {"n_steps": 3}
    needs = {"svd", "gaussian"}
    ranges = {"eta": (0, 1)}
    PRESETS = {("*", "*"): {"n_steps": 100, "eta": 1.0}}  # the paper's, section 4

    def sample(self, problem, prior, rng):
        levels = torch.tensor(prior.schedule.grid(self.n_steps), dtype=torch.float64, device=rng.device)
        options = {"dtype": prior.dtype, "device": rng.device}
        sde = EDMDiffusionSDE(lambda t: prior.schedule.sigma(t.long()), variance_preserving=True, **options)
        solver = RowNoiseSolver(rng, levels, self.eta)
        model = PosteriorDiffusion(
            PiGDMDataFidelity(), SignalDenoiser(prior), sde, solver, minus_one_one=False, **options
        )
        start = rng.randn(*prior.event_shape)
        return model(problem.y, with_noise_level(problem), x_init=start, denoise_output=False)
