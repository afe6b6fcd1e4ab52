"""``python -m benchmark_utils check``: what it finds in right and in wrong solvers."""

import pytest
import torch
from helpers import ROOT

from benchmark_utils.__main__ import main
from benchmark_utils.checks import solver as checks
from benchmark_utils.sampler import PosteriorSampler
from solvers.cfg import Solver as CFG
from solvers.exact_posterior import Solver as ExactPosterior

PAPER = 'X: "A title", One and Two, ICML 2026, https://example.org/paper'


class Sampler(PosteriorSampler):
    """A denoised draw from the prior, which ignores y."""

    name = "sampler"

    def sample(self, problem, prior, rng):
        return rng.randn(*prior.event_shape)


class CoupledSampler(Sampler):
    name = "coupled"

    def sample(self, problem, prior, rng):
        x = rng.randn(*prior.event_shape)
        return x / problem.residual(x).norm()


class HostSampler(Sampler):
    name = "host"

    def sample(self, problem, prior, rng):
        x = prior.denoise(rng.randn(*prior.event_shape), 500)
        return x * (0.5 if x.abs().max().item() > 1 else 1.0)


class DivergingSampler(Sampler):
    name = "diverging"

    def sample(self, problem, prior, rng):
        return prior.posterior(problem.with_draws(1)).sample(rng) + 1e4


class PosteriorMean(Sampler):
    name = "posterior_mean"

    def sample(self, problem, prior, rng):
        x = prior.posterior(problem.with_draws(1)).sample(rng)
        return torch.cat([x[:1] * 0.8, x[1:] * 0.8])


GAUSSIAN = ("gaussian", {"n_problems": 4})


def test_exact_draws_pass_everything():
    found = [checks.check_docstring(ExactPosterior), checks.check_presets(ExactPosterior)]
    found += [checks.check_batches(ExactPosterior)]
    found += [checks.check_exactness(ExactPosterior, *cell) for cell in checks.CLOSED_FORMS]
    assert {finding.status for finding in found} == {"passes"}, found


@pytest.mark.parametrize("Solver, status", [(Sampler, "fails"), (DivergingSampler, "fails"), (PosteriorMean, "biased")])
def test_exactness_tells_a_bias_from_a_failure(Solver, status):
    assert checks.check_exactness(Solver, *GAUSSIAN).status == status


def test_a_method_of_labels_has_a_task_on_the_meta_device(monkeypatch):
    monkeypatch.setattr(checks, "META_CELLS", [cell for cell in checks.META_CELLS if cell[0] == "labelled_mixture"])
    assert checks.check_meta_device(CFG).text.startswith("1 tasks")


def test_a_coupled_batch_fails():
    assert checks.check_batches(CoupledSampler).status == "fails"
    assert checks.check_batches(Sampler).status == "passes"


def test_a_value_read_on_the_host_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "META_CELLS", [("gaussian", {"n_problems": 2})])
    assert checks.check_meta_device(Sampler).text.startswith("1 tasks")
    monkeypatch.setattr(checks, "CLOSED_FORMS", ())
    path = tmp_path / "long.py"
    path.write_text("\n" * 111)
    found = {finding.check: finding for finding in checks.check_solver(HostSampler, path)}
    assert found["meta device"].status == "fails" and found["length"].status == "fails"
    assert found["presets"].status == found["batches"].status == "passes"


@pytest.mark.parametrize(
    "docstring, status",
    [
        (PAPER, "passes"),
        ("Baseline: noise.", "passes"),
        ("A method: title, authors, venue, URL, eq. 7", "fails"),
        (PAPER.partition(", https")[0], "fails"),
        (None, "fails"),
    ],
)
def test_a_docstring_names_its_paper(docstring, status):
    assert checks.check_docstring(type("Solver", (), {"__doc__": docstring})).status == status


@pytest.mark.parametrize(
    "presets, message",
    [
        ({("*", "sr4"): {"eta": 0.5}}, "PRESETS gives no eta for ffhq, box"),
        ({("*", "*"): {"eta": -1.0}}, "eta must be a number of 0 or more"),
        ({("*", "*"): {"eta": 1.0, "n_step": 3}}, "name n_step, which is no parameter"),
    ],
)
def test_wrong_presets_fail(presets, message):
    members = {"name": "wrong", "parameters": {"eta": [None]}, "PRESETS": presets}
    with pytest.raises(ValueError, match=message):
        checks.check_presets(type("Solver", (Sampler,), members))


def test_command_checks_a_file_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setattr(checks, "META_CELLS", [("gaussian", {"n_problems": 2})])
    monkeypatch.setattr(checks, "CLOSED_FORMS", (GAUSSIAN,))
    assert main(["check", str(ROOT / "examples" / "template_solver.py")]) == 1
    printed = capsys.readouterr().out
    assert "my_sampler: what passes" in printed and "1 of 6 checks fail" in printed
    (docstring,) = [line for line in printed.splitlines() if " docstring " in line]
    assert "fails" in docstring and "no title" in docstring  # the template names no paper


WITHOUT_PACKAGE = """
import nothing_here
from benchmark_utils.sampler import PosteriorSampler


class Solver(PosteriorSampler):
    name = "nobody"
"""


@pytest.mark.parametrize(
    "content, message",
    [(None, "nobody.py"), ("x = 1", "Could not find Solver"), (WITHOUT_PACKAGE, "No module named 'nothing_here'")],
)
def test_a_file_that_is_no_solver_is_one_error(content, message, tmp_path, capsys):
    path = tmp_path / "nobody.py"
    if content:
        path.write_text(content)
    with pytest.raises(SystemExit) as exit:
        main(["check", str(path)])
    assert exit.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
