"""The protocol that every solver of the benchmark meets.

Data contract: what a dataset returns
-------------------------------------
x_true : tensor (n, *signal), values in [-1, 1] for images; or instead of it
y : tensor (n, *measurement), measurements whose truth nobody has, hidden entries of a mask with any values: the rows
    have no score that needs the truth, so ``metrics`` name none
operator : deepinv.physics.Physics acting on (n, *signal); if it has a method ``measure``, that one makes the data
    and ``A`` is the forward map of the likelihood (JPEG); if it has ``picture(y, noise)``, that one is shown
noise : noise model (``benchmark_utils.noise``)
task : str, any name; with the prior's family it selects the solvers' presets
prior : Prior handle (``benchmark_utils.priors``), nothing loaded
metrics : names from ``benchmark_utils.metrics.METRICS``, headline first
images : tuple of n image numbers; an image's number seeds its measurement and its samples
files : tuple of n names to show
n_samples : posterior samples drawn per image unless the objective's ``n_samples`` says otherwise
groups : tuple of lists of rows of x_true, or absent: rows that are scored together, joined along their last axis (the
    chunks of a track); then ``files`` has one name per group
unit : what such rows are, ``"images"`` if absent
A dataset that lacks its files or weights returns ``{"missing": what to do}`` instead and is skipped.

What a solver gets, and returns
-------------------------------
problem : InverseProblem with one row per image; prior : the handle; n_samples; seed; batch_size.
It returns ``samples`` (n_images, n_samples, *signal) on the CPU, ``nfe``, ``vjp``, ``seconds_per_image``,
``peak_memory_gb``, ``ess`` (one number per image, NaN for methods without particles) and ``provenance`` (commit,
versions, device, weights, settings: texts that each row carries). It never sees x_true.
A reference that needs x_true also returns ``oracle``, a function ``(samples, x_true) -> samples`` of tensors of one
shape, which is applied here; its rows say so in the column ``oracle``, and the tables by it.

What is scored
--------------
One row per image (per group); definitions in ``benchmark_utils.metrics.METRICS``. With several samples per image the
scores are means over them, and ``benchmark_utils.calibration`` adds how they spread around the truth. ``diverged`` is
above 0 where a sample left the range of the prior's signals. Of electrocardiograms the entries that y hides are scored,
all of them where it hides none.
"""

import math
from dataclasses import replace

import torch
from benchopt import BaseObjective
from deepinv.physics import Denoising, Inpainting
from torch.nn import Conv2d

from benchmark_utils.attempts import RecordsAttempts, forget_attempt
from benchmark_utils.calibration import calibration_scores, exact_scores
from benchmark_utils.files.paths import files_state
from benchmark_utils.label_scores import tilted_scores
from benchmark_utils.metrics import (
    METRICS,
    diverged_share,
    exactness,
    mode_total_variation,
    psnr_score,
    sliced_wasserstein,
)
from benchmark_utils.options import check_options
from benchmark_utils.problem import InverseProblem, capabilities, cast, count_observed
from benchmark_utils.provenance import digest, fingerprint
from benchmark_utils.rng import RNG, stream_seed
from benchmark_utils.stored import inception, store

MOST_VALUES = 2**18  # of exact draws at once: a mixture's factors come with each row


class Objective(RecordsAttempts, BaseObjective):
    """Draw from p(x | y) given a pretrained diffusion prior: quality, exactness and cost of posterior samplers.

    ``n_samples`` draws per image (the dataset's number unless given), ``batch_size`` images at a time (what fits
    unless given); ``fid=True`` keeps Inception features of the images and of their first draws, which the page
    makes FIDs of. ``keep=all`` stores every draw of every image for the page and for ``export``, not of four images.
    ``precision`` (float32 unless given, tf32, bfloat16) and ``compile=True`` say how every solver's networks run;
    closed-form priors have none and are skipped.
    """

    name = "Posterior sampling"
    url = "https://github.com/benchopt/benchmark_diffusion_posterior"
    min_benchopt_version = "1.10"
    sampling_strategy = "run_once"
    parameters = {
        "n_samples": [None],
        "batch_size": [None],
        "fid": [None],
        "precision": [None],
        "compile": [None],
        "keep": [None],
    }
    requirements = [
        "pip::torch",
        "pip::torchvision",
        "pip::deepinv>=0.5,<0.6",
        "pip::diffusers",
        "pip::lpips",
        "pip::torchmetrics",
        "pip::torch-fidelity",
        "pip::kornia",
    ]
    test_config = {"dataset": {"name": "ffhq_inpainting"}}
    _state = None  # what the data depend on, for the cache key: benchopt's copies do not know the dataset

    @classmethod
    def get_all_parameter_values(cls, name):
        return "all" if name == "keep" else None  # the word itself is the value

    def skip(self, missing=None, metrics=(), prior=None, operator=None, y=None, **_):
        check_options(self)
        if missing is None and self.n_samples == 1 and "mean_error" in metrics:
            missing = "comparing draws with an exact posterior needs n_samples of 2 or more"
        if missing is None and self.n_samples == 1 and "crps" in metrics:
            missing = "the CRPS needs n_samples of 2 or more"
        if missing is None and self.n_samples in range(1, 6) and "precision" in metrics:
            missing = "precision and recall reach for the fifth neighbour: they need n_samples of 6 or more"
        if missing is None and self.n_samples == 1 and metrics[:1] == ("spread",):
            missing = "the spread of draws, the only score without an exact law, needs n_samples of 2 or more"
        if missing is None and (self.precision not in (None, "float32") or self.compile) and not prior.has_networks:
            missing = f"precision and compile are for networks, and {prior.name} has none"
        if missing is None and self.precision == "tf32" and may_convolve(operator):
            missing = (
                f"tf32 would reach convolutions of {type(operator).__name__}, if it has any; use float32 or bfloat16"
            )
        if missing is None and self.fid and y is not None:
            missing = "fid=True compares samples with their truths, which measurements alone do not have"
        if missing is None and self.fid and len(prior.signal_shape) == 3:
            try:
                inception()  # before the hours of sampling
            except FileNotFoundError as error:
                missing = str(error)
        return missing is not None, missing

    def set_data(
        self,
        operator,
        noise,
        task,
        prior,
        metrics,
        images,
        files,
        n_samples,
        x_true=None,
        y=None,
        groups=None,
        unit="images",
    ):
        if self.keep not in (None, "all"):
            raise ValueError(f"the objective's keep must be all, or left out, got {self.keep!r}")
        if (x_true is None) == (y is None):
            raise ValueError(f"{self._dataset} must return either x_true or y")
        check_options(self)
        self.groups = groups or [[i] for i in range(len(images))]
        for name, group in zip(files, self.groups, strict=True):
            if not (y if x_true is None else x_true)[group].isfinite().all():
                raise ValueError(f"{name} of {self._dataset} has values that are no finite numbers: mend the data")
        self.x_true, self.metrics, self.files, self.unit = x_true, metrics, files, unit
        self.prior = replace(prior, precision=self.precision or "float32", compile=bool(self.compile))
        named = [files_state(path) for path in prior.weights.named_paths()]
        self._state = fingerprint(getattr(self._dataset, "_module_filename", None)) | {"named": named}
        self._exact_draws = None  # of all rows
        self.seed = self.get_seed(use_repetition=True)
        self._exact_laws = {}  # of each image
        self.draws_per_image = self.n_samples or n_samples
        operator = cast(operator, torch.float64)
        y = self._measure(operator, noise, task, images) if y is None else y.double()
        if not y.isfinite().all():
            raise ValueError(f"the operator of {task} gives values that are no finite numbers: mend it")
        if isinstance(operator, Inpainting):
            y = y * (operator.mask != 0)  # hidden pixels carry no noise
        found = capabilities(operator, noise, prior) | ({"truth"} if x_true is not None else set())
        m = count_observed(operator, y)
        self.problem = InverseProblem(operator, noise, y, task, m, tuple(images), capabilities=found)

    def _measure(self, operator, noise, task, images):
        """The measurement y of x_true, (n, *measurement)."""
        stream = RNG(self.seed, "measurement", task, images, dtype=torch.float64)
        measure = getattr(operator, "measure", operator.A)
        with torch.no_grad():
            return noise.sample(measure(self.x_true.double()), stream)

    def get_objective(self):
        return {
            "problem": self.problem,
            "prior": self.prior,
            "n_samples": self.draws_per_image,
            # not the seed of the measurement noise, which would give the noise away
            "seed": stream_seed(self.seed, "sampler", self.problem.task),
            "batch_size": self.batch_size,
        }

    def evaluate_result(self, samples, nfe, vjp, seconds_per_image, peak_memory_gb, ess, provenance, oracle=None):
        samples = self._informed(samples, oracle)
        cost = {"nfe": nfe, "vjp": vjp, "seconds_per_image": seconds_per_image, "peak_memory_gb": peak_memory_gb}
        posterior = self._exact_posterior()
        rows = []
        for i, group in enumerate(self.groups):
            draws = join(samples[group])
            scores = self._image_scores(i, draws, None if self.x_true is None else join(self.x_true[group]))
            if posterior is not None:
                mean, trace_cov = join(posterior.mean[group]), posterior.trace_cov[group].sum()
                scores |= exactness(draws.to(mean), mean, trace_cov)
            if len(draws) > 1 and self.x_true is not None:
                truth = self._scored(i, join(self.x_true[group]))
                scores |= calibration_scores(self._scored(i, draws), truth)
                if posterior is not None:
                    reference = join(self._draw_exactly(posterior)[group])
                    scores |= exact_scores(self._scored(i, reference), truth)
            if "sliced_wasserstein" in self.metrics:
                scores |= self._mixture_scores(i, draws)
            smallest_ess = min(ess[row] for row in group)
            if math.isfinite(smallest_ess):
                scores["ess"] = smallest_ess
            scores["diverged"] = diverged_share(draws, self.prior.signal_range)
            row = {name: scores[name] for name in self.metrics}  # benchopt shows the first column by default
            row |= scores | {"image": self.problem.images[group[0]], "file": self.files[i]} | cost
            row |= {"task": self.problem.task, "unit": self.unit, "headline": self.metrics[0]} | provenance
            row["y_digest"] = digest(self.problem.y[group])
            if self.x_true is not None:
                row["truth_digest"] = digest(self.x_true[group])
            if oracle is not None:
                row["oracle"] = "sees the truth"
            rows.append(row)
        return rows

    def _informed(self, samples, oracle):
        """Samples (n, D, *signal) after what a reference makes of them with the truth."""
        return samples if oracle is None else oracle(samples, self.x_true.to(samples)[:, None].expand_as(samples))

    def _exact_posterior(self):
        if "closed_form" not in self.problem.capabilities or self.draws_per_image < 2:
            return None
        return self.prior.load("cpu").posterior(self.problem)

    def _draw_exactly(self, posterior):
        """D + 1 exact draws of every row, (n, D + 1, *signal) in float32, made once for all solvers."""
        if self._exact_draws is None:
            n, n_draws = len(self.problem.images), self.draws_per_image + 1
            at_once = max(1, MOST_VALUES // (n * self.x_true[0].numel()))
            parts = []
            for first in range(0, n_draws, at_once):
                draws = range(first, min(first + at_once, n_draws))
                images = [image for image in self.problem.images for _ in draws]
                key = self.seed, "reference", f"{self.problem.task} calibration", images, [*draws] * n
                x = posterior.sample(RNG(*key, dtype=torch.float64, block=1))
                parts.append(x.float().unflatten(0, (n, len(draws))))
            self._exact_draws = torch.cat(parts, 1)
        return self._exact_draws

    def _mixture_scores(self, i, draws):
        """Distances to the exact law of an image, and those of as many exact draws."""
        if i not in self._exact_laws:
            self._exact_laws[i] = self._exact_law(i, len(draws))
        posterior, reference, floors = self._exact_laws[i]
        return floors | self._distances(i, draws, reference, posterior)

    def _exact_law(self, i, n):
        """The exact posterior of an image, n draws of it, and the scores that n others get, as ``<score>_floor``."""
        posterior = self.prior.load("cpu").posterior(self.problem.rows([i]))
        key = self.seed, "reference", self.problem.task, [self.problem.images[i]] * 2 * n, range(2 * n)
        stream = RNG(*key, dtype=torch.float64, block=1)  # few numbers of many rows: none ahead
        reference, other = posterior.sample(stream).split(n)
        floors = self._distances(i, other, reference, posterior)
        if "label_probability" in floors:
            floors["label_probability"] = float(posterior.label_probability[0])
        return posterior, reference, {f"{name}_floor": value for name, value in floors.items()}

    def _distances(self, i, draws, reference, posterior):
        """Scores of draws against as many exact ones, both (n, *event), and against the modes' weights."""
        image, responsibilities = self.problem.images[i], self.prior.load("cpu").responsibilities(draws)
        scores = {"sliced_wasserstein": sliced_wasserstein(draws.flatten(1), reference.flatten(1), seed=image)}
        scores["mode_tv"] = mode_total_variation(responsibilities, posterior.weights[0])
        if "labelled" in self.problem.capabilities:
            scores |= tilted_scores(self.metrics, draws.double(), reference, posterior, self.problem.rows([i]))
        return scores

    def _scored(self, i, x):
        """The entries (..., k) of signals x (..., *signal) that a mask of leads hides, or x itself if it hides none."""
        if "leads" not in self.problem.capabilities:
            return x
        hidden = self.problem.operator.mask[i] == 0
        return x[..., hidden] if hidden.any() else x

    def _image_scores(self, i, draws, truth):
        values, scored = {}, self._scored(i, draws)
        truth = None if truth is None else self._scored(i, truth)
        for name in self.metrics:
            if name == "data_misfit":
                parts = zip(self.groups[i], draws.double().chunk(len(self.groups[i]), -1), strict=True)
                misfits = [self.problem.rows([row], len(draws)).misfit(part) for row, part in parts]
                values[name] = sum(misfits) / len(misfits)
            elif METRICS[name].score is not None:
                values[name] = METRICS[name].score(scored, truth)
        row = {name: float(value.mean()) for name, value in values.items()}
        if len(draws) > 1 and "lpips" in values:
            row["lpips_best"] = float(values["lpips"].min())
        if len(draws) > 1 and "psnr" in values:
            row["psnr_mean"] = float(psnr_score(draws.mean(0, keepdim=True), truth))
        if len(draws) > 1 and ("psnr" in values or "mae" in values or truth is None):
            row["spread"] = float(scored.std(0).square().mean().sqrt())
        if len(draws) > 1 and "mae" in values:
            error = scored.mean(0) - truth
            row |= {"mae_mean": float(error.abs().mean()), "rmse_mean": float(error.square().mean().sqrt())}
        if len(draws) > 1 and "si_sdri_all" in values:
            row["si_sdri_mean"] = float(METRICS["si_sdri_all"].score(draws.mean(0, keepdim=True), truth))
        return row

    def save_final_results(self, samples, oracle=None, **_):
        """For the page and for ``export``: pictures of the first images, or of all, and stems as audio."""
        samples = self._informed(samples, oracle)
        stored = store(self.problem, self.x_true, samples, self.groups, self.fid, self.keep == "all")
        forget_attempt(self)
        return stored

    def get_one_result(self):
        return {
            "samples": torch.zeros(len(self.problem.images), self.draws_per_image, *self.prior.signal_shape),
            "nfe": 0.0,
            "vjp": 0.0,
            "seconds_per_image": 0.0,
            "peak_memory_gb": float("nan"),
            "ess": [float("nan")] * len(self.problem.images),
            "provenance": {},
        }

    def __repr__(self):
        chosen = ",".join(f"{k}={v}" for k, v in sorted(self._parameters.items()) if v is not None)
        return f"{self.name}[{chosen}]" if chosen else self.name

    def _get_state(self):
        return self._state

    def __setstate__(self, state):
        self._state = state


def may_convolve(operator):
    """Whether an operator has convolutions, or may have some that do not show, as one that is not of this benchmark."""
    known = type(operator).__module__.startswith("benchmark_utils.") or type(operator) in (Inpainting, Denoising)
    return not known or any(isinstance(part, Conv2d) for part in operator.modules())


def join(parts):
    """Parts (k, ..., length) of one signal as (..., k length)."""
    return torch.cat(list(parts), -1)
