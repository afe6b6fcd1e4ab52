"""On the embedded network (float32) an image's scores do not depend on the batch, for every file of ``solvers/``.

Convolutions round differently for other batch sizes and optimisers amplify that, so the bound is on the scores:
0.1 dB PSNR and 0.005 LPIPS per image.
"""

from importlib import import_module

import pytest
import torch
from helpers import draw, read_thumbnails
from test_invariance import SOLVERS

from benchmark_utils.metrics import lpips_score, psnr_score
from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.inpainting import inpainting
from benchmark_utils.priors import Prior
from benchmark_utils.problem import InverseProblem, capabilities, count_observed
from benchmark_utils.rng import RNG

PRIOR, LATENT = Prior("faces64"), Prior("faces64_latent")
IN_LATENT_SPACE = ("mgdm", "dps", "daps", "pnp_dm", "psld", "resample")


@pytest.fixture(scope="module")
def half_faces():
    """Four half-hidden faces: (truth, {prior: problem})."""
    truth = read_thumbnails(4)
    operator, noise, images = inpainting("half", (3, 64, 64)).double(), GaussianNoise(0.05), (0, 1, 2, 3)
    stream = RNG(0, "measurement", "half", images, dtype=torch.float64)
    y = noise.sample(operator.A(truth.double()), stream) * operator.mask
    found = {prior: capabilities(operator, noise, prior) for prior in (PRIOR, LATENT)}
    fixed = operator, noise, y, "half", count_observed(operator, y), images
    return truth, {prior: InverseProblem(*fixed, capabilities=found[prior]) for prior in found}


@pytest.mark.parametrize(
    "name, prior", [(name, PRIOR) for name in SOLVERS] + [(name, LATENT) for name in IN_LATENT_SPACE]
)
def test_scores_do_not_depend_on_the_batch(name, prior, half_faces):
    truth, problem = half_faces[0], half_faces[1][prior]
    Solver = import_module(f"solvers.{name}").Solver
    skipped, reason = Solver.get_instance(**(Solver.test_config or {})).skip(problem=problem, prior=prior)
    if skipped:
        pytest.skip(reason)

    def scores(batch_size):
        samples = draw(Solver, problem, prior, 1, batch_size=batch_size, **(Solver.test_config or {}))
        pairs = list(zip(samples, truth, strict=True))
        return [torch.cat([score(x, y) for x, y in pairs]) for score in (psnr_score, lpips_score)]

    psnr, lpips = scores(4)
    for batch_size in (1, 2):
        other_psnr, other_lpips = scores(batch_size)
        torch.testing.assert_close(other_psnr, psnr, rtol=0, atol=0.1)
        torch.testing.assert_close(other_lpips, lpips, rtol=0, atol=0.005)
