"""The page, the terminal summary and the report, on results with the columns that the objective writes."""

import base64
import io
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from benchopt.benchmark import Benchmark, _list_parametrized_classes
from benchopt.cli.main import run as benchopt_run
from benchopt.plotting.generate_matplotlib import get_figures
from benchopt.plotting.helpers import update_plot_data_style
from benchopt.results import save_results
from benchopt.utils.run_context import RunContext
from huggingface_hub.errors import LocalTokenNotFoundError
from PIL import Image
from scipy.stats import norm

from benchmark_utils import attempts
from benchmark_utils.__main__ import main
from benchmark_utils.metrics import METRICS, STEMS
from benchmark_utils.results import charts, paper, pictures, report, scores, tables
from benchmark_utils.results.beside import mixed_data
from benchmark_utils.results.page import FIGURE_SPACE, page_table
from benchmark_utils.results.scores import frechet_distance
from benchmark_utils.runs import cells

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config.yml").read_text())


def cell(dataset, solver, images, scores, repetition=0, stored=None, **extra):
    """Rows of one benchopt cell; ``scores`` are {metric: one value per image}, the headline first."""
    name, parameters = re.fullmatch(r"(\w+)\[(.*)\]", dataset).groups()
    parameters = dict(pair.split("=") for pair in parameters.split(","))
    rows = []
    for i, image in enumerate(images):
        costs = {"nfe": 100.0, "vjp": 0.0, "seconds_per_image": 0.5, "peak_memory_gb": np.nan}
        row = {metric: values[i] for metric, values in scores.items()}
        row |= {"image": image, "file": f"{image:05}.png"} | costs
        row |= {"task": "half", "headline": next(iter(scores))} | extra
        meta = {"objective_name": "Posterior sampling", "solver_name": solver, "dataset_name": dataset}
        meta |= {"idx_rep": repetition, "file_dataset": f"datasets/{name}.py", "base_seed": 0}
        meta |= {f"p_dataset_{k}": float(v) if re.fullmatch(r"[\d.]+", v) else v for k, v in parameters.items()}
        rows.append(meta | {f"objective_{k}": v for k, v in row.items()} | {"final_results": None})
    rows[-1]["final_results"] = stored
    return rows


def some_pictures(n=2, size=16, observed=(16, 16, 3)):
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    observation = np.random.default_rng(1).integers(0, 256, (n, *observed), dtype=np.uint8)
    return {"truth": pixels, "observation": observation, "sample": 255 - pixels}


HALF = "ffhq_inpainting[first={},mask=half,n_images=2,noise_std=0.05,prior=faces64]"
HALF_TASK = "ffhq_inpainting[mask=half,noise_std=0.05,prior=faces64]"
MIXTURE = "gaussian_mixture[dim=8,dim_y=1,seed={}]"


def image_rows():
    """Two shards of a task for three solvers, lpips means 0.3, 0.15 and 0.2."""
    rows = []
    for first, shift in ((0, -0.05), (2, 0.05)):
        images = (first, first + 1)
        for solver, lpips, cost in (("slow", 0.3, 1000.0), ("best", 0.15, 200.0), ("cheap", 0.2, 0.0)):
            scores = {
                "lpips": [lpips + shift, lpips + shift],
                "psnr": [9.5 + lpips * 20] * 2,
                "data_misfit": [1.0, 1.1],
            }
            rows += cell(HALF.format(first), solver, images, scores, stored=some_pictures(), nfe=cost)
    return rows


def mixture_rows():
    rows = []
    for seed in range(3):
        for solver, distance in (("biased", 2.0), ("exact_posterior", 0.3)):
            scores = {"sliced_wasserstein": [distance + 0.1 * seed], "sliced_wasserstein_floor": [0.25]}
            scores |= {"mean_error": [distance], "mean_error_floor": [0.03], "variance_ratio": [1.0]}
            rows += cell(MIXTURE.format(seed), solver, (seed,), scores, task="mixture")
    return rows


@pytest.fixture
def df():
    return pd.DataFrame(image_rows() + mixture_rows())


def text_rows(table):
    return [[cell.text for cell in row] for row in table.rows]


# Tasks and scores


def test_shards_and_unset_parameters_are_not_part_of_a_task():
    assert cells.task_label("d[first=0,n_images=4]", "Posterior sampling") == "d"
    assert cells.task_label("d[factor=4,first=0,n_images=4,rate=None]", "Posterior sampling") == "d[factor=4]"
    assert cells.task_label("d[first=50,kind=a]", "Posterior sampling[n_samples=4]") == "d[kind=a] n_samples=4"
    assert (
        cells.task_label("d[kind=a]", "Posterior sampling[batch_size=4,fid=True,n_samples=4]")
        == "d[kind=a] n_samples=4"
    )
    assert cells.task_label("d[kind=a]", "Posterior sampling[n_samples=4,fid=True]") == "d[kind=a] n_samples=4"
    assert cells.task_label("d[kind=a]", "Posterior sampling[batch_size=4]") == "d[kind=a]"
    assert cells.task_label("d[prior=p,tracks=1876-2100]", "Posterior sampling") == "d[prior=p]"
    assert cells.task_label("d[prior=p,tracks=excerpt]", "Posterior sampling") == "d[prior=p,tracks=excerpt]"
    assert cells.task_label("d[first_level=2,reseed=1]", "Posterior sampling") == "d[first_level=2,reseed=1]"


def test_scores_of_shards_are_those_of_one_run(df):
    rows = scores.rows_of(df, HALF_TASK)
    score = scores.scores(rows)["best"]["lpips"]
    values = np.array([0.1, 0.1, 0.2, 0.2])
    assert score.n == 4
    np.testing.assert_allclose(score[:2], [0.15, 3.182446 * values.std(ddof=1) / 2], rtol=1e-6)  # Student's t


def test_overlapping_shards_and_repetitions_count_an_image_once():
    rows = cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.3]})
    rows += cell(HALF.format(1), "a", (1, 2), {"lpips": [0.3, 0.5]})
    rows += cell(HALF.format(0), "b", (0, 1), {"lpips": [0.1, 0.3]}, repetition=0)
    rows += cell(HALF.format(0), "b", (0, 1), {"lpips": [0.3, 0.5]}, repetition=1)
    summary = scores.scores(pd.DataFrame(rows))
    assert summary["a"]["lpips"].n == 3 and summary["a"]["lpips"].mean == pytest.approx(0.3)
    assert summary["b"]["lpips"].n == 2 and summary["b"]["lpips"].mean == pytest.approx(0.3)


def test_images_without_a_value_are_left_out_of_that_score_only():
    """As a track whose windows are all silent: it has no score, but its cost counts."""
    values = {"lpips": [0.1, np.nan, 0.3], "psnr": [20.0, 21.0, 22.0], "ssim": [np.nan] * 3}
    df = pd.DataFrame(cell(HALF.format(0), "a", (0, 1, 2), values) + cell(HALF.format(0), "b", (0, 1, 2), values))
    found = scores.scores(scores.rows_of(df, HALF_TASK))["a"]
    assert found["lpips"].mean == pytest.approx(0.2) and (found["lpips"].n, found["psnr"].n) == (2, 3)
    assert found["lpips"].half_width == pytest.approx(12.7062 * np.std([0.1, 0.3], ddof=1) / 2**0.5, rel=1e-5)
    assert "ssim" not in found
    note = tables.leaderboard(df, HALF_TASK).notes[0]
    assert "over 3 images; LPIPS: over the 2 with a value;" in note and "PSNR: over" not in note
    assert [len(values) for *_, values in charts.box_values(df, HALF_TASK)] == [2, 2]
    without = df.assign(objective_lpips=df["objective_lpips"].where(df["solver_name"] == "a"))
    assert [solver for solver, *_ in charts.box_values(without, HALF_TASK)] == ["a"]


def test_random_problems_are_told_apart_by_their_seed(df):
    task = "gaussian_mixture[dim=8,dim_y=1]"
    assert scores.scores(scores.rows_of(df, task))["biased"]["sliced_wasserstein"].n == 3


def test_headline_is_the_datasets_first_metric_whatever_ran_before(df):
    assert scores.headline(scores.rows_of(df, HALF_TASK)) == "lpips"
    assert scores.headline(scores.rows_of(df, "gaussian_mixture[dim=8,dim_y=1]")) == "sliced_wasserstein"


@pytest.mark.parametrize(
    "score, text",
    [
        (scores.Score(0.1234, 0.0321, 4), "0.123 ± 0.032"),
        (scores.Score(25.678, 1.2, 4), "25.68 ± 1.20"),
        (scores.Score(0.00123, 0.0004, 4), "0.00123 ± 0.00040"),
        (scores.Score(3e-30, 1e-30, 4), "0.000 ± 0.000"),
        (scores.Score(0.5, np.nan, 1), "0.500"),
        (scores.Score(np.nan, np.nan, 2), "nan"),
    ],
)
def test_score_as_text(score, text):
    assert str(score) == text


# Tables


def test_leaderboard_is_sorted_with_arrows_and_the_best_in_bold(df):
    table = tables.leaderboard(df, HALF_TASK)
    assert [row[1].text for row in table.rows] == ["best", "cheap", "slow"]
    assert table.columns == ["#", "solver", "LPIPS ↓", "PSNR ↑", "data misfit", "NFE", "VJP", "s / image"]
    assert [[row[1].text for row in table.rows if row[j].best] for j in (2, 3, 4, 5)] == [["best"], ["slow"], [], []]
    assert {"LPIPS", "PSNR", "data misfit", "NFE", "VJP", "s / image"} == set(table.definitions)
    assert "over 4 images" in table.notes[0] and "t sd / √n (Student" in table.notes[0]


def test_unmeasured_and_incomplete_cells_show(df):
    df.loc[df["solver_name"] == "best", "objective_peak_memory_gb"] = 1.5
    df = df[~((df["solver_name"] == "slow") & (df["objective_image"] == 3))]
    table = tables.leaderboard(df, HALF_TASK)
    memory, n = table.columns.index("memory GB"), table.columns.index("n")
    assert [row[memory].text for row in table.rows] == ["1.500", tables.MISSING, tables.MISSING]
    assert [row[n].text for row in table.rows] == ["4", "4", "3"]


def test_solvers_with_other_images_or_repetitions_are_named():
    a = cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]})
    other_images = cell(HALF.format(2), "b", (2, 3), {"lpips": [0.1, 0.2]})
    again = cell(HALF.format(0), "b", (0, 1), {"lpips": [0.1, 0.2]}, repetition=1)
    same = cell(HALF.format(0), "b", (0, 1), {"lpips": [0.1, 0.2]})
    for rows, named in ((other_images, ["a has 2 of 4, b has 2 of 4"]), (same + again, ["a has 2 of 4"]), (same, [])):
        df = pd.DataFrame(a + rows)
        expected = [f"not the same images or repetitions for all solvers: {text}" for text in named]
        assert tables.leaderboard(df, HALF_TASK).notes[1:] == expected == mixed_data(df)


def test_page_sorts_cells_by_their_numbers_though_it_compares_text():
    values = [9.812, 12.34, 0.5, 101.2]
    cells = [tables.Cell(str(scores.Score(value, 0.1, 4)), value) for value in values]
    rows = [[tables.Cell("solver"), value] for value in cells]
    metadata, shown = page_table(tables.Table("t", ["note"], {"a": "b"}, ["solver", "PSNR ↑"], rows))
    # text order of the page (ICU) puts spaces before digits, as the order of code points does not
    as_compared = [text.replace(FIGURE_SPACE, " ") for _, text in shown]
    assert sorted(as_compared) == [as_compared[i] for i in np.argsort(values)]
    assert metadata["title"] == "t\nnote\na: b"
    assert all(len(row) == len(metadata["columns"]) for row in shown)


def test_many_definitions_are_a_view_of_their_own(df):
    """Above the table of the page stands where they are; the view has every column."""
    table = tables.leaderboard(df, HALF_TASK)
    title, shown = page_table(table)[0]["title"], text_rows(tables.definitions(df, HALF_TASK))
    assert 'view "definitions"' in title and METRICS["lpips"].definition not in title
    assert ["LPIPS", "lower", METRICS["lpips"].definition] in shown
    assert set(table.definitions) <= {row[0] for row in shown}


def test_exactness_starts_with_the_floor(df):
    task = "gaussian_mixture[dim=8,dim_y=1]"
    assert tables.exactness_tasks(df) == [task]
    rows = text_rows(tables.exactness(df, task))
    assert [row[0] + row[1] for row in rows] == ["0floor of exact draws", "0exact_posterior", "1biased"]
    board = tables.leaderboard(df, task)
    assert [row[0].text + row[1].text for row in board.rows if row[2].best] == ["1biased"]
    assert rows[0][2:5] == ["0.250", "0.0300", "1.000"]
    assert rows[1][2].startswith("0.400 ± 0.248")  # 0.3, 0.4, 0.5: 4.303 * 0.1 / sqrt(3)


def test_the_floor_is_anothers_where_the_best_solver_has_none(df):
    """As where its rows are older than a floor."""
    task = "gaussian_mixture[dim=8,dim_y=1]"
    older = df.copy()
    floors = [column for column in df if column.endswith("_floor")]
    older.loc[older["solver_name"] == "exact_posterior", floors] = np.nan
    assert text_rows(tables.exactness(older, task))[0][2:] == text_rows(tables.exactness(df, task))[0][2:]


def test_exactness_without_a_closed_form_says_what_to_run():
    df = pd.DataFrame(image_rows())
    (task,) = tables.exactness_tasks(df)
    assert "n_samples" in text_rows(tables.exactness(df, task))[0][0]


@pytest.mark.parametrize("prior, noise_std, applies", [("ffhq256", 0.05, 1), ("faces64", 0.05, 0), ("ffhq256", 0.3, 0)])
def test_paper_comparison(prior, noise_std, applies):
    dataset = f"ffhq_inpainting[first=0,mask=half,n_images=2,noise_std={noise_std},prior={prior}]"
    rows = cell(dataset, "pnp_dm", (0, 1), {"lpips": [0.2, 0.3]}) + cell(
        dataset, "unpublished", (0, 1), {"lpips": [1, 1]}
    )
    df = pd.DataFrame(rows)
    table = paper.paper_comparison(df, scores.tasks(df)[0])
    if not applies:
        assert "no published number applies" in text_rows(table)[0][0]
        return
    theirs = paper.mgdm_tables()["ffhq_pixel", "Half mask", "pnp_dm", "lpips"]
    half_width = 12.7062 * np.std([0.2, 0.3], ddof=1) / 2**0.5
    difference = (0.25 - theirs.mean) / np.hypot(max(theirs.half_width, 0.005), half_width)
    published = f"{theirs.mean:.2f} ± {theirs.half_width:.2f}"
    shown = ["1", "pnp_dm", "LPIPS ↓", published, f"0.250 ± {half_width:.3f}", f"{difference:+.2f}", "2"]
    assert text_rows(table) == [shown]


def test_paper_comparison_of_solvers_without_published_numbers():
    dataset = "ffhq_inpainting[first=0,mask=half,n_images=2,noise_std=0.05,prior=ffhq256]"
    df = pd.DataFrame(cell(dataset, "unpublished", (0, 1), {"lpips": [0.2, 0.3]}))
    metadata, rows = page_table(paper.paper_comparison(df, scores.tasks(df)[0]))
    assert metadata["columns"] == ["note"] and len(rows) == 1


def test_phase_retrieval_is_compared_by_its_best_sample():
    dataset = "ffhq_phase_retrieval[first=0,n_images=2,noise_std=0.05,prior=ffhq256]"
    measured = {"lpips": [0.4, 0.6], "psnr": [20.0, 21.0], "lpips_best": [0.1, 0.2]}
    for drawn in (np.nan, 4, 8):
        rows = cell(dataset, "mgdm", (0, 1), measured, task="phase_retrieval")
        df = pd.DataFrame(rows).assign(p_obj_n_samples=drawn)
        (row,) = text_rows(paper.paper_comparison(df, scores.tasks(df)[0]))
        if drawn == 8:  # the best of eight is no best of four
            assert "no published number applies" in row[0]
        else:
            assert row[2] == "best LPIPS ↓" and row[4].startswith("0.150 ±")


SR4 = "ffhq_super_resolution[factor=4,first=0,kind={},n_images=2,noise_std=0.05,prior=ffhq256]"
BLUR = "ffhq_deblurring[blur={},first=0,n_images=2,noise_std=0.05,prior=ffhq256]"
JPEG = "ffhq_jpeg[codec={},first=0,n_images=2,noise_std=0.05,prior=ffhq256]"


@pytest.mark.parametrize(
    "dataset, task, images, applies",
    [
        (SR4.format("average"), "sr4", (0, 1), True),
        (SR4.format("bicubic"), "sr4", (0, 1), False),
        (BLUR.format("gaussian"), "gaussian_blur", (0, 1), True),
        (BLUR.format("gaussian_reflect"), "gaussian_blur", (0, 1), False),
        (JPEG.format("real"), "jpeg2", (298, 299), True),
        (JPEG.format("soft"), "jpeg2", (298, 299), False),
        (JPEG.format("real"), "jpeg2", (299, 300), False),
    ],
)
def test_only_the_papers_dataset_is_compared(dataset, task, images, applies):
    df = pd.DataFrame(cell(dataset, "mgdm", images, {"lpips": [0.2, 0.3]}, task=task))
    shown = text_rows(paper.paper_comparison(df, scores.tasks(df)[0]))
    assert (shown[0][1:3] == ["mgdm", "LPIPS ↓"]) if applies else ("no published number applies" in shown[0][0])


def test_only_the_papers_settings_of_a_solver_are_compared():
    solvers = ("mgdm", "mgdm[preset=fast]", "dps[n_steps=20]", "pgdm", "pgdm[n_steps=1000]", "pseudo_inverse")
    dataset = SR4.format("average")
    df = pd.DataFrame([row for s in solvers for row in cell(dataset, s, (0, 1), {"lpips": [0.2, 0.3]}, task="sr4")])
    table = paper.paper_comparison(df, scores.tasks(df)[0])
    assert [row[1] for row in text_rows(table)] == ["mgdm", "pgdm[n_steps=1000]"]
    assert table.notes[-1].endswith("does not report: mgdm[preset=fast], dps[n_steps=20], pgdm")


def test_fid_is_compared_without_an_interval():
    features = np.random.default_rng(0).normal(size=(2, 2, 4))
    stored = some_pictures() | {"truth_features": features[0], "sample_features": features[1]}
    df = pd.DataFrame(cell(SR4.format("average"), "dps", (0, 1), {"lpips": [0.2, 0.3]}, stored=stored, task="sr4"))
    table = paper.paper_comparison(df, scores.tasks(df)[0])
    distance = scores.Score(frechet_distance(features[1], features[0]), np.nan, 2)
    assert text_rows(table)[1] == ["2", "dps", "FID ↓", "55.02", str(distance), tables.MISSING, "2"]
    assert "FID" in table.definitions and "FID has no interval" in table.notes[0]


@pytest.mark.parametrize("name", ["paper_ffhq", "paper_ffhq_latent", "paper_imagenet"])
def test_configs_of_the_paper_keep_what_its_tables_need(name):
    config = yaml.safe_load((ROOT / "configs" / f"{name}.yml").read_text())
    assert "fid=True" in config["objective"][0]


def test_every_published_task_and_method_is_found():
    images = [key for key in paper.mgdm_tables() if key[1] != "Separation"]
    tasks = set(paper.MGDM_TASKS.values()) - {"Separation"}
    assert {key[:2] for key in images} == set(itertools.product(paper.MGDM_PRIORS.values(), tasks))
    solvers = {key[2] for key in images}
    assert solvers == {"mgdm", "dps", "pgdm", "ddnm", "diffpir", "reddiff", "daps", "pnp_dm", "psld", "resample"}


@pytest.mark.parametrize("name, prior", [("paper_slakh", "slakh_msdm"), ("paper_slakh_isdm", "slakh_isdm")])
def test_solvers_of_the_separation_configs_are_those_of_table_9(name, prior):
    """Every solver of the configs has published numbers of four stems and their mean; "all" is the stems' mean."""
    config = yaml.safe_load((ROOT / "configs" / f"{name}.yml").read_text())
    found = Benchmark(ROOT).check_solver_patterns(config["solver"])
    solvers = [str(solver) for solver, _ in _list_parametrized_classes(*found)]
    published = {key[2:]: score for key, score in paper.mgdm_tables().items() if key[:2] == (prior, "Separation")}
    for solver in solvers:
        stems = [published[solver, f"si_sdri_{stem}"].mean for stem in STEMS]
        assert published[solver, "si_sdri_all"].mean == pytest.approx(np.mean(stems), abs=0.011)
    others = {method for method, _ in published} - set(solvers)
    assert others == ({"demucs_512", *(f"mgdm[n_gibbs={n}]" for n in (1, 2, 4))} if prior == "slakh_msdm" else set())


@pytest.mark.parametrize(
    "sigma_max, chunk_length, tracks, applies",
    [
        (20, 262144, ("1876-1900", "1901-1925"), 1),
        (3, 262144, ("1876-1900", "1901-1925"), 0),
        (20, 65536, ("1876-1900", "1901-1925"), 0),
        (20, 262144, ("excerpt",), 0),
        (20, 262144, ("1-25", "26-50"), 0),
    ],
)
def test_separation_is_compared_with_table_9(sigma_max, chunk_length, tracks, applies):
    options = "chunk_length={},prior=slakh_msdm,sigma_max={},tracks={}"
    datasets = [f"slakh2100[{options.format(chunk_length, sigma_max, track)}]" for track in tracks]
    rows = []
    for number, dataset in enumerate(datasets):
        for solver in ("mgdm", "mgdm[n_steps=40]", "msdm[likelihood=dirac]"):
            measured = {"si_sdri_all": [16.0, 17.0], "si_sdri_bass": [18.0, 18.0]}
            first = 2_098_000 if dataset.endswith("excerpt]") else int(tracks[number].split("-")[0]) * 1000
            images = (first, first + 1000)
            rows += cell(dataset, solver, images, measured, task="separation", unit="tracks")
    df = pd.DataFrame(rows)
    (task,) = scores.tasks(df)
    shown = text_rows(paper.paper_comparison(df, task))
    if not applies:
        assert "no published number applies" in shown[0][0]
        return
    half_width = 3.182446 * np.std([16, 17, 16, 17], ddof=1) / 2
    difference = (16.5 - 17.35) / np.hypot(1.01, half_width)
    measured = f"16.50 ± {half_width:.2f}"
    assert shown == [
        ["1", "mgdm", "SI-SDRi ↑", "17.35 ± 1.01", measured, f"{difference:+.2f}", "4"],
        ["2", "mgdm", "SI-SDRi bass ↑", "18.49 ± 0.92", "18.00", f"{(18 - 18.49) / 0.92:+.2f}", "4"],
        ["3", "msdm[likelihood=dirac]", "SI-SDRi ↑", "16.48", measured, tables.MISSING, "4"],
        ["4", "msdm[likelihood=dirac]", "SI-SDRi bass ↑", "17.12", "18.00", tables.MISSING, "4"],
    ]
    notes = paper.paper_comparison(df, task).notes
    assert "over 4 tracks" in notes[1] and "does not report: mgdm[n_steps=40]" in notes[-1]


def test_references_that_see_the_truth_are_marked():
    rows = cell(HALF.format(0), "honest", (0, 1), {"lpips": [0.1, 0.3]})
    assert len(tables.leaderboard(pd.DataFrame(rows), HALF_TASK).notes) == 1
    rows += cell(HALF.format(0), "informed", (0, 1), {"lpips": [0.1, 0.3]}, oracle="sees the truth")
    rows += cell(HALF.format(0), "exact_posterior", (0, 1), {"lpips": [0.1, 0.3]})
    expected = "number 0, no competitors: exact_posterior draws from the exact posterior, informed sees the truth"
    assert tables.leaderboard(pd.DataFrame(rows), HALF_TASK).notes[1] == expected


@pytest.mark.parametrize("oracle_lpips", [0.01, 0.055])
def test_oracles_are_neither_ranked_nor_the_best(oracle_lpips):
    df = with_oracle(oracle_lpips)  # the second mean is the filter's, shown by the same text
    rows = tables.leaderboard(df, HALF_TASK).rows
    assert [row[0].text + row[1].text for row in rows] == ["0informed", "1filter", "2good", "3bad"]
    assert [row[1].text for row in rows if row[2].best] == ["filter"]
    (label,) = scores.comparisons(df)
    overall = tables.overall(df, label)
    assert label == "1 task, 3 solvers" and overall.rows[0][1].text == "filter"
    assert "not ranked: informed, sees the truth" in overall.notes


def test_a_run_of_oracles_alone_ranks_nobody():
    df = with_oracle()
    df = df[df["solver_name"] == "informed"]
    (label,) = scores.comparisons(df)
    assert "a rank needs two solvers" in text_rows(tables.overall(df, label))[0][0]


# Charts and pictures


def test_pareto_front(df):
    points = {point.solver: point for point in charts.tradeoff(df, HALF_TASK, "NFE + VJP")}
    # cheap has no NFE
    assert {solver: point.on_front for solver, point in points.items()} == {"cheap": False, "best": True, "slow": False}
    assert [point.cost for point in points.values()] == [0, 200, 1000]


def test_pareto_front_where_higher_is_better(df):
    df["objective_headline"] = "psnr"  # slow has the highest, cheap the second
    df.loc[df["solver_name"] == "cheap", "objective_nfe"] = 150.0
    points = {point.solver: point.on_front for point in charts.tradeoff(df, HALF_TASK, "NFE + VJP")}
    assert points == {"cheap": True, "best": False, "slow": True}


def with_oracle(oracle_lpips=0.01):
    """Two samplers, a filter without the network and an oracle, better and cheaper than both."""
    rows = cell(HALF.format(0), "good", (0, 1), {"lpips": [0.1, 0.3]}, nfe=100.0)
    rows += cell(HALF.format(0), "bad", (0, 1), {"lpips": [0.4, 0.5]}, nfe=200.0)
    rows += cell(HALF.format(0), "filter", (0, 1), {"lpips": [0.05, 0.06]}, nfe=0.0, seconds_per_image=0.1)
    rows += cell(HALF.format(0), "informed", (0, 1), {"lpips": [oracle_lpips] * 2}, nfe=10.0, oracle="sees the truth")
    return pd.DataFrame(rows)


@pytest.mark.parametrize("axis", charts.COST_AXES)
def test_oracles_and_solvers_without_nfe_are_not_on_the_front(axis):
    df = with_oracle()
    assert [point.solver for point in charts.tradeoff(df, HALF_TASK, axis) if point.on_front] == ["good"]
    without = df[df["solver_name"].isin(["filter", "informed"])]
    assert not any(point.on_front for point in charts.tradeoff(without, HALF_TASK, axis))
    for frame in (df, without):
        chart = base64.b64decode(report.tradeoff_chart(frame, HALF_TASK, axis).split(",")[1].split('"')[0])
        assert (charts.FRONT_LABEL.encode() in chart.replace(b"&gt;", b">")) == (frame is df)


def test_pictures_in_the_order_of_the_leaderboard(df):
    grid, n_columns = pictures.pictures(df, HALF_TASK), pictures.n_columns(df, HALF_TASK, "reconstructions")
    assert n_columns == 5 and len(grid) == 10
    labels = [picture.label for picture in grid[5:]]
    assert labels == ["image 1: truth", "observation", *(f"{s}: LPIPS {v}" for s, v in zip(
        ("best", "cheap", "slow"), ("0.100", "0.150", "0.250"), strict=True))]  # fmt: skip
    np.testing.assert_array_equal(grid[5].pixels, some_pictures()["truth"][1])
    np.testing.assert_array_equal(grid[7].pixels, 255 - some_pictures()["truth"][1])


@pytest.mark.parametrize("observed, shown", [((4, 4, 3), (16, 16, 3)), ((24, 24, 1), (24, 24)), ((7,), (16, 16))])
def test_observations_of_other_shapes(observed, shown):
    stored = some_pictures(observed=observed)
    df = pd.DataFrame(cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]}, stored=stored))
    observation = pictures.pictures(df, HALF_TASK)[1]
    assert observation.pixels.shape == shown
    assert ("not a picture" in observation.label) == (len(observed) == 1)
    if observed == (4, 4, 3):
        np.testing.assert_array_equal(observation.pixels[::4, ::4], stored["observation"][0])
        np.testing.assert_array_equal(observation.pixels[3::4, 3::4], stored["observation"][0])


def test_many_solvers_wrap_and_stay_within_the_budget(monkeypatch):
    rows = []
    for k in range(9):
        rows += cell(HALF.format(0), f"s{k}", (0, 1), {"lpips": [0.1, 0.2]}, stored=some_pictures())
    df = pd.DataFrame(rows)
    grid, n_columns = pictures.pictures(df, HALF_TASK), pictures.n_columns(df, HALF_TASK, "reconstructions")
    assert n_columns == 6 and len(grid) == 24 and sum(picture.pixels is None for picture in grid) == 2
    monkeypatch.setattr(pictures, "PICTURE_BUDGET", 11 * 16 * 16 // 4)
    grid = pictures.pictures(df, HALF_TASK)
    assert len(grid) == 12 and grid[0].pixels.shape == (8, 8, 3)


def test_all_stems_are_shown_however_many_solvers(monkeypatch):
    stems = some_pictures(n=4) | {"stems": STEMS}
    scores = {"si_sdri_all": [9.0, 1.0], **{f"si_sdri_{stem}": [float(k), 0.5] for k, stem in enumerate(STEMS)}}
    track = "slakh2100[prior=slakh_msdm,tracks=1876-1877]"
    rows = [row for k in range(9) for row in cell(track, f"s{k}", (0, 1), scores, stored=stems, task="separation")]
    rows += cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]}, stored=some_pictures())
    monkeypatch.setattr(pictures, "PICTURE_BUDGET", 11 * 16 * 16)  # one stem of four; all of them a third as wide
    grid = pictures.pictures(pd.DataFrame(rows), "slakh2100[prior=slakh_msdm]")
    assert [picture.label for picture in grid if "truth" in picture.label] == [f"{stem}: truth" for stem in STEMS]
    assert [picture.label for picture in grid[2::12]] == [
        f"s0: SI-SDRi {stem} {value}" for stem, value in zip(STEMS, ("0.000", "1.000", "2.000", "3.000"), strict=True)
    ]
    assert grid[0].pixels.shape == (6, 6, 3)


def test_pictures_of_a_task_run_with_other_objective_options():
    """Options that are no part of the task: each solver has one picture, of the same images."""
    rows = cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]}, stored=some_pictures())
    for solver in ("a", "b"):
        more = cell(HALF.format(0), solver, (0, 1), {"lpips": [0.3, 0.4]}, stored=some_pictures())
        rows += [row | {"objective_name": "Posterior sampling[batch_size=2]"} for row in more]
    grid = pictures.pictures(pd.DataFrame(rows), HALF_TASK)
    assert [picture.label for picture in grid[2:4]] == ["a: LPIPS 0.100", "b: LPIPS 0.300"]


# The page


def page_data(df):
    return update_plot_data_style(Benchmark(ROOT).get_plot_data(df, CONFIG["plots"])[0])


def test_page_has_every_plot_for_every_choice(df):
    plots = Benchmark(ROOT).get_plot_data(df, CONFIG["plots"])
    data = update_plot_data_style(plots[0])
    assert CONFIG["plots"][0] == "leaderboard" and set(CONFIG["plots"]) == set(data)
    for kind, options in plots[1].items():
        # the page looks a plot up by its kind and the chosen options
        assert set(data[kind]) == {"_".join([kind, *choice]) for choice in itertools.product(*options.values())}
        for plot in data[kind].values():
            assert plot["title"] and (plot["data"] or re.search(": no (spread|mean|draws|traces),", plot["title"]))
            if plot["type"] == "table":
                assert {len(row) for row in plot["data"]} == {len(plot["columns"])}
    json.dumps(data)


def test_no_plot_name_begins_another():
    """The page finds the options of a plot by the prefix of its name."""
    for one, other in itertools.permutations(CONFIG["plots"], 2):
        assert not one.startswith(other)


@pytest.mark.filterwarnings("ignore:Plot .*cannot be rendered")
def test_every_static_figure_has_a_file_of_its_own(df, tmp_path):
    """benchopt cuts their names at the last dot, that of noise_std=0.05, and takes a slash for a folder."""
    df["dataset_name"] = df["dataset_name"].str.replace("prior=faces64", "prior=org/name")
    n_figures = sum(plot["type"] != "table" for plots in page_data(df).values() for plot in plots.values())
    with benchopt_run.make_context("run", [".", "--no-html"]):
        drawn = ["quality_cost", "sweep", "per_image", "reconstructions", "traces", "calibration"]
        get_figures(Benchmark(ROOT), df, tmp_path, drawn)
    matplotlib.pyplot.close("all")
    assert len(list(tmp_path.rglob("*.pdf"))) == n_figures > 6


def test_page_shows_the_stored_pixels(df):
    plot = page_data(df)["reconstructions"][f"reconstructions_{HALF_TASK}_reconstructions"]
    assert all(item["image"].startswith("data:image/png;base64,") for item in plot["data"])
    first = base64.b64decode(plot["data"][0]["image"].split(",")[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(first))), some_pictures()["truth"][0])


def test_run_without_pictures_or_closed_form_still_makes_a_page():
    rows = cell(HALF.format(0), "a", (0,), {"lpips": [0.1]})
    data = page_data(pd.DataFrame(rows))
    assert data["reconstructions"][f"reconstructions_{pictures.NO_PICTURES}_reconstructions"]["data"] == []
    assert len(data["exactness"][f"exactness_{tables.NO_CLOSED_FORM}"]["data"]) == 1


def objective_rows(dataset):
    """What the objective really writes for its own dummy result."""
    config = {"dataset": [dataset], "solver": ["dps"]}
    data, objective, solver, repetition, problem = next(cells.requested_cells(config))
    assert problem is None
    assert cells.skip_reason(data, objective, solver, repetition) is None
    result = objective.get_one_result()
    return objective(result), objective.save_final_results(**result)


def test_synthetic_results_have_the_columns_of_the_objective():
    rows, stored = objective_rows("ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]")
    assert [row["objective_image"] for row in rows] == [0, 1]
    assert rows[0]["objective_task"] == "half" and rows[0]["objective_headline"] == "lpips"
    synthetic = pd.DataFrame(image_rows())
    assert {c for c in synthetic if c.startswith("objective_")} - {"objective_name"} <= set(rows[0])
    assert {name: array.dtype for name, array in stored.items()} == dict.fromkeys(some_pictures(), np.uint8)
    assert stored["sample"].shape == (2, 64, 64, 3)


def test_spectra_are_stored_on_a_visible_scale():
    _, stored = objective_rows("ffhq_phase_retrieval[prior=faces64_mfa,n_images=2]")
    spectrum = stored["observation"][0]
    assert spectrum.max() == 255  # the zero frequency, thirty times the next ones on a linear scale
    assert np.quantile(spectrum, 0.9) > 25


# The terminal summary


def saved(df, folder):
    return save_results(df, folder / "run.parquet")


def quickstart_rows(solvers=("pseudo_inverse", "ddnm")):
    dataset = "ffhq_inpainting[first=0,hidden=None,mask=half,n_images=2,noise_std=0.05,prior=faces64_mfa,truth=None]"
    return [row for solver in solvers for row in cell(dataset, solver, (0, 1), {"lpips": [0.1, 0.2]})]


CONFIG_TEXT = """
dataset:
  - ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]
solver: [pseudo_inverse, ddnm]
"""


def test_summary_prints_tables_and_ends_with_the_page(df, tmp_path, capsys):
    path = saved(df, tmp_path)
    page = tmp_path / f"{Benchmark(ROOT).name}_run.html"
    page.touch()
    assert main(["table", str(path)]) == 0
    out = capsys.readouterr().out
    assert HALF_TASK in out and "0.150 ± 0.092" in out and "LPIPS: AlexNet" in out
    assert out.splitlines()[-1] == f"page: {page}"


def test_summary_with_all_cells(tmp_path, capsys):
    (tmp_path / "c.yml").write_text(CONFIG_TEXT)
    path = saved(pd.DataFrame(quickstart_rows()), tmp_path)
    assert main(["table", str(path), "--expect", str(tmp_path / "c.yml")]) == 0
    assert "missing" not in capsys.readouterr().out


def test_summary_names_the_missing_cell(tmp_path, capsys):
    (tmp_path / "c.yml").write_text(CONFIG_TEXT)
    path = saved(pd.DataFrame(quickstart_rows(("ddnm",))), tmp_path)
    assert main(["table", str(path), "--expect", str(tmp_path / "c.yml")]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]
    assert "pseudo_inverse on ffhq_inpainting[first=0,hidden=None,mask=half" in line


def test_summary_accepts_a_skip_with_a_reason(tmp_path, capsys):
    config = CONFIG_TEXT.replace("solver:", "  - ffhq_phase_retrieval[prior=faces64_mfa,n_images=2]\nsolver:")
    (tmp_path / "c.yml").write_text(config)
    path = saved(pd.DataFrame(quickstart_rows()), tmp_path)
    assert main(["table", str(path), "--expect", str(tmp_path / "c.yml")]) == 0
    skipped = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped")]
    assert len(skipped) == 2 and "ddnm needs svd" in skipped[1]


@pytest.mark.parametrize("command", ["table", "report", "listen", "export", "publish", "site"])
def test_files_that_are_no_results_are_one_error(command, df, tmp_path, capsys):
    other, empty, text, damaged = (tmp_path / name for name in ("o.parquet", "e.parquet", "README.rst", "d.parquet"))
    save_results(pd.DataFrame({"x": [1]}), other)
    save_results(df[:0], empty)
    text.write_text("words")
    damaged.write_text("words")
    more = {"export": [str(tmp_path / "out")], "publish": ["org/name"], "site": ["--output", str(tmp_path / "out")]}
    for path in (other, empty, text, damaged):
        with pytest.raises(SystemExit, match="2"):
            main([command, str(path), *more.get(command, [])])
        assert str(path) in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_what_the_results_cannot_be_written_to_is_one_error(df, tmp_path, capsys, monkeypatch):
    path, file = saved(df, tmp_path), tmp_path / "file"
    file.touch()
    monkeypatch.setattr("benchopt.results.hugging_face.HfApi.whoami", no_login)
    for arguments in (["export", str(path), str(file)], ["publish", str(path), "org/name"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert arguments[-1] in capsys.readouterr().err.splitlines()[-1]


def no_login(self):
    raise LocalTokenNotFoundError("no token")


def test_summary_reports_a_solver_that_does_not_import():
    class Broken:
        name = "broken"
        _exc = ValueError("broken: needs has lineer, which is no capability")

        @classmethod
        def is_installed(cls, raise_on_not_installed=False):
            return False

    reason = "not imported: ValueError: broken: needs has lineer, which is no capability"
    assert list(cells._instances([(Broken, {})])) == [("broken", reason)]


# The report


def test_report_is_self_contained(df, tmp_path, capsys):
    path = saved(df, tmp_path)
    main(["report", str(path)])
    page = Path(capsys.readouterr().out.splitlines()[-1])
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "run_report.html"
    addresses = re.findall(r'(?:src|href)="([^"]{5})', text)
    assert addresses and all(address == "data:" or address.startswith("#") for address in addresses)
    assert "<link" not in text and "url(" not in text
    assert text.count("<th>") > 20 and text.count('<figure><img src="data:image/png') == 3 * 10
    assert text.count("data:image/svg+xml") == 2 * 3


def test_columns_sort_by_plain_numbers():
    table = tables.Table("t", [], {}, ["x"], [[tables.Cell("-7.07", np.float64(-7.07))], [tables.Cell("1", 1)]])
    assert re.findall('data-value="(.*?)"', report.table_html(table)) == ["-7.07", "1.0"]


# Ranks over tasks

OTHER_TASK = "ffhq_t[first=0,n_images=60,noise_std=0.05]"


def ranked_rows(dataset, losses, shift=0):
    """Rows of a task; ``losses`` are {solver: LPIPS of each image}, the images numbered from ``shift``."""
    return [
        row | {"objective_truth_digest": f"x{row['objective_image']}"}
        for solver, values in losses.items()
        for row in cell(dataset, solver, range(shift, shift + len(values)), {"lpips": list(values)})
    ]


def only_comparison(df):
    ((chosen, solvers),) = scores.comparisons(df).values()
    return scores.standings(df, chosen, solvers)[0]


def test_pairing_orders_solvers_whose_intervals_overlap():
    images = np.random.default_rng(0).uniform(0.1, 0.9, 60)  # half-width of the mean 0.06, the difference is 0.01
    df = pd.DataFrame(ranked_rows(OTHER_TASK, {"a": images + 0.01, "b": images}))
    first, second = only_comparison(df)
    assert first == scores.Standing("b", 1.0, 1.0, 1.0, 1.0, 1)
    assert second[:4] == ("a", 2.0, 2.0, 2.0) and np.isnan(second.ahead) and second.n_won == 0


def test_share_of_resamples_is_that_of_the_paired_difference():
    n, mean = 60, 0.2
    difference = np.random.default_rng(1).normal(size=n)
    difference = mean + (difference - difference.mean()) / difference.std()
    df = pd.DataFrame(ranked_rows(OTHER_TASK, {"worse": difference, "better": np.zeros(n)}))
    first, _ = only_comparison(df)
    expected = norm.cdf(mean * n**0.5)  # 0.939; 2000 resamples have a standard error of 0.005, the normal law of 0.01
    assert first.solver == "better" and first.ahead == pytest.approx(expected, abs=0.03)
    assert (first.low, first.high) == (1, 2)


def test_tasks_with_the_same_images_share_the_resample():
    losses = {"worse": np.random.default_rng(2).normal(0.1, 1, 60), "better": np.zeros(60)}
    same, other = (OTHER_TASK.replace("_t", f"_{name}") for name in ("same", "other"))
    shared = only_comparison(pd.DataFrame(ranked_rows(OTHER_TASK, losses) + ranked_rows(same, losses)))
    apart = only_comparison(pd.DataFrame(ranked_rows(OTHER_TASK, losses) + ranked_rows(other, losses, shift=60)))
    alone = only_comparison(pd.DataFrame(ranked_rows(OTHER_TASK, losses)))
    assert shared[0].ahead == alone[0].ahead  # the second task says nothing new
    assert (shared[0].low, shared[0].high) == (1, 2)
    assert (apart[0].low, apart[0].high) == (1, 1.5)  # losing both has a chance of 0.08 ** 2
    named_alike = pd.DataFrame(ranked_rows(OTHER_TASK, losses) + ranked_rows(same, losses))
    assert only_comparison(named_alike.drop(columns="objective_truth_digest")) == apart


def test_only_solvers_of_all_compared_tasks_are_ranked_and_the_others_named(df):
    label, (chosen, solvers) = next(iter(scores.comparisons(df).items()))
    assert (label, chosen, set(solvers)) == ("1 task, 3 solvers", [HALF_TASK], {"slow", "best", "cheap"})
    table = tables.overall(df, label)
    assert [(row[1].text, row[2].text) for row in table.rows] == [
        ("best", "1.00 [1.00, 1.00]"),
        ("cheap", "2.00 [2.00, 2.00]"),
        ("slow", "3.00 [3.00, 3.00]"),
    ]
    notes = "; ".join(table.notes)
    assert f"not ranked: biased, no score on {HALF_TASK}" in notes
    assert "not compared: gaussian_mixture[dim=8,dim_y=1]" in notes and "bootstrap" in table.definitions["mean rank"]


def test_all_solvers_of_the_compared_tasks_are_ranked():
    """The last two have as many tasks as the one that the entry began with: they are in it, and the notes are whole."""
    ran = {"a": "tuv", "b": "tu", "c": "tv", "d": "tu"}
    parts = [(OTHER_TASK.replace("_t", f"_{task}"), solver) for solver, names in ran.items() for task in names]
    df = pd.DataFrame([row for task, solver in parts for row in ranked_rows(task, {solver: [0.1, 0.2]})])
    found = {tuple(chosen): set(solvers) for chosen, solvers in scores.comparisons(df).values()}
    assert {len(chosen): solvers for chosen, solvers in found.items()} == {2: set("abd"), 1: set("abcd")}
    notes = [note for label in scores.comparisons(df) for note in tables.overall(df, label).notes]
    assert not any(note.endswith("no score on ") for note in notes)


def test_one_image_gives_no_interval_and_no_certainty():
    one = pd.DataFrame(ranked_rows(OTHER_TASK, {"a": [0.1], "b": [0.2]}))
    several = ranked_rows(OTHER_TASK.replace("_t", "_u"), {"a": [0.1, 0.3, 0.1], "b": [0.2, 0.2, 0.2]})
    for df in (one, pd.concat([one, pd.DataFrame(several)])):
        (label,) = scores.comparisons(df)
        table = tables.overall(df, label)
        assert [row[1:4] for row in text_rows(table)] == [["a", "1.00", tables.MISSING], ["b", "2.00", tables.MISSING]]
        assert table.notes[1].endswith("one image shows no variation: ffhq_t[noise_std=0.05]")
    assert "[" in text_rows(tables.overall(pd.DataFrame(several), "1 task, 2 solvers"))[0][2]


def test_ranks_stand_beside_their_cost_and_equal_ones_share_a_number():
    rows = []
    for task, nfe in ((OTHER_TASK, 10), (OTHER_TASK.replace("_t", "_u"), 30)):
        for row in ranked_rows(task, {"a": [0.1, 0.2], "b": [0.2, 0.1]}):
            rows.append(row | {"objective_nfe": nfe if row["solver_name"] == "a" else 20.0, "objective_vjp": 0.0})
    df = pd.DataFrame(rows)
    (label,) = scores.comparisons(df)
    table = tables.overall(df, label)
    assert table.columns[-2:] == ["NFE", "VJP"] and "NFE" in table.definitions
    assert {row[1]: (row[0], *row[-2:]) for row in text_rows(table)} == {
        "a": ("1", "10 to 30", "0"),
        "b": ("1", "20", "0"),
    }


def test_ranks_use_the_images_that_all_solvers_have():
    df = pd.DataFrame(ranked_rows(OTHER_TASK, {"a": [0.1, 0.1, 0.9], "b": [0.2, 0.2]}))
    (chosen, solvers), *_ = scores.comparisons(df).values()
    found, n_images = scores.standings(df, chosen, solvers)
    assert found[0].solver == "a" and set(n_images.values()) == {2}


# Errors, zoom, spread, several samples


def test_error_map_and_zoom_show_where_a_sample_is_wrong():
    stored = some_pictures()
    stored["sample"] = stored["truth"].copy()
    stored["sample"][:, 8:12, 3:7] = 255 - stored["sample"][:, 8:12, 3:7]
    df = pd.DataFrame(cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]}, stored=stored))
    truth, observation, error = pictures.pictures(df, HALF_TASK, "error")[:3]
    wrong = error.pixels.sum(2) > pictures.heat(np.zeros((1, 1)), 1).sum()
    assert wrong[8:12, 3:7].mean() > 0.9 and not np.delete(wrong, range(8, 12), axis=0).any()
    mean = np.abs(stored["sample"][0].astype(float) - stored["truth"][0]).mean() / 255
    assert error.label == f"a: mean {mean:.3f}"
    zoomed = pictures.pictures(df, HALF_TASK, "zoom")
    assert [picture.pixels.shape for picture in zoomed[:3]] == [(5, 5, 3)] * 3
    window = pictures.zoom_window(pictures.absolute_error(stored["sample"][0], stored["truth"][0]))
    assert window[0].start in (7, 8) and window[1].start in (2, 3)
    np.testing.assert_array_equal(zoomed[0].pixels, stored["truth"][0][window])


def test_spread_and_scores_of_several_samples(df):
    assert pictures.pictures(df, HALF_TASK, "spread") == []
    assert "no spread" in pictures.title(df, HALF_TASK, "spread")
    assert "n_samples" in text_rows(tables.samples(df, tables.samples_tasks(df)[0]))[0][0]
    stored = some_pictures() | {"spread": np.full((2, 16, 16), 51, np.uint8)}
    scores = {
        "lpips": [0.3, 0.5],
        "lpips_best": [0.2, 0.2],
        "psnr": [20, 21],
        "psnr_mean": [22, 23],
        "spread": [0.2, 0.3],
    }
    several = pd.DataFrame(cell(HALF.format(0), "a", (0, 1), scores, stored=stored, p_obj_n_samples=4))
    assert pictures.pictures(several, HALF_TASK, "spread")[2].label == "a: mean 0.200"
    assert tables.samples_tasks(several) == [HALF_TASK]
    table = tables.samples(several, HALF_TASK)
    assert table.columns[2:] == ["LPIPS ↓", "PSNR ↑", "best LPIPS ↓", "PSNR of the mean ↑", "spread"]
    assert "spread" not in tables.leaderboard(several, HALF_TASK).columns


def test_objective_stores_the_spread_of_its_samples():
    config = {"dataset": ["ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]"], "solver": ["dps"]}
    dataset, objective, solver, repetition, _ = next(cells.requested_cells(config))
    assert cells.skip_reason(dataset, objective, solver, repetition) is None
    objective.draws_per_image = 4
    samples = torch.full((2, 4, 3, 64, 64), -0.25)
    samples[:, ::2] = 0.25
    standard_deviation = 0.25 * (4 / 3) ** 0.5
    stored = objective.save_final_results(samples=samples)["spread"]
    assert stored.shape == (2, 64, 64) and set(np.unique(stored)) == {round(255 * standard_deviation)}


# Missing cells


def note_attempt(folder, cell_names, error=None):
    """What a solver or objective leaves of a cell that raised, or that was killed."""
    dataset, objective, solver, repetition = cell_names
    worker = SimpleNamespace(
        _run_context=RunContext(
            run_output_base=folder / "run",
            dataset_name=dataset,
            objective_name=objective,
            solver_name=solver,
            repetition=repetition,
        )
    )

    def work(self):
        if error is not None:
            raise error

    if error is None:
        attempts.record_attempt(work)(worker)
    else:
        with pytest.raises(type(error)):
            attempts.record_attempt(work)(worker)
    return worker


def test_page_says_which_cells_are_missing_and_why(tmp_path):
    phase = "ffhq_phase_retrieval[first=0,n_images=2,noise_std=0.05,prior=faces64_mfa]"
    df = pd.DataFrame(quickstart_rows(("pseudo_inverse", "ddnm")) + cell(phase, "dps", (0, 1), {"lpips": [0.1, 0.2]}))
    half = df["dataset_name"].iloc[0]
    note_attempt(tmp_path, (half, "Posterior sampling", "dps", 0), FloatingPointError("image 1 is not finite"))
    rows = text_rows(tables.missing(df, outputs=tmp_path))
    found = {(row[1], row[2].split("[")[0], row[3]): row[5] for row in rows}
    assert set(found) == {
        ("dps", "ffhq_inpainting", "missing"),
        ("pseudo_inverse", "ffhq_phase_retrieval", "skipped"),
        ("ddnm", "ffhq_phase_retrieval", "skipped"),
    }
    assert "FloatingPointError: image 1 is not finite" in found["dps", "ffhq_inpainting", "missing"]
    assert "ddnm needs svd" in found["ddnm", "ffhq_phase_retrieval", "skipped"]


def test_a_killed_cell_is_told_from_one_that_finished(tmp_path):
    names = ("d", "o", "s", 0)
    worker = note_attempt(tmp_path, names)
    assert "was stopped" in attempts.last_attempt(tmp_path, names)
    attempts.forget_attempt(worker)
    assert attempts.last_attempt(tmp_path, names) is None


def test_missing_cells_of_a_config_include_solvers_without_any_row(tmp_path):
    df = pd.DataFrame(quickstart_rows(("ddnm",)))
    table = tables.missing(df, yaml.safe_load(CONFIG_TEXT), tmp_path)
    assert [(row[1].text, row[3].text) for row in table.rows] == [("pseudo_inverse", "missing")]
    complete = pd.DataFrame(quickstart_rows())
    assert "no cell is missing" in text_rows(tables.missing(complete, yaml.safe_load(CONFIG_TEXT), tmp_path))[0][0]


def test_shards_and_unknown_names_are_grouped(tmp_path):
    rows = [row for first in (0, 2) for row in cell(HALF.format(first), "a", (first,), {"lpips": [0.1]})]
    for solver in ("a", "b"):
        rows += cell("elsewhere[kind=x]", solver, (0,), {"lpips": [0.1]})
    (row,) = text_rows(tables.missing(pd.DataFrame(rows), outputs=tmp_path))
    assert row[1:5] == ["b", HALF_TASK, "missing", "2"] and row[5] == cells.NO_ROW


def test_a_dataset_that_raises_here_is_told(tmp_path):
    damaged = "slakh2100[chunk_length=0]"
    rows = cell(HALF.format(0), "a", (0,), {"lpips": [0.1]})
    for dataset, solver in ((HALF.format(0), "silence"), (damaged, "a")):
        rows += cell(dataset, solver, (0,), {"lpips": [0.1]})
    (row,) = text_rows(tables.missing(pd.DataFrame(rows), outputs=tmp_path))
    assert row[1] == "silence" and row[3] == "missing"
    assert "chunk_length must be a whole number of 1 or more, got 0" in row[5]


def test_request_of_a_command_line_and_its_config(tmp_path):
    (tmp_path / "c.yml").write_text(CONFIG_TEXT + "n-repetitions: 3\n")
    arguments = [".", "--config", str(tmp_path / "c.yml"), "-s", "mgdm", "-f", "dps"]
    with benchopt_run.make_context("run", arguments):
        request = cells.command_line_request()
    assert request["solver"] == ["mgdm", "dps"] and request["n-repetitions"] == 3
    assert request["dataset"] == ["ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]"]
    assert cells.command_line_request() is None
