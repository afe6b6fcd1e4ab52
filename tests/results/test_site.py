"""The site: every link leads somewhere, nothing comes from elsewhere, its numbers are those of the tables."""

from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from benchopt.results import save_results
from browser import needs_chromium, probe
from test_plots import HALF, HALF_TASK, cell, image_rows, mixture_rows, text_rows

from benchmark_utils.__main__ import main
from benchmark_utils.results import report, scores, site, tables
from benchmark_utils.results.docstrings import is_method, read_paper
from solvers.dps import Solver as DPS

EMBEDS = {"img", "script", "link", "iframe", "audio", "video", "source"}


class Page(HTMLParser):
    """Addresses and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.embedded, self.ids, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "a":
            self.links.append(attributes["href"])
        if tag in EMBEDS:
            self.embedded += [attributes[name] for name in ("src", "href") if name in attributes]

    def handle_data(self, data):
        self.text.append(data)


def named_rows():
    """Rows of methods of ``solvers/``, one of them with a parameter; two did both tasks."""
    names = {"slow": "dps", "best": "mgdm[n_steps=50]", "cheap": "ddnm", "biased": "dps"}
    mixture = mixture_rows()
    worse = [row | {"solver_name": "ddnm", "objective_sliced_wasserstein": 3.0} for row in mixture[::2]]
    rows = image_rows() + mixture + worse
    for row in rows:
        row["solver_name"] = names.get(row["solver_name"], row["solver_name"])
        row["run_date"] = "2026-01-01"
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(rows, folder of the site)."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "results").mkdir()
    save_results(named_rows(), folder / "results" / "a.parquet")
    assert not main(["site", str(folder / "results"), "--output", str(folder / "site")])
    return named_rows(), folder / "site"


def test_links_lead_to_pages_and_nothing_comes_from_elsewhere(built):
    _, folder = built
    pages = {path.name: Page(path.read_text(encoding="utf-8")) for path in folder.iterdir()}
    linked = set()
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), name
        assert all(address.startswith("data:") for address in page.embedded), name
        for link in page.links:
            if not link.startswith("https://"):
                file, _, fragment = unquote(link).partition("#")
                assert file in pages and (not fragment or fragment in pages[file].ids), (name, link)
                linked.add(file)
    assert linked == set(pages)  # no page that nobody finds


def test_there_is_a_page_per_task_and_per_method(built):
    df, folder = built
    expected = {*site.PAGES, *(site.task_page(task) for task in scores.tasks(df))}
    methods = ("dps", "mgdm", "ddnm", "exact_posterior")
    assert {path.name for path in folder.iterdir()} == expected | {f"method_{name}.html" for name in methods}


def test_a_methods_page_is_made_from_its_file_and_its_rows(built):
    df, folder = built
    parts = Page((folder / "method_dps.html").read_text(encoding="utf-8")).text
    text = " ".join(parts)
    paper = read_paper(DPS.__doc__)
    for shown in (paper.title, paper.authors, "ICLR 2023", "A has a gradient", "zeta", "2.0", "gaussian_blur*"):
        assert shown in text
    exactness = tables.exactness(df, "gaussian_mixture[dim=8,dim_y=1]")
    (own,) = [row for row in text_rows(exactness) if row[1] == "dps"]
    assert own[2] in text and "floor of exact draws" in text
    assert "3 of 3" in text and "exact_posterior" not in parts  # no row of another method


def test_rank_table_shows_each_variant_with_its_cost():
    df = named_rows()
    boards = {task: tables.leaderboard(df, task) for task in scores.tasks(df)}
    (method,) = [method for method in site.read_methods(df) if method.name == "mgdm"]
    (row,) = text_rows(site.ranks_table(df, method, boards))
    assert row == [HALF_TASK, "mgdm[n_steps=50]", "1 of 3", "LPIPS ↓ 0.150 ± 0.092", "200", "0", "0.500", "–"]


def test_a_method_without_a_file_is_described_by_its_rows():
    df = named_rows().assign(
        solver_name="mine", solver_description='Mine: "A title", A, B and C, ICML 2026, https://x.y'
    )
    (method,) = site.read_methods(df)
    assert method.solver_class is None and method.paper == ("A title", "A, B and C", "ICML 2026", "https://x.y")
    assert "A title" in "".join(site.method_parts(df, method, {}, {}))


@pytest.mark.parametrize("column, text", [("objective_y_digest", "the measurement y"), ("base_seed", "the seed")])
def test_a_task_whose_solvers_met_other_data_says_so(column, text):
    df = named_rows().assign(objective_y_digest="same")
    task = site.task_page(HALF_TASK)
    assert 'class="warning"' not in site.build_pages(df)[task]
    changed = (df["solver_name"] == "dps") & (df["objective_image"] == 3)
    df = df.assign(**{column: df[column].where(~changed, 7 if column == "base_seed" else "other")})
    pages = site.build_pages(df)
    assert all(f"not the same for all solvers of this task: {text}" in pages[page] for page in (task, "index.html"))


def test_a_methods_page_names_the_commit_of_its_rows():
    df = named_rows()
    df = df.assign(objective_git_commit=(df["solver_name"] == "dps").map({True: "a" * 40, False: "b" * 40}))
    text = Page(site.build_pages(df)["method_dps.html"]).text
    assert "aaaaaaa" in text and "bbbbbbb" not in text


def test_calibration_is_shown_with_its_nominal_values():
    histograms = [np.bincount([rank], minlength=5) / 1.0 for rank in (0, 2, 3, 4)]
    extra = {"n_draws": 4, "rank_histogram": histograms, "rank_null": histograms, "tarp": [0.0, 0.3, 0.6, 1.0]}
    scored = dict.fromkeys(("coverage_50", "coverage_80", "coverage_90"), [0.5] * 4)
    scored |= {f"{name}_floor": values for name, values in scored.items()}
    scored |= dict.fromkeys(("lpips", "energy_score", "crps"), [0.1, 0.2, 0.3, 0.5])
    df = pd.DataFrame(cell(HALF.format(0), "dps", (0, 1, 2, 3), scored))
    df = df.assign(**{f"objective_{name}": values for name, values in extra.items()})
    pages = site.build_pages(df)
    for page in ("exactness.html", "method_dps.html"):
        text = Page(pages[page]).text
        assert "Calibration" in text and "nominal" in text and "excess of rank histogram" in text, page


def test_ranking_is_that_of_the_overall_table_for_each_kind_of_task(built):
    df, folder = built
    text = Page((folder / "index.html").read_text(encoding="utf-8")).text
    kinds = {}
    for task in scores.tasks(df):
        rows = scores.rows_of(df, task)
        kinds.setdefault(scores.metric(scores.headline(rows)).label, []).append(rows)
    assert len(kinds) > 1
    for score, rows in kinds.items():
        rows = pd.concat(rows)
        label, *_ = scores.comparisons(rows)
        assert any(part.endswith(f"by {score}: {label}") for part in text)
        for row in text_rows(tables.overall(rows, label)):
            assert all(cell in text for cell in row)


def test_a_methods_page_has_the_settings_of_its_rows_once():
    df = named_rows().assign(objective_settings="n_steps=7, eta=0.85")
    text = Page(site.build_pages(df)["method_dps.html"]).text
    assert text.count("n_steps=7, eta=0.85") == 1


def test_many_notes_on_what_is_absent_are_folded_and_kept():
    notes = ["7 solvers", *(f"not ranked: {name}, no score on half" for name in "abcd")]
    table = tables.Table("t", notes, {}, ["solver"], [[tables.Cell("x")]])
    shown, _, folded = report.table_html(table).partition("<details>")
    assert "7 solvers" in shown and "not ranked" not in shown and folded.count("not ranked:") == 4
    table = tables.Table("t", notes[:3], {}, ["solver"], [[tables.Cell("x")]])
    assert "<details>" not in report.table_html(table)


def test_rows_of_older_code_are_named():
    df = named_rows().assign(objective_solver_code="older", objective_git_commit="b" * 40)
    text = Page(site.build_pages(df)["index.html"]).text
    assert any("method or presets changed" in part and "ddnm (rows of bbbbbbb)" in part for part in text)


def test_an_older_site_is_replaced_and_other_files_are_not(built, tmp_path, capsys, monkeypatch):
    df, folder = built
    index = (folder / "index.html").read_text(encoding="utf-8")
    save_results(df, tmp_path / "a.parquet")
    output = tmp_path / "site"
    output.mkdir()
    monkeypatch.setattr(site, "build_pages", lambda df: {"index.html": index, "method_gone.html": index})
    site.write_site(tmp_path, output)
    monkeypatch.setattr(site, "build_pages", lambda df: {"index.html": index})
    site.write_site(tmp_path, output)
    assert [path.name for path in output.iterdir()] == ["index.html"]
    for name in ("notes.txt", "notes.html"):
        (output / name).write_text('mine <a href="index.html">')
        with pytest.raises(SystemExit):
            main(["site", str(tmp_path), "--output", str(output)])
        assert f"holds {name}, which is no page of a site" in capsys.readouterr().err
        assert (output / name).read_text().startswith("mine") and (output / "index.html").exists()
        (output / name).unlink()


@pytest.mark.parametrize(
    "docstring, paper",
    [
        (
            'X: "A title: with more",\nOne, Two and Three, CVPR Workshops 2023, https://arxiv.org/abs/1.\n\nMore',
            ("A title: with more", "One, Two and Three", "CVPR Workshops 2023", "https://arxiv.org/abs/1"),
        ),
        ("X guided by y: title, authors, venue, URL", ("", "", "", "")),
        ('Baseline, "Old", Wiener, 1949. The mean, which 2020 was', ("Old", "Wiener", "1949", "")),
    ],
)
def test_what_a_docstring_says_of_its_paper(docstring, paper):
    assert read_paper(docstring) == paper
    assert is_method(docstring) == docstring.startswith("X")


@needs_chromium
def test_site_sorts_and_switches_in_a_browser(built, tmp_path):
    _, folder = built
    script = """
    const shown = () => [...document.querySelectorAll('section')].filter(s => !s.hidden).map(s => s.id);
    const chooser = document.getElementById('chooser'), first = shown();
    chooser.value = chooser.options[1].value; chooser.dispatchEvent(new Event('change'));
    const second = shown();
    const table = document.querySelector('section:not([hidden]) table'), rank = table.tHead.rows[0].cells[0];
    const order = () => [...table.tBodies[0].rows].map(row => Number(row.cells[0].textContent));
    rank.click(); const up = order(); rank.click();
    return [first, second, up, order(), document.documentElement.scrollWidth <= window.innerWidth];
    """
    first, second, up, down, fits = probe((folder / "index.html").read_text(encoding="utf-8"), script, tmp_path)
    assert len(first) == len(second) == 1 and first != second and fits
    assert len(up) > 1 and up == sorted(up) and down == up[::-1]
