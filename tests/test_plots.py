"""The page, the terminal summary and the report, on results with the columns that the objective writes."""

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from benchopt.benchmark import Benchmark
from benchopt.plotting.helpers import update_plot_data_style
from benchopt.results import save_results
from PIL import Image

from benchmark_utils import report, results, summary

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "config.yml").read_text())


def cell(dataset, solver, images, scores, repetition=0, pictures=None, **extra):
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
        meta |= {f"p_dataset_{k}": float(v) if v[0].isdigit() else v for k, v in parameters.items()}
        rows.append(meta | {f"objective_{k}": v for k, v in row.items()} | {"final_results": None})
    rows[-1]["final_results"] = pictures
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
            rows += cell(HALF.format(first), solver, images, scores, pictures=some_pictures(), nfe=cost)
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
    assert results.task_label("d[first=0,n_images=4]", "Posterior sampling") == "d"
    assert results.task_label("d[factor=4,first=0,n_images=4,rate=None]", "Posterior sampling") == "d[factor=4]"
    assert results.task_label("d[first=50,kind=a]", "Posterior sampling[n_samples=4]") == "d[kind=a] n_samples=4"
    assert results.task_label("d[prior=p,tracks=1876-2100]", "Posterior sampling") == "d[prior=p]"
    assert results.task_label("d[prior=p,tracks=excerpt]", "Posterior sampling") == "d[prior=p,tracks=excerpt]"
    assert results.task_label("d[first_level=2,reseed=1]", "Posterior sampling") == "d[first_level=2,reseed=1]"


def test_scores_of_shards_are_those_of_one_run(df):
    rows = results.rows_of(df, HALF_TASK)
    score = results.scores(rows)["best"]["lpips"]
    values = np.array([0.1, 0.1, 0.2, 0.2])
    assert score.n == 4
    np.testing.assert_allclose(score[:2], [0.15, 1.96 * values.std(ddof=1) / 2], rtol=1e-12)


def test_overlapping_shards_and_repetitions_count_an_image_once():
    rows = cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.3]})
    rows += cell(HALF.format(1), "a", (1, 2), {"lpips": [0.3, 0.5]})
    rows += cell(HALF.format(0), "b", (0, 1), {"lpips": [0.1, 0.3]}, repetition=0)
    rows += cell(HALF.format(0), "b", (0, 1), {"lpips": [0.3, 0.5]}, repetition=1)
    summary = results.scores(pd.DataFrame(rows))
    assert summary["a"]["lpips"].n == 3 and summary["a"]["lpips"].mean == pytest.approx(0.3)
    assert summary["b"]["lpips"].n == 2 and summary["b"]["lpips"].mean == pytest.approx(0.3)


def test_random_problems_are_told_apart_by_their_seed(df):
    task = "gaussian_mixture[dim=8,dim_y=1]"
    assert results.scores(results.rows_of(df, task))["biased"]["sliced_wasserstein"].n == 3


def test_headline_is_the_datasets_first_metric_whatever_ran_before(df):
    assert results.headline(results.rows_of(df, HALF_TASK)) == "lpips"
    assert results.headline(results.rows_of(df, "gaussian_mixture[dim=8,dim_y=1]")) == "sliced_wasserstein"


@pytest.mark.parametrize(
    "score, text",
    [
        (results.Score(0.1234, 0.0321, 4), "0.123 ± 0.032"),
        (results.Score(25.678, 1.2, 4), "25.68 ± 1.20"),
        (results.Score(0.00123, 0.0004, 4), "0.00123 ± 0.00040"),
        (results.Score(3e-30, 1e-30, 4), "0.000 ± 0.000"),
        (results.Score(0.5, np.nan, 1), "0.500"),
        (results.Score(np.nan, np.nan, 2), "nan"),
    ],
)
def test_score_as_text(score, text):
    assert str(score) == text


# Tables


def test_leaderboard_is_sorted_with_arrows_and_the_best_in_bold(df):
    table = results.leaderboard(df, HALF_TASK)
    assert [row[1].text for row in table.rows] == ["best", "cheap", "slow"]
    assert table.columns == ["#", "solver", "LPIPS ↓", "PSNR ↑", "data misfit", "NFE ↓", "VJP ↓", "s / image ↓"]
    assert [[row[1].text for row in table.rows if row[j].best] for j in (2, 3, 4, 5)] == [["best"], ["slow"], [], []]
    assert {"LPIPS", "PSNR", "data misfit", "NFE", "VJP", "s / image"} == set(table.definitions)
    assert "over 4 images" in table.notes[0] and "1.96 sd / √n" in table.notes[0]


def test_unmeasured_and_incomplete_cells_show(df):
    df.loc[df["solver_name"] == "best", "objective_peak_memory_gb"] = 1.5
    df = df[~((df["solver_name"] == "slow") & (df["objective_image"] == 3))]
    table = results.leaderboard(df, HALF_TASK)
    memory, n = table.columns.index("memory GB ↓"), table.columns.index("n")
    assert [row[memory].text for row in table.rows] == ["1.500", results.MISSING, results.MISSING]
    assert [row[n].text for row in table.rows] == ["4", "4", "3"]


def test_page_sorts_cells_by_their_numbers_though_it_compares_text():
    values = [9.812, 12.34, 0.5, 101.2]
    cells = [results.Cell(str(results.Score(value, 0.1, 4)), value) for value in values]
    rows = [[results.Cell("solver"), value] for value in cells]
    metadata, shown = results.page_table(results.Table("t", ["note"], {"a": "b"}, ["solver", "PSNR ↑"], rows))
    # text order of the page (ICU) puts spaces before digits, as the order of code points does not
    as_compared = [text.replace(results.FIGURE_SPACE, " ") for _, text in shown]
    assert sorted(as_compared) == [as_compared[i] for i in np.argsort(values)]
    assert metadata["title"] == "t\nnote\na: b"
    assert all(len(row) == len(metadata["columns"]) for row in shown)


def test_exactness_starts_with_the_floor(df):
    task = "gaussian_mixture[dim=8,dim_y=1]"
    assert results.exactness_tasks(df) == [task]
    rows = text_rows(results.exactness(df, task))
    assert [row[1] for row in rows] == ["floor of exact draws", "exact_posterior", "biased"]
    assert rows[0][2:5] == ["0.250", "0.0300", "1.000"]
    assert rows[1][2].startswith("0.400 ± 0.113")  # 0.3, 0.4, 0.5: 1.96 * 0.1 / sqrt(3)


def test_exactness_without_a_closed_form_says_what_to_run():
    df = pd.DataFrame(image_rows())
    (task,) = results.exactness_tasks(df)
    assert "n_samples" in text_rows(results.exactness(df, task))[0][0]


@pytest.mark.parametrize("prior, noise_std, applies", [("ffhq256", 0.05, 1), ("faces64", 0.05, 0), ("ffhq256", 0.3, 0)])
def test_paper_comparison(prior, noise_std, applies):
    dataset = f"ffhq_inpainting[first=0,mask=half,n_images=2,noise_std={noise_std},prior={prior}]"
    rows = cell(dataset, "pnp_dm", (0, 1), {"lpips": [0.2, 0.3]}) + cell(
        dataset, "unpublished", (0, 1), {"lpips": [1, 1]}
    )
    df = pd.DataFrame(rows)
    table = results.paper_comparison(df, results.tasks(df)[0])
    if not applies:
        assert "no published number applies" in text_rows(table)[0][0]
        return
    theirs = results.mgdm_tables()["ffhq_pixel", "Half mask", "pnp_dm", "lpips"]
    half_width = 1.96 * np.std([0.2, 0.3], ddof=1) / 2**0.5
    difference = (0.25 - theirs.mean) / np.hypot(max(theirs.half_width, 0.005), half_width)
    published = f"{theirs.mean:.2f} ± {theirs.half_width:.2f}"
    shown = ["1", "pnp_dm", "LPIPS ↓", published, f"0.250 ± {half_width:.3f}", f"{difference:+.2f}", "2"]
    assert text_rows(table) == [shown]


def test_paper_comparison_of_solvers_without_published_numbers():
    dataset = "ffhq_inpainting[first=0,mask=half,n_images=2,noise_std=0.05,prior=ffhq256]"
    df = pd.DataFrame(cell(dataset, "unpublished", (0, 1), {"lpips": [0.2, 0.3]}))
    metadata, rows = results.page_table(results.paper_comparison(df, results.tasks(df)[0]))
    assert metadata["columns"] == ["note"] and len(rows) == 1


def test_phase_retrieval_is_compared_by_its_best_sample():
    dataset = "ffhq_phase_retrieval[first=0,n_images=2,noise_std=0.05,prior=ffhq256]"
    measured = {"lpips": [0.4, 0.6], "psnr": [20.0, 21.0], "lpips_best": [0.1, 0.2]}
    df = pd.DataFrame(cell(dataset, "mgdm", (0, 1), measured, task="phase_retrieval"))
    (row,) = text_rows(results.paper_comparison(df, results.tasks(df)[0]))
    assert row[2] == "best LPIPS ↓" and row[4].startswith("0.150 ±")


def test_every_published_task_and_method_is_found():
    keys = {key[:2] for key in results.mgdm_tables()}
    assert keys == set(itertools.product(results.MGDM_PRIORS.values(), results.MGDM_TASKS.values()))
    solvers = {key[2] for key in results.mgdm_tables()}
    assert solvers == {"mgdm", "dps", "pgdm", "ddnm", "diffpir", "reddiff", "daps", "pnp_dm", "psld", "resample"}


# Charts and pictures


def test_pareto_front(df):
    points = {point.solver: point for point in results.tradeoff(df, HALF_TASK, "NFE + VJP")}
    assert {solver: point.on_front for solver, point in points.items()} == {"cheap": True, "best": True, "slow": False}
    assert [point.cost for point in points.values()] == [0, 200, 1000]


def test_pareto_front_where_higher_is_better(df):
    df["objective_headline"] = "psnr"  # slow has the highest, cheap the second
    points = {point.solver: point.on_front for point in results.tradeoff(df, HALF_TASK, "NFE + VJP")}
    assert points == {"cheap": True, "best": False, "slow": True}


def test_pictures_in_the_order_of_the_leaderboard(df):
    grid, n_columns = results.pictures(df, HALF_TASK)
    assert n_columns == 5 and len(grid) == 10
    labels = [picture.label for picture in grid[5:]]
    assert labels == ["image 1: truth", "observation", *(f"{s}: LPIPS {v}" for s, v in zip(
        ("best", "cheap", "slow"), ("0.100", "0.150", "0.250"), strict=True))]  # fmt: skip
    np.testing.assert_array_equal(grid[5].pixels, some_pictures()["truth"][1])
    np.testing.assert_array_equal(grid[7].pixels, 255 - some_pictures()["truth"][1])


@pytest.mark.parametrize("observed, shown", [((4, 4, 3), (16, 16, 3)), ((24, 24, 1), (24, 24)), ((7,), (16, 16))])
def test_observations_of_other_shapes(observed, shown):
    pictures = some_pictures(observed=observed)
    df = pd.DataFrame(cell(HALF.format(0), "a", (0, 1), {"lpips": [0.1, 0.2]}, pictures=pictures))
    observation = results.pictures(df, HALF_TASK)[0][1]
    assert observation.pixels.shape == shown
    assert ("not a picture" in observation.label) == (len(observed) == 1)
    if observed == (4, 4, 3):
        np.testing.assert_array_equal(observation.pixels[::4, ::4], pictures["observation"][0])
        np.testing.assert_array_equal(observation.pixels[3::4, 3::4], pictures["observation"][0])


def test_many_solvers_wrap_and_stay_within_the_budget(monkeypatch):
    rows = []
    for k in range(9):
        rows += cell(HALF.format(0), f"s{k}", (0, 1), {"lpips": [0.1, 0.2]}, pictures=some_pictures())
    df = pd.DataFrame(rows)
    grid, n_columns = results.pictures(df, HALF_TASK)
    assert n_columns == 8 and len(grid) == 32 and sum(picture.pixels is None for picture in grid) == 10
    monkeypatch.setattr(results, "PICTURE_BUDGET", 11 * 16 * 16 // 4)
    grid, _ = results.pictures(df, HALF_TASK)
    assert len(grid) == 16 and grid[0].pixels.shape == (8, 8, 3)


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
            assert plot["title"] and plot["data"]
            if plot["type"] == "table":
                assert {len(row) for row in plot["data"]} == {len(plot["columns"])}
    json.dumps(data)


def test_no_plot_name_begins_another():
    """The page finds the options of a plot by the prefix of its name."""
    for one, other in itertools.permutations(CONFIG["plots"], 2):
        assert not one.startswith(other)


def test_page_shows_the_stored_pixels(df):
    plot = page_data(df)["reconstructions"][f"reconstructions_{HALF_TASK}"]
    assert all(item["image"].startswith("data:image/png;base64,") for item in plot["data"])
    first = base64.b64decode(plot["data"][0]["image"].split(",")[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(first))), some_pictures()["truth"][0])


def test_run_without_pictures_or_closed_form_still_makes_a_page():
    rows = cell(HALF.format(0), "a", (0,), {"lpips": [0.1]})
    data = page_data(pd.DataFrame(rows))
    assert data["reconstructions"][f"reconstructions_{results.NO_PICTURES}"]["data"] == []
    assert len(data["exactness"][f"exactness_{results.NO_CLOSED_FORM}"]["data"]) == 1


def objective_rows(dataset):
    """What the objective really writes for its own dummy result."""
    config = {"dataset": [dataset], "solver": ["dps"]}
    data, objective, solver, repetition, problem = next(summary.requested_cells(config))
    assert problem is None
    assert summary.skip_reason(data, objective, solver, repetition) is None
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
    dataset = "ffhq_inpainting[first=0,mask=half,n_images=2,noise_std=0.05,prior=faces64_mfa]"
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
    assert summary.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert HALF_TASK in out and "0.150 ± 0.057" in out and "LPIPS: AlexNet" in out
    assert out.splitlines()[-1] == f"page: {page}"


def test_summary_with_all_cells(tmp_path, capsys):
    (tmp_path / "c.yml").write_text(CONFIG_TEXT)
    path = saved(pd.DataFrame(quickstart_rows()), tmp_path)
    assert summary.main([str(path), "--expect", str(tmp_path / "c.yml")]) == 0
    assert "missing" not in capsys.readouterr().out


def test_summary_names_the_missing_cell(tmp_path, capsys):
    (tmp_path / "c.yml").write_text(CONFIG_TEXT)
    path = saved(pd.DataFrame(quickstart_rows(("ddnm",))), tmp_path)
    assert summary.main([str(path), "--expect", str(tmp_path / "c.yml")]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]
    assert "pseudo_inverse on ffhq_inpainting[first=0,mask=half" in line


def test_summary_accepts_a_skip_with_a_reason(tmp_path, capsys):
    config = CONFIG_TEXT.replace("solver:", "  - ffhq_phase_retrieval[prior=faces64_mfa,n_images=2]\nsolver:")
    (tmp_path / "c.yml").write_text(config)
    path = saved(pd.DataFrame(quickstart_rows()), tmp_path)
    assert summary.main([str(path), "--expect", str(tmp_path / "c.yml")]) == 0
    skipped = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped")]
    assert len(skipped) == 2 and "ddnm needs svd" in skipped[1]


def test_summary_reports_a_solver_that_does_not_import():
    class Broken:
        name = "broken"

        @classmethod
        def is_installed(cls, raise_on_not_installed=False):
            return False

    assert list(summary._instances([(Broken, {})])) == [
        ("broken", "not installed: a package that it imports is missing")
    ]


def test_summary_and_report_refuse_a_missing_file(capsys):
    for main in (summary.main, report.main):
        with pytest.raises(SystemExit, match="2"):
            main(["nowhere.parquet"])
        assert "nowhere.parquet does not exist" in capsys.readouterr().err


# The report


def test_report_is_self_contained(df, tmp_path, capsys):
    path = saved(df, tmp_path)
    report.main([str(path)])
    page = Path(capsys.readouterr().out.splitlines()[-1])
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "run_report.html"
    addresses = re.findall(r'(?:src|href)="([^"]{5})', text)
    assert addresses and all(address == "data:" or address.startswith("#") for address in addresses)
    assert "<link" not in text and "url(" not in text
    assert text.count("<th>") > 20 and text.count('<figure><img src="data:image/png') == 10
    assert text.count("data:image/svg+xml") == 4


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_report_sorts_in_a_browser(df, tmp_path):
    page = tmp_path / "page.html"
    click = "<script>document.querySelectorAll('th')[3].click()</script></body>"  # PSNR, ascending
    page.write_text(report.report(df, "test").replace("</body>", click), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", f"file://{page}"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    body = re.search(r"<tbody>.*?</tbody>", dom, re.S)[0]
    assert re.findall(r'<td class="text">(\w+)<', body) == ["best", "cheap", "slow"]
    assert 'aria-sort="ascending"' in dom
