"""FID: torchmetrics' network and value, its weights in their file's format, and the notice where there are none."""

from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from benchmark_utils.results import fid
from benchmark_utils.results.scores import tasks
from benchmark_utils.results.tables import leaderboard
from datasets.ffhq_inpainting import Dataset as FFHQInpainting
from scripts.common import objective_of


@pytest.fixture
def fresh():
    fid.inception.cache_clear()
    yield
    fid.inception.cache_clear()


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
    found = fid.frechet_distance(fid.features(drawn), fid.features(real))
    assert found == pytest.approx(float(reference.compute()), rel=1e-3)


def test_the_formula_on_full_rank_sets():
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((200, 5)), 2 * rng.standard_normal((300, 5)) + 1
    s, t = np.cov(x.T), np.cov(z.T)
    expected = np.square(x.mean(0) - z.mean(0)).sum() + np.trace(s + t)
    expected -= 2 * np.sqrt(np.linalg.eigvals(s @ t).real).sum()
    assert fid.frechet_distance(x, z) == pytest.approx(expected, rel=1e-10)
    assert fid.frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="at least 2 images"):
        fid.frechet_distance(x[:1], z)


def test_without_a_network_there_is_a_notice(monkeypatch, fresh):
    def unreachable(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", unreachable)
    with pytest.warns(UserWarning, match="FID is left out.*no route"):
        assert fid.features(pictures(0)) is None


def test_the_objective_keeps_the_features_of_truths_and_first_draws(monkeypatch):
    """With the mean colour in the network's place."""
    monkeypatch.setattr(fid, "inception", lambda: lambda images: images.double().mean((2, 3)))
    dataset = FFHQInpainting.get_instance(mask="half", n_images=3)
    x_true = dataset.get_data()["x_true"]
    samples = torch.stack([x_true.flip(0), x_true], 1)  # the first draw of each image is another face
    for fid_asked, n_features in ((True, 3), (None, 0)):
        kept = objective_of(dataset, fid=fid_asked).save_final_results(samples=samples)
        assert len(kept.get("truth_features", ())) == len(kept.get("sample_features", ())) == n_features
        if fid_asked:
            colours = (x_true.double().mean((2, 3)) + 1) * 127.5
            np.testing.assert_allclose(kept["truth_features"], colours, atol=0.1)
            np.testing.assert_allclose(kept["sample_features"], colours.flip(0), atol=0.1)


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
    assert found == {"a": fid.frechet_distance(drawn, real), "b": fid.frechet_distance(2 * drawn, real)}
