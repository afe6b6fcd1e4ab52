"""The pages in a real browser, at full size, and what ``benchopt publish`` sends."""

import io
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from benchopt.benchmark import Benchmark
from benchopt.cli.process_results import publish
from benchopt.plotting import generate_html
from benchopt.results import read_results, save_results
from browser import needs_chromium, needs_page_scripts, probe, screenshot, with_local_scripts
from helpers import ROOT, benchopt, commit_all, copied_benchmark, git
from test_plots import CONFIG, HALF_TASK, image_rows, mixture_rows

from benchmark_utils import provenance
from benchmark_utils.results import publish as our_publish
from benchmark_utils.results import report, scores

SHOWN = "const shown = [...document.querySelectorAll('section')].filter(s => !s.hidden);"
SORT_AND_SWITCH = (
    SHOWN
    + """
const column = name => {
  const table = shown[0].querySelector('table'), names = [...table.tHead.rows[0].cells];
  const index = names.findIndex(th => th.textContent.startsWith(name));
  return [names[index], () => [...table.tBodies[0].rows].map(row => row.cells[index].dataset.value)];
};
const [psnr, values] = column('PSNR');
psnr.click(); const rising = values(); psnr.click(); const falling = values();
const chooser = document.getElementById('chooser'), titles = [];
for (const option of chooser.options) {
  chooser.value = option.value; chooser.dispatchEvent(new Event('change'));
  const open = [...document.querySelectorAll('section')].filter(s => !s.hidden);
  titles.push([option.textContent, open.length, open[0].querySelector('h2').textContent]);
}
return {rising, falling, titles};
"""
)


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(image_rows() + mixture_rows())


def assert_sorts_and_switches(text, folder):
    found = probe(text, SORT_AND_SWITCH, folder)
    rising, falling = (np.array(found[name], float) for name in ("rising", "falling"))
    assert len(rising) > 1 and (np.diff(rising) >= 0).all() and (np.diff(falling) <= 0).all()
    *single, everything = found["titles"]
    assert all(n_open == 1 and title == name for name, n_open, title in single)
    assert everything[1] == len(single)


# The report in a browser


@needs_chromium
def test_report_sorts_by_numbers_and_switches_tasks(rows, tmp_path):
    assert_sorts_and_switches(report.report(rows, "run"), tmp_path)


@needs_chromium
def test_report_sorts_negative_numbers_and_keeps_unmeasured_last(rows, tmp_path):
    rows = rows.copy()
    slow, best = (rows["solver_name"] == name for name in ("slow", "best"))
    rows.loc[slow, "objective_psnr"], rows.loc[best, "objective_psnr"] = -3.5, np.nan
    names = "[...document.querySelector('section table').tBodies[0].rows].map(row => row.cells[1].textContent)"
    click = "const psnr = document.querySelectorAll('section th')[3]; psnr.click();"
    found = probe(
        report.report(rows, "run"), f"{click} const a = {names}; psnr.click(); return [a, {names}];", tmp_path
    )
    assert found == [["slow", "cheap", "best"], ["cheap", "slow", "best"]]


@needs_chromium
def test_screenshot_shows_the_table_the_charts_and_the_pictures(rows, tmp_path):
    text = report.report(rows, "run")
    boxes = "const box = e => { const r = e.getBoundingClientRect(); return [r.top, r.bottom, r.left, r.right]; };"
    kinds = "{table: 'table', chart: '.charts img', picture: '.pictures img'}"
    found = probe(
        text,
        f"{SHOWN}{boxes} return Object.fromEntries(Object.entries({kinds}).map("
        "([kind, path]) => [kind, [...shown[0].querySelectorAll(path)].map(box)]));",
        tmp_path,
    )
    assert [len(found[kind]) for kind in ("table", "chart", "picture")] == [2, 3, 3 * 2 * 5]
    pixels = screenshot(text, tmp_path)
    for kind, least in (("table", 20), ("chart", 20), ("picture", 50)):
        top, bottom, left, right = (round(edge) for edge in found[kind][0])
        shown = pixels[top:bottom, left:right].reshape(-1, 3)
        assert len(shown) > 5000 and len(np.unique(shown, axis=0)) > least, kind


# benchopt's page in a browser


@needs_chromium
@needs_page_scripts
def test_benchopts_page_shows_every_chart_and_sorts(rows, copy_of_benchmark, tmp_path):
    outputs = copy_of_benchmark / "outputs"
    outputs.mkdir()
    save_results(rows, outputs / "run.parquet")
    code, output = benchopt(copy_of_benchmark, "plot", ".", "-f", "outputs/run.parquet", "--no-display")
    assert code == 0, output
    text = with_local_scripts((outputs / f"{Benchmark(copy_of_benchmark).name}_run.html").read_text())
    script = """
    const kinds = [...document.getElementById('plot_kind').options].map(option => option.value);
    const shows = kind => {
      setState({plot_kind: kind});
      const boxes = ['table', 'image', 'plot'].map(name => document.getElementById(name + '_container'));
      return boxes.filter(box => box.style.display !== 'none' && box.innerText.length > 20).map(box => box.id);
    };
    const shown = Object.fromEntries(kinds.map(kind => [kind, shows(kind)]));
    setState({plot_kind: 'leaderboard'});
    const plot = getPlotData();
    const column = plot.columns.findIndex(name => name.startsWith('PSNR'));
    return [shown, sortRows(plot, column, true).map(row => stripMarkup(row[column]).trim())];
    """
    shown, psnr = probe(text, script, tmp_path)
    kinds = dict.fromkeys(CONFIG["plots"], ["table_container"])
    kinds |= dict.fromkeys(("quality_cost", "per_image", "calibration"), ["plot_container"]) | {
        "reconstructions": ["image_container"]
    }
    assert shown == kinds
    assert len(psnr) == 3 and psnr == sorted(psnr, key=lambda text: float(text.split()[0]))


# Full size


def large_results(n_images=300, n_solvers=20, n_tasks=20, size=256):
    """Results of a large run: shards of 50 images, with pictures that compress badly."""
    random = np.random.default_rng(0)
    smooth = np.linspace(0, 200, size)[None, :, None, None] + np.linspace(0, 40, size)[None, None, :, None]
    stored = {
        name: np.clip(smooth + random.normal(0, 15, (4, size, size, 3)), 0, 255).astype(np.uint8)
        for name in ("truth", "observation", "sample")
    }
    stored["spread"] = random.integers(0, 128, (4, size, size), dtype=np.uint8)
    frames = []
    for task in range(n_tasks):
        for solver in range(n_solvers):
            for first in range(0, n_images, 50):
                images = np.arange(first, first + 50)
                quality = random.normal(0.2 + 0.01 * solver, 0.05, 50)
                frame = pd.DataFrame({"objective_lpips": quality, "objective_psnr": 25 - 20 * quality})
                frame["dataset_name"] = f"ffhq_t{task}[first={first},n_images=50,noise_std=0.05,prior=ffhq256]"
                frame[["objective_name", "solver_name"]] = "Posterior sampling", f"solver_{solver}"
                frame["objective_image"], frame["objective_file"] = images, [f"{i:05}.png" for i in images]
                frame[["objective_ssim", "objective_data_misfit", "objective_spread"]] = 0.7, 1.0, quality[0]
                frame[["objective_nfe", "objective_vjp"]] = 100.0 * solver, 0.0
                frame[["objective_seconds_per_image", "objective_peak_memory_gb"]] = 1.0 + solver, 5.0
                frame[["objective_task", "objective_headline"]] = "half", "lpips"
                frame[["p_dataset_prior", "p_dataset_noise_std", "idx_rep"]] = "ffhq256", 0.05, 0
                frame["final_results"] = None
                frame.at[49, "final_results"] = stored
                frames.append(frame)
    return pd.concat(frames, ignore_index=True)


@pytest.mark.slow
@needs_chromium
def test_full_size_pages_stay_below_25_megabytes_and_work(copy_of_benchmark, tmp_path, monkeypatch):
    df = large_results()
    assert len(df) == 300 * 20 * 20 and len(scores.tasks(df)) == 20
    start = time.process_time()
    text = report.report(df, "large")
    assert time.process_time() - start < 60
    assert len(text.encode()) < 25e6
    assert_sorts_and_switches(text, tmp_path)
    # not through a file: there the rows could not share their pictures, and would take gigabytes
    monkeypatch.setattr(generate_html, "read_results", lambda path: df)
    benchmark, outputs = Benchmark(copy_of_benchmark), copy_of_benchmark / "outputs"
    config = {"plots": CONFIG["plots"]}
    generate_html.plot_benchmark_html(outputs / "large.parquet", benchmark, config, display=False)
    assert 1e6 < (outputs / f"{benchmark.name}_large.html").stat().st_size < 25e6


# Publishing


def test_the_commit_of_a_row_says_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    commit = provenance.git_commit.__wrapped__  # without its cache
    assert commit() == "unknown: not a git checkout"
    (tmp_path / "file").write_text("as committed")
    number = commit_all(tmp_path)
    assert commit() == number
    (tmp_path / "file").write_text("edited")
    assert commit() == f"{number}-dirty"


@pytest.fixture(scope="module")
def published_run(tmp_path_factory):
    """A run of two cells in a checkout: (folder, its rows)."""
    folder = copied_benchmark(tmp_path_factory.mktemp("publish") / "bench")
    commit_all(folder)
    dataset = "ffhq_inpainting[mask=half,prior=faces64_mfa,n_images=2]"
    arguments = ["-s", "ddnm[n_steps=2]", "-s", "pseudo_inverse", "-d", dataset, "--no-plot", "--output", "run"]
    code, output = benchopt(folder, "run", ".", *arguments)
    assert code == 0, output
    return folder, read_results(folder / "outputs" / "run.parquet")


def assert_says_its_origin(rows, folder):
    assert len(rows) == 4 and sorted(rows["objective_image"]) == [0, 0, 1, 1]
    sums = dict(line.split()[::-1] for line in (ROOT / "assets" / "SHA256SUMS").read_text().splitlines())
    expected = {
        "objective_git_commit": git(folder, "rev-parse", "HEAD"),
        "objective_benchmark_version": provenance.VERSION,
        "objective_torch": provenance.version("torch"),
        "objective_diffusers": provenance.version("diffusers"),
        "objective_weights": f"faces64_mfa.safetensors {sums['faces64/faces64_mfa.safetensors']}",
    }
    for column, value in expected.items():
        assert set(rows[column]) == {value}, column
    assert rows["objective_device"].notna().all() and rows["objective_settings"].notna().all()
    for column in ("objective_truth_digest", "objective_y_digest"):  # of the image, so the same for both solvers
        assert rows.groupby("objective_image")[column].nunique().tolist() == [1, 1], column
    assert f'<p class="note">benchmark: {provenance.VERSION}; torch: ' in report.report(rows, "run")
    assert scores.origin_note(rows).startswith(f"benchmark {provenance.VERSION}; torch ")


def test_published_to_github(published_run, monkeypatch):
    folder, _ = published_run
    sent = {}

    class Repository(SimpleNamespace):
        default_branch = "main"

        def create_fork(self):
            return self

        def get_branch(self, name):
            return SimpleNamespace(commit=SimpleNamespace(sha="0"))

        def get_contents(self, path, ref):
            raise GithubException

        def create_file(self, path, message, content, branch):
            sent[path] = content

        def get_pulls(self, head, state):
            return []

        def create_pull(self, **_):
            return SimpleNamespace(html_url="https://github.com/benchopt/results/pull/1")

    class GithubException(Exception):
        pass

    class Github(SimpleNamespace):
        def get_repo(self, name):
            assert name == "benchopt/results"
            return Repository()

        def get_user(self):
            return SimpleNamespace(login="somebody")

    fake = ModuleType("github")
    fake.Github, fake.GithubException = Github, GithubException
    monkeypatch.setitem(sys.modules, "github", fake)
    monkeypatch.delitem(sys.modules, "benchopt.results.github", raising=False)
    publish(
        [str(folder), "-f", str(folder / "outputs" / "run.parquet"), "--hub", "github", "-t", "token"],
        standalone_mode=False,
    )
    name = Benchmark(folder).name
    assert set(sent) == {f"benchmarks/{name}/outputs/run.parquet", f"benchmarks/{name}/benchmark_meta.json"}
    content = sent[f"benchmarks/{name}/outputs/run.parquet"]
    path = folder / "outputs" / "received.parquet"
    path.write_bytes(content)
    assert_says_its_origin(read_results(path), folder)
    assert sum(isinstance(value, dict) for value in read_results(path)["final_results"]) == 2  # pictures
    path.unlink()


@pytest.mark.parametrize("is_there", [False, True])
def test_published_to_hugging_face(published_run, monkeypatch, is_there, tmp_path):
    from benchopt.results import hugging_face

    folder, rows = published_run
    sent = {}

    class Api:
        def __init__(self, token=None):
            pass

        def whoami(self):
            return {}

        def repo_info(self, repo_id, repo_type):
            assert repo_type == "dataset"

        def upload_file(self, path_or_fileobj, path_in_repo, **_):
            sent[path_in_repo] = path_or_fileobj.read_bytes()

    def download(filename, **_):
        if not is_there:
            raise hugging_face.EntryNotFoundError("none")
        path = tmp_path / filename
        other = rows.assign(solver_name="another_solver", run_date="2020-01-01")
        return save_results(other.drop(columns="final_results"), path, uniquify=False)

    monkeypatch.setattr(hugging_face, "HfApi", Api)
    monkeypatch.setattr(hugging_face, "hf_hub_download", download)
    path = folder / "outputs" / "run.parquet"
    if is_there:  # benchopt's command would keep one row, so one image, of each cell
        monkeypatch.setattr(our_publish, "ROOT", folder)
        our_publish.publish(path, "us/results", "token")
    else:
        arguments = ["-f", str(path), "--hub", "huggingface", "-R", "us/results", "-t", "token"]
        publish([str(folder), *arguments], standalone_mode=False)
    ((name, content),) = sent.items()
    assert name == f"{Benchmark(folder).name}.csv"
    received = pd.read_csv(io.BytesIO(content))
    assert_says_its_origin(received[received["solver_name"] != "another_solver"], folder)
    assert len(received) == (8 if is_there else 4)


def test_page_of_a_published_table(rows, tmp_path):
    """A CSV file has no pictures, but the same tables."""
    path = save_results(rows, tmp_path / "run.csv")
    text = report.report(read_results(path), "csv")
    assert HALF_TASK in text and "0.150 ± 0.092" in text and "<figure>" not in text
