import torch

from benchmark_utils.files.weights import read_safetensors
from benchmark_utils.priors.ecg_gaussian import STATIONARY
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    """Baseline: linear regression of the nine leads on those that are seen, instant by instant.

    With the covariance R of the leads at one instant, of PTB-XL's training records, and the mask M of that instant
      x = R M (M R M + sigma^2 I)^-1 y
    which is the posterior mean of a Gaussian that knows nothing of time: zero where no lead is seen.
    """

    name = "regression"
    test_config = {"dataset": {"name": "ptbxl"}}
    needs = {"leads", "gaussian", "unit_variance"}

    def sample(self, problem, prior, rng):
        covariance = read_safetensors(STATIONARY.find())["covariance"][..., 0].to(problem.y)
        seen = torch.diag_embed(problem.operator.mask.mT.to(problem.y))  # (n, time, leads, leads)
        noise = problem.noise.std**2 * torch.eye(len(covariance), dtype=seen.dtype, device=seen.device)
        weights = torch.linalg.solve(seen @ covariance @ seen + noise, problem.y.mT[..., None])
        return (covariance @ seen @ weights)[..., 0].mT
