from deepinv.optim import L2
from deepinv.sampling import DiffPIR

from benchmark_utils.deepinv_adapter import UnitRangeDenoiser, sample_one_by_one
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """DiffPIR as deepinv ships it, ``deepinv.sampling.DiffPIR``, for comparison with ``diffpir``.
    Method: "Denoising Diffusion Models for Plug-and-Play Image Restoration",
    Zhu, Zhang, Liang, Cao, Wen, Timofte and Van Gool, CVPR Workshops 2023, https://arxiv.org/abs/2305.08995
    Library: "DeepInverse", Tachella et al., https://deepinv.github.io

    Its rho has sigma_y on [0, 1] and sigma_t on [-1, 1], as the authors' code has: its ``lam`` acts like ``lam / 4`` in
    ``diffpir``. It starts from ``A^T y`` plus noise, clips the denoised image to the image range, spaces the levels by
    a square root in t (many at high noise), and returns its last noisy state instead of the denoised image.
    Here it runs on images in [0, 1], one image and draw at a time.
    """

    name = "deepinv_diffpir"
    parameters = {"n_steps": [None], "lam": [None], "zeta": [None]}
    test_config = {"n_steps": 3}
    needs = {"linear", "gaussian", "image"}
    steps_are_levels = False
    ranges = {"zeta": (0, 1)}
    PRESETS = {("*", "*"): {"n_steps": 100, "lam": 7.0, "zeta": 0.1}}  # the class's defaults

    def sample(self, problem, prior, rng):
        model = DiffPIR(
            UnitRangeDenoiser(prior),
            L2(),
            sigma=problem.noise.std / 2,
            max_iter=self.n_steps,
            zeta=self.zeta,
            lambda_=self.lam,
            device=rng.device,
        )
        return sample_one_by_one(model, problem, rng, self.progress)
