"""FID: torchmetrics' network and value, its weights in their file's format, and the reason where there are none."""

import itertools
import re
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from test_plots import HALF, HALF_TASK, cell
from torchmetrics.image.fid import FrechetInceptionDistance

from benchmark_utils import stored
from benchmark_utils.evaluate import objective_of
from benchmark_utils.results.scores import frechet_distance, tasks
from benchmark_utils.results.tables import leaderboard
from datasets.ffhq_inpainting import Dataset as FFHQInpainting
from datasets.gaussian import Dataset as Gaussian
from objective import Objective


@pytest.fixture
def fresh():
    stored.inception.cache_clear()
    yield
    stored.inception.cache_clear()


@pytest.fixture
def weights(tmp_path, monkeypatch, fresh):
    """A file with random weights in the format and at the place of torch-fidelity's download."""
    from torch_fidelity import feature_extractor_inceptionv3 as torch_fidelity

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / torch_fidelity.URL_INCEPTION_V3.rpartition("/")[2]
    path.parent.mkdir()
    recorded = {}
    with monkeypatch.context() as patch:
        patch.setattr(torch_fidelity, "load_state_dict_from_url", lambda *_, **__: recorded)
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, _: torch.save(self.state_dict(), path))
        torch.manual_seed(0)
        torch_fidelity.FeatureExtractorInceptionV3("inception", ["2048"])
    return path


def pictures(seed, n=6):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.mark.slow
def test_the_value_is_torchmetrics(weights):
    real, drawn = pictures(0), pictures(1) // 2
    reference = FrechetInceptionDistance(feature=2048).set_dtype(torch.float64)
    reference.update(torch.from_numpy(real).movedim(-1, 1), real=True)
    reference.update(torch.from_numpy(drawn).movedim(-1, 1), real=False)
    found = frechet_distance(stored.inception_features(drawn), stored.inception_features(real))
    assert found == pytest.approx(float(reference.compute()), rel=1e-3)


def test_the_formula_on_full_rank_sets():
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((200, 5)), 2 * rng.standard_normal((300, 5)) + 1
    s, t = np.cov(x.T), np.cov(z.T)
    expected = np.square(x.mean(0) - z.mean(0)).sum() + np.trace(s + t)
    expected -= 2 * np.sqrt(np.linalg.eigvals(s @ t).real).sum()
    assert frechet_distance(x, z) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="at least 2 images"):
        frechet_distance(x[:1], z)


def test_without_the_weights_the_cells_that_ask_for_fid_are_skipped_with_the_reason(monkeypatch, fresh):
    """Before the sampling, and not in the cache: with the weights, the same command runs them."""

    def unreachable(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", unreachable)
    for dataset, fid_asked in itertools.product((FFHQInpainting, Gaussian), (True, None)):
        data = dataset.get_instance().get_data()
        skipped, reason = Objective.get_instance(fid=fid_asked).skip(**data)
        assert skipped == bool(fid_asked and dataset is FFHQInpainting)
        assert not skipped or re.search("fid=True needs the Inception weights.*not reachable.*no route", reason)


def test_the_objective_stores_the_features_of_truths_and_first_draws(monkeypatch):
    """With the mean colour in the network's place."""
    monkeypatch.setattr(stored, "inception", lambda: lambda images: images.double().mean((2, 3)))
    dataset = FFHQInpainting.get_instance(mask="half", n_images=3)
    x_true = dataset.get_data()["x_true"]
    samples = torch.stack([x_true.flip(0), x_true], 1)  # the first draw of each image is another face
    for fid_asked, n_features in ((True, 3), (None, 0)):
        found = objective_of(dataset, fid=fid_asked).save_final_results(samples=samples)
        assert len(found.get("truth_features", ())) == len(found.get("sample_features", ())) == n_features
        if fid_asked:
            colours = (x_true.double().mean((2, 3)) + 1) * 127.5
            np.testing.assert_allclose(found["truth_features"], colours, atol=0.1)
            np.testing.assert_allclose(found["sample_features"], colours.flip(0), atol=0.1)


def test_a_grey_image_is_repeated_in_three_channels(monkeypatch):
    monkeypatch.setattr(stored, "inception", lambda: lambda images: images.double().mean((2, 3)))
    grey = pictures(0)[..., :1]
    expected = np.repeat(grey.mean((1, 2)), 3, 1)
    np.testing.assert_allclose(stored.inception_features(grey), expected, atol=0.1)


def test_the_leaderboard_has_the_fid_of_all_shards():
    rng = np.random.default_rng(0)
    drawn, real = rng.standard_normal((6, 5)).astype(np.float16), rng.standard_normal((6, 5)).astype(np.float16)
    cells = [
        {
            "dataset_name": f"d[first={first},n_images=3]",
            "objective_name": "o[fid=True]",
            "solver_name": solver,
            "idx_rep": 0,
            "objective_headline": "lpips",
            "objective_task": "box",
            "objective_lpips": 0.1 * i,
            "objective_image": i,
            "final_results": {
                "sample_features": scale * drawn[first : first + 3],
                "truth_features": real[first : first + 3],
            }
            if i == first + 2
            else None,
        }
        for solver, scale in (("a", 1), ("b", 2))
        for first in (0, 3)
        for i in range(first, first + 3)
    ]
    frame = pd.DataFrame(cells)
    (task,) = tasks(frame)
    table = leaderboard(frame, task)
    column = table.columns.index("FID ↓")
    found = {row[1].text: row[column].value for row in table.rows}
    assert found == {"a": frechet_distance(drawn, real), "b": frechet_distance(2 * drawn, real)}


def test_an_image_of_two_shards_counts_once():
    real, drawn = np.random.default_rng(0).standard_normal((2, 4, 5))
    rows = []
    for n in (2, 4):
        features = {"truth_features": real[:n], "sample_features": drawn[:n]}
        shard = HALF.format(0).replace("n_images=2", f"n_images={n}")
        rows += cell(shard, "a", range(n), {"lpips": [0.1, 0.2, 0.3, 0.4]}, stored=features)
    table = leaderboard(pd.DataFrame(rows), HALF_TASK)
    assert table.rows[0][table.columns.index("FID ↓")].value == pytest.approx(frechet_distance(drawn, real))
    assert "over 4 images;" in table.notes[0] and "with a value" not in table.notes[0]
