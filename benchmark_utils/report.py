"""A page of results that works without a network: ``python -m benchmark_utils.report outputs/<run>.parquet``.

Writes ``outputs/<run>_report.html`` with the tables, charts and pictures of benchopt's page in one file.
"""

import argparse
import base64
import html
import io
import sys
from pathlib import Path

import numpy as np
from benchopt.results import read_results
from PIL import Image

from benchmark_utils import results

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 1300px; padding: 0 1rem; color: #222; }
h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th { cursor: pointer; background: #f4f4f4; }
th[aria-sort=ascending]::after { content: " ▲"; }
th[aria-sort=descending]::after { content: " ▼"; }
td.text, th.text { text-align: left; white-space: normal; }
.wide { overflow-x: auto; }
.note { color: #555; margin: .2rem 0; }
.charts img { width: 49%; min-width: 420px; }
.pictures { display: grid; gap: .6rem; max-width: max-content; }
figure { margin: 0; font-size: 12px; text-align: center; }
figure img { width: 100%; min-width: 96px; image-rendering: pixelated; }
"""

SORT = """
document.querySelectorAll("th").forEach(th => th.addEventListener("click", () => {
  const column = th.cellIndex, body = th.closest("table").tBodies[0];
  const down = th.getAttribute("aria-sort") === "ascending";
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const numbers = [Number(key(a)), Number(key(b))];
    if (numbers.some(isNaN)) return isNaN(numbers[0]) - isNaN(numbers[1]) || key(a).localeCompare(key(b));
    return down ? numbers[1] - numbers[0] : numbers[0] - numbers[1];
  };
  body.append(...[...body.rows].sort(compare));
  th.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
}));
"""


def data_uri(content, kind):
    """Bytes as a ``data:`` address."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def table_html(table):
    """A table whose columns sort by their numbers when the heading is clicked."""
    is_text = [all(row[j].value is None for row in table.rows) for j in range(len(table.columns))]
    head = "".join(f"<th{_text(t)}>{html.escape(name)}</th>" for name, t in zip(table.columns, is_text, strict=True))
    body = "".join(
        "<tr>" + "".join(_cell_html(cell, t) for cell, t in zip(row, is_text, strict=True)) + "</tr>"
        for row in table.rows
    )
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in table.notes)
    definitions = results.definitions_text(table.definitions)
    notes += f'<p class="note">{html.escape(definitions)}</p>' if definitions else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}'


def _text(is_text):
    return ' class="text"' if is_text else ""


def _cell_html(cell, is_text):
    text = html.escape(cell.text)
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f"<td{_text(is_text)}{value}>{f'<b>{text}</b>' if cell.best else text}</td>"


def chart(df, task, axis):
    """The headline against a cost with intervals and the Pareto front, as SVG bytes."""
    from matplotlib.figure import Figure  # slow to import

    points = results.tradeoff(df, task, axis)
    solvers = list(df["solver_name"].unique())  # a solver has one colour in all charts
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for point in points:
        x = results.log_position(point.cost, axis)
        color = f"C{solvers.index(point.solver) % 10}"
        half_width = np.nan_to_num(point.quality.half_width)
        axes.errorbar(x, point.quality.mean, half_width, fmt="o", capsize=3, color=color)
        axes.annotate(point.solver, (x, point.quality.mean), textcoords="offset points", xytext=(7, 4), fontsize=8)
    front = [point for point in points if point.on_front]
    positions = [results.log_position(point.cost, axis) for point in front]
    axes.plot(positions, [point.quality.mean for point in front], color="0.5", zorder=0, label="Pareto front")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    axes.set_xlabel(results.cost_label(axis))
    axes.set_ylabel(results.quality_label(df, task).replace(", ", "\n", 1), fontsize=8)
    axes.legend(fontsize=8, loc="upper right")
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def pictures_html(df, task):
    """The grid of truth, observation and reconstructions."""
    grid, n_columns = results.pictures(df, task)
    figures = []
    for label, pixels in grid:
        if pixels is None:
            figures.append("<figure></figure>")
            continue
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, format="png")
        image = f'<img src="{data_uri(content.getvalue(), "png")}" alt="{html.escape(label)}">'
        figures.append(f"<figure>{image}<figcaption>{html.escape(label)}</figcaption></figure>")
    style = f"grid-template-columns: repeat({n_columns}, minmax(96px, 192px))"
    return f'<div class="pictures" style="{style}">{"".join(figures)}</div>'


def run_facts(df):
    """What is known of the run itself, as (name, value) pairs."""
    columns = {
        "run_date": "date",
        "base_seed": "seed",
        "system-processor": "processor",
        "system-cpus": "CPU cores",
        "version-cuda": "CUDA",
        "version-numpy": "numpy",
        "platform": "system",
        "benchmark-git-tag": "version",
    }
    for column, name in columns.items():
        values = df[column].dropna().astype(str).unique() if column in df else []
        if len(values):
            yield name, ", ".join(values)


def task_html(df, task, number):
    """Everything about one task."""
    parts = [f'<h2 id="task{number}">{html.escape(task)}</h2>', table_html(results.leaderboard(df, task))]
    if task in results.picture_tasks(df):
        parts += ["<h3>Reconstructions</h3>", pictures_html(df, task)]
    charts = (f'<img src="{data_uri(chart(df, task, axis), "svg+xml")}">' for axis in results.COST_AXES)
    parts += ["<h3>Quality against cost</h3>", f'<div class="charts">{"".join(charts)}</div>']
    if task in results.exactness_tasks(df):
        parts += ["<h3>Distance to the exact posterior</h3>", table_html(results.exactness(df, task))]
    parts += ["<h3>Comparison with published numbers</h3>", table_html(results.paper_comparison(df, task))]
    return "\n".join(parts)


def report(df, title):
    """The whole page as text."""
    facts = "; ".join(f"{name}: {value}" for name, value in run_facts(df))
    tasks = results.tasks(df)
    links = "".join(f'<li><a href="#task{i}">{html.escape(task)}</a></li>' for i, task in enumerate(tasks))
    sections = "\n".join(task_html(df, task, i) for i, task in enumerate(tasks))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>"
        f'<p class="note">{html.escape(facts)}. Click a heading to sort.</p><ul>{links}</ul>\n{sections}\n'
        f"<script>{SORT}</script></body></html>\n"
    )


def main(arguments=None):
    """Write the report beside the results and print its path."""
    parser = argparse.ArgumentParser(prog="python -m benchmark_utils.report", description=__doc__.split(":")[0])
    parser.add_argument("parquet", type=Path, help="results of a run, outputs/<run>.parquet")
    options = parser.parse_args(arguments)
    if not options.parquet.is_file():
        parser.error(f"{options.parquet} does not exist")
    page = options.parquet.with_name(f"{options.parquet.stem}_report.html")
    text = report(read_results(options.parquet), f"Posterior sampling: {options.parquet.stem}")
    page.write_text(text, encoding="utf-8")
    print(page.resolve())


if __name__ == "__main__":
    sys.exit(main())
