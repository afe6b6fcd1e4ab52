"""Tasks are open: any strength, name and operator goes through the objective and the solvers; datasets are short."""

import math
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from deepinv.physics import Inpainting, LinearPhysics
from helpers import ROOT
from torch import nn

from benchmark_utils.noise import GaussianNoise
from benchmark_utils.operators.phase_retrieval import PhaseRetrieval
from benchmark_utils.priors import Prior
from benchmark_utils.problem import CAPABILITIES, capabilities, count_observed, group_of
from benchmark_utils.tasks import FFHQ, TASKS, ImageTask
from datasets.ffhq_deblurring import Dataset as Deblurring
from datasets.ffhq_hdr import Dataset as HDR
from datasets.ffhq_inpainting import Dataset as Inpainted
from datasets.ffhq_jpeg import Dataset as JPEG
from datasets.ffhq_phase_retrieval import Dataset as PhaseRetrieved
from datasets.ffhq_super_resolution import Dataset as SuperResolution
from datasets.slakh2100 import Dataset as Slakh
from objective import Objective
from solvers.ddrm import Solver as DDRM
from solvers.dps import Solver as DPS
from solvers.mgdm import Solver as MGDM

IMAGE_DATASETS = sorted(
    path.stem for path in Path(ROOT, "datasets").glob("*.py") if path.stem.startswith(("ffhq_", "imagenet_"))
)
SOLVERS = [DPS, MGDM, DDRM]
SMALL = {"prior": "faces64_mfa", "n_images": 1}


def objective_of(data, **parameters):
    """The objective with seed 0 after it has drawn y for a dataset's data."""
    objective = Objective.get_instance(**parameters)
    objective.get_seed = lambda **_: 0
    objective.set_data(**data)
    return objective


def rows_of(objective, Solver):
    """The objective's rows for a solver at its test configuration, or why it is skipped."""
    solver = Solver.get_instance(**{name: value for name, value in Solver.test_config.items() if name != "dataset"})
    skipped, reason = solver.skip(**objective.get_objective())
    if skipped:
        return reason
    solver.set_objective(**objective.get_objective())
    solver.run(None)
    return objective.evaluate_result(**solver.get_result())


@pytest.mark.parametrize("name", IMAGE_DATASETS)
def test_a_dataset_states_only_what_is_its_own(name):
    module = import_module(f"datasets.{name}")
    assert len(Path(module.__file__).read_text().splitlines()) <= 20
    own = {attribute for attribute in vars(module.Dataset) if not attribute.startswith("_")}
    assert own <= {"name", "task", "parameters", "test_config"}
    assert module.Dataset.name == name
    assert module.Dataset.task is TASKS[name.partition("_")[2]]


def test_benchopt_finds_the_parameters_of_the_shared_base():
    pattern = "imagenet_super_resolution[factor=[2,8],poisson_rate=0.05]"
    found = [dataset for dataset, _ in _list_parametrized_classes(*Benchmark(ROOT).check_dataset_patterns([pattern]))]
    assert [(dataset.factor, dataset.kind, dataset.prior, dataset.first, dataset.noise_std) for dataset in found] == [
        (factor, "average", "imagenet256", 0, 0.05) for factor in (2, 8)
    ]


NAMES = [
    *((Inpainted, {"mask": mask}, mask) for mask in ("box", "half", "random")),
    (Inpainted, {"mask": "random", "hidden": 0.7}, "random"),
    (Inpainted, {"mask": "random", "hidden": 0.55}, "random55"),
    *((SuperResolution, {"factor": factor}, f"sr{factor}") for factor in (2, 4, 8, 16)),
    (Deblurring, {"blur": "gaussian"}, "gaussian_blur"),
    (Deblurring, {"blur": "gaussian_reflect", "blur_std": 3.0}, "gaussian_blur"),
    (Deblurring, {"blur": "gaussian_reflect", "blur_std": 1.5}, "gaussian_blur1.5"),
    (Deblurring, {"blur": "motion"}, "motion_blur"),
    (JPEG, {}, "jpeg2"),
    (JPEG, {"quality": 10}, "jpeg10"),
    (HDR, {}, "hdr"),
]


@pytest.mark.parametrize("Dataset, parameters, name", NAMES)
def test_a_strength_other_than_the_preset_s_makes_its_own_name(Dataset, parameters, name):
    assert Dataset.get_instance(**SMALL, **parameters).get_data()["task"] == name


@pytest.mark.parametrize(
    "task, group",
    [
        ("sr8", "sr*"),
        ("jpeg10", "jpeg*"),
        ("random55", "random*"),
        ("gaussian_blur1.5", "gaussian_blur*"),
        ("hdr", "hdr*"),
    ],
)
def test_group_of_a_task(task, group):
    assert group_of(task) == group


def test_strengths_reach_the_operator():
    def operator(Dataset, **parameters):
        return Dataset.get_instance(**SMALL, **parameters).get_data()["operator"]

    x = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert operator(SuperResolution, factor=8).A(x).shape == (1, 3, 8, 8)
    assert operator(Inpainted, mask="random", hidden=0.25).mask.mean() == 0.75
    assert operator(JPEG, quality=10).quality == 10
    sharp, blurred = (operator(Deblurring, blur="gaussian", blur_std=std).A(x).std() for std in (1, 4))
    assert sharp > 1.5 * blurred


@pytest.mark.parametrize("Solver", SOLVERS)
@pytest.mark.parametrize(
    "Dataset, parameters",
    [(SuperResolution, {"factor": 2}), (SuperResolution, {"factor": 8}), (JPEG, {"quality": 10})],
)
def test_other_strengths_run(Dataset, parameters, Solver):
    objective = objective_of(Dataset.get_instance(**SMALL, **parameters).get_data())
    rows = rows_of(objective, Solver)
    if Dataset is JPEG and Solver is DDRM:
        assert rows == "ddrm needs svd, which jpeg10 with faces64_mfa has not"
    else:
        assert np.isfinite(rows[0]["lpips"])


class Mirror(LinearPhysics):
    """The image, turned over from left to right."""

    def A(self, x, **_):
        return x.flip(-1)

    def A_adjoint(self, y, **_):
        return y.flip(-1)


class Mirrored(FFHQ):
    """A task that the benchmark does not know."""

    name = "ffhq_mirrored"
    task = ImageTask(lambda shape, images: Mirror(img_size=shape), lambda: "looking_glass", noise_std=0.1)
    parameters = FFHQ.parameters | task.parameters


@pytest.mark.parametrize("name", ["dps", "mgdm", "sitcom"])
def test_a_made_up_task_runs(name):
    data = Mirrored.get_instance(**SMALL).get_data()
    objective = objective_of(data, n_samples=1)
    truth = data["x_true"].double()
    assert objective.problem.misfit(truth) == pytest.approx(torch.ones(1).double(), abs=0.1)
    (row,) = rows_of(objective, import_module(f"solvers.{name}").Solver)
    assert row["task"] == "looking_glass" and np.isfinite(row["psnr"])


def stored(data):
    objective = objective_of(data, n_samples=1)
    return objective.save_final_results(samples=data["x_true"][:, None])


@pytest.mark.parametrize(
    "dataset",
    [PhaseRetrieved.get_instance(**SMALL), Slakh.get_instance(chunk_length=8192, chunks=0)],
    ids=lambda dataset: dataset.name,
)
def test_the_name_of_a_task_decides_nothing_in_the_objective(dataset):
    data = dataset.get_data()
    found = [stored(data | {"task": task}) for task in (data["task"], "looking_glass")]
    assert found[0].keys() == found[1].keys() and np.array_equal(found[0]["truth"], found[1]["truth"])
    assert found[1]["observation"].shape == found[0]["observation"].shape
    # the noise of y belongs to the name, the scale of its picture does not
    assert abs(found[0]["observation"].mean() - found[1]["observation"].mean()) < 2


def test_tf32_is_refused_where_an_operator_has_convolutions():
    class Convolved(Mirror):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3)

    data = HDR.get_instance(n_images=1).get_data()
    objective = Objective.get_instance(precision="tf32")
    assert objective.skip(**data) == (False, None)
    assert objective.skip(**data | {"operator": Mirror()})[0]  # what another's operator does is not known
    skipped, reason = objective.skip(**data | {"operator": Convolved()})
    assert skipped and "convolutions of Convolved, if it has any" in reason


MASK = torch.ones(3, 64, 64)
MASK[:, :32] = 2.0
MASK[:, :, 40:] = 0.0
MASK[0, :, :8] = -0.5


def test_a_mask_may_have_any_values():
    """deepinv multiplies by the mask: where it is not 0, y is seen and has the noise of the model, no more."""
    data = HDR.get_instance(**SMALL).get_data() | {"operator": Inpainting(img_size=(3, 64, 64), mask=MASK)}
    problem = objective_of(data).problem
    assert problem.n_observed == 3 * 64 * 40
    misfit = float(problem.misfit(data["x_true"].double()))
    assert misfit == pytest.approx(1, abs=5 * (2 / problem.n_observed) ** 0.5)
    assert "linear" in problem.capabilities and not {"svd", "mask"} & problem.capabilities


def test_every_mask_counts_its_values_that_are_not_zero():
    operator = Inpainting(img_size=(3, 64, 64), mask=0.5 * (MASK != 0))
    assert count_observed(operator, torch.zeros(2, 3, 64, 64)) == 3 * 64 * 40
    found = capabilities(operator, GaussianNoise(0.05), Prior("faces64"))
    assert "svd" in found and "mask" not in found


def test_capabilities_are_names_of_one_set():
    problems = [(PhaseRetrieval(), Prior("faces64")), (Mirror(), Prior("faces64_latent"))]
    for operator, prior in problems:
        assert capabilities(operator, GaussianNoise(0.05), prior) <= CAPABILITIES.keys()


BAD_NUMBERS = [
    ("ffhq_hdr", {"noise_std": "abc"}, "ffhq_hdr: noise_std must be a number above 0, got 'abc'"),
    ("ffhq_hdr", {"noise_std": math.nan}, "ffhq_hdr: noise_std must be a number above 0, got nan"),
    ("ffhq_hdr", {"n_images": "2"}, "ffhq_hdr: n_images must be a whole number of 1 or more, got '2'"),
    ("ffhq_hdr", {"n_images": None}, "ffhq_hdr: n_images must be a whole number of 1 or more, got None"),
    ("ffhq_hdr", {"first": 1.5}, "ffhq_hdr: first must be a whole number of 0 or more, got 1.5"),
    ("ffhq_denoising", {"poisson_rate": "abc"}, "poisson_rate must be a number above 0, got 'abc'"),
    ("ffhq_denoising", {"noise_std": 0.1, "poisson_rate": 1}, "give noise_std or poisson_rate, not both"),
    ("gaussian", {"correlation": "half"}, "correlation must be a number in [0, 1), got 'half'"),
    ("ffhq_ct", {"angles": "abc"}, "ffhq_ct: angles must be a number above 0, got 'abc'"),
    ("image_folder", {"first": True}, "image_folder: first must be a whole number of 0 or more, got True"),
    ("image_folder", {"noise_std": "estimate"}, "image_folder: noise_std must be a number above 0, got 'estimate'"),
    ("measured", {"noise_std": "abc"}, "measured: noise_std must be a number above 0 or estimate, got 'abc'"),
    ("measured", {"n_samples": 0}, "measured: n_samples must be a whole number of 1 or more, got 0"),
    ("measured", {"n_samples": 2.5}, "measured: n_samples must be a whole number of 1 or more, got 2.5"),
    ("gaussian", {"n_problems": 0}, "gaussian: n_problems must be a whole number of 1 or more, got 0"),
    ("gaussian_latent", {"noise_std": "abc"}, "gaussian_latent: noise_std must be a number above 0, got 'abc'"),
    ("gaussian_mixture", {"dim": 2.5}, "gaussian_mixture: dim must be a whole number of 1 or more, got 2.5"),
    ("gaussian_mixture", {"noise_std": math.inf}, "gaussian_mixture: noise_std must be a number above 0, got inf"),
    ("labelled_mixture", {"weight": "abc"}, "labelled_mixture: weight must be a number of 0 or more, got 'abc'"),
    ("labelled_mixture", {"weight": -1}, "labelled_mixture: weight must be a number of 0 or more, got -1"),
    ("labelled_mixture", {"dim": "abc"}, "labelled_mixture: dim must be a whole number of 1 or more, got 'abc'"),
    ("labelled_mixture", {"label": True}, "unknown label True; prior labelled_mixture has the labels 0 to 4"),
    ("class_conditional", {"weight": -1}, "class_conditional: weight must be a number of 0 or more, got -1"),
    ("gaussian_mixture_nonlinear", {"dim": 2.5}, "dim must be a whole number of 1 or more, got 2.5"),
    ("digits", {"n_problems": 2.5}, "digits: n_problems must be a whole number of 1 or more, got 2.5"),
    ("slakh2100", {"sigma_max": "abc"}, "slakh2100: sigma_max must be a number above 0, got 'abc'"),
]


@pytest.mark.parametrize("name, parameters, message", BAD_NUMBERS)
def test_a_parameter_that_is_no_such_number_is_refused(name, parameters, message):
    Dataset = import_module(f"datasets.{name}").Dataset
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        Dataset.get_instance(**(Dataset.test_config or {}) | parameters).get_data()
