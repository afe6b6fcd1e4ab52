"""A page of results that works without a network: the tables, charts and pictures of benchopt's page in one file."""

import base64
import html
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

from benchmark_utils.results import beside, calibration, charts, paper, pictures, scores, sweep, tables, traces

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 1400px; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin-top: 1.5rem; overflow-wrap: anywhere; font-size: 1.25rem; }
nav { position: sticky; top: 0; background: #fff; padding: .6rem 0; border-bottom: 1px solid #ccc; z-index: 1; }
select { font: inherit; max-width: 100%; padding: .2rem; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th { cursor: pointer; background: #f4f4f4; }
th[aria-sort=ascending]::after { content: " ▲"; }
th[aria-sort=descending]::after { content: " ▼"; }
td.text, th.text { text-align: left; }
td.text { white-space: normal; }
.wide { overflow-x: auto; }
img { max-width: 100%; }
pre { overflow-x: auto; background: #f4f4f4; padding: .6rem; font-size: 13px; }
.links a { margin-right: 1rem; }
.warning { border-left: 4px solid #c60; padding-left: .8rem; overflow-wrap: anywhere; }
.note { color: #555; margin: .2rem 0; font-size: 13px; overflow-wrap: anywhere; }
.charts img { width: 49%; min-width: min(420px, 100%); }
.pictures { display: grid; gap: .6rem; max-width: max-content; overflow-x: auto; }
figure { margin: 0; font-size: 12px; text-align: center; }
figure img { width: 100%; min-width: 96px; image-rendering: pixelated; }
.traces figure { margin: .6rem 0; max-width: 880px; }
.traces img { image-rendering: auto; }
@media (max-width: 600px) {
  body { margin: .5rem auto; }
  th, td { padding: .3rem .4rem; }
  td.text { overflow-wrap: anywhere; min-width: 7rem; }
  .charts img { width: 100%; }
}
"""

FEW_NOTES = 3  # of what is absent; more are folded

SCRIPT = """
document.querySelectorAll("th").forEach(th => th.addEventListener("click", () => {
  const column = th.cellIndex, body = th.closest("table").tBodies[0];
  const down = th.getAttribute("aria-sort") === "ascending";
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)], [p, q] = [parseFloat(x), parseFloat(y)];
    if (th.classList.contains("text")) return down ? y.localeCompare(x) : x.localeCompare(y);
    if (isNaN(p) || isNaN(q)) return isNaN(p) - isNaN(q);
    return down ? q - p : p - q;
  };
  body.append(...[...body.rows].sort(compare));
  th.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
}));
const chooser = document.getElementById("chooser");
if (chooser) {
  const show = () => document.querySelectorAll("section").forEach(
    section => { section.hidden = chooser.value !== "everything" && section.id !== chooser.value; });
  chooser.addEventListener("change", () => { location.hash = "show=" + chooser.value; show(); });
  const chosen = [...chooser.options].find(option => "#show=" + option.value === location.hash);
  if (chosen) chooser.value = chosen.value;
  show();
}
"""


def data_uri(content, kind):
    """Bytes as a ``data:`` address."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def table_html(table, links=None):
    """A table whose columns sort by their numbers when the heading is clicked.

    ``links`` is ``{text of a cell: address}``.
    """
    is_text = [all(row[j].value is None for row in table.rows) for j in range(len(table.columns))]
    head = "".join(f"<th{_text(t)}>{html.escape(name)}</th>" for name, t in zip(table.columns, is_text, strict=True))
    body = "".join(
        "<tr>" + "".join(_cell_html(cell, t, links or {}) for cell, t in zip(row, is_text, strict=True)) + "</tr>"
        for row in table.rows
    )
    absent = [note for note in table.notes if note.startswith(tables.ABSENT)]
    absent = absent if len(absent) > FEW_NOTES else []
    definitions = tables.definitions_text(table.definitions)
    shown = [*(note for note in table.notes if note not in absent), definitions, table.origin]
    notes = _paragraphs(filter(None, shown))
    if absent:
        notes += f"<details><summary>{len(absent)} not ranked or not compared</summary>{_paragraphs(absent)}</details>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}'


def _paragraphs(notes):
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)


def _text(is_text):
    return ' class="text"' if is_text else ""


def _cell_html(cell, is_text, links):
    text = html.escape(cell.text)
    if cell.text in links:
        text = f'<a href="{html.escape(links[cell.text])}">{text}</a>'
    value = "" if cell.value is None else f' data-value="{float(cell.value)!r}"'
    return f"<td{_text(is_text)}{value}>{f'<b>{text}</b>' if cell.best else text}</td>"


def svg_image(figure):
    """A figure as an ``<img>``, its text as text, large enough for the longest label."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return f'<img src="{data_uri(content.getvalue(), "svg+xml")}" alt="chart">'


def _figure(right, bottom):
    """A figure with room for labels; matplotlib's own layout would draw it twice."""
    figure = Figure(figsize=(7.5, 4.5))
    axes = figure.subplots(gridspec_kw={"left": 0.12, "right": right, "bottom": bottom, "top": 0.97})
    return figure, axes


def tradeoff_chart(df, task, axis):
    """The headline against a cost with intervals and the Pareto front."""
    points = charts.tradeoff(df, task, axis)
    solvers = list(df["solver_name"].unique())  # a solver has one colour and mark in all charts
    figure, axes = _figure(right=0.62, bottom=0.12)
    for point in points:
        x = charts.log_position(point.cost, axis)
        number = solvers.index(point.solver)
        style = {"color": f"C{number % 10}", "marker": "osD^vP*X"[number // 10 % 8]}
        half_width = np.nan_to_num(point.quality.half_width)
        score = f"{point.label}: {point.quality}"
        axes.errorbar(x, point.quality.mean, half_width, linestyle="", capsize=3, label=score, **style)
    front = [point for point in points if point.on_front]
    if front:
        positions = [charts.log_position(point.cost, axis) for point in front]
        heights = [point.quality.mean for point in front]
        axes.plot(positions, heights, "o-", mfc="none", ms=11, color="0.5", label=charts.FRONT_LABEL)
    axes.set_xscale("log")
    # 300 is shorter than 3 x 10^2, which runs into its neighbour
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(LogFormatter())
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    axes.set_xlabel(charts.cost_label(axis), fontsize=8)
    axes.set_ylabel(charts.quality_label(df, task).replace(", ", "\n", 1), fontsize=8)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.02))
    return svg_image(figure)


def box_chart(df, task):
    """Quartiles, whiskers to 1.5 quartile ranges and outliers of the headline over images."""
    drawn = charts.box_values(df, task)
    solvers = list(df["solver_name"].unique())
    figure, axes = _figure(right=0.98, bottom=0.3)
    boxes = axes.boxplot(
        [values for *_, values in drawn], patch_artist=True, medianprops={"color": "black"}, flierprops={"ms": 2}
    )
    for (solver, *_), patch in zip(drawn, boxes["boxes"], strict=True):
        patch.set(facecolor=f"C{solvers.index(solver) % 10}", alpha=0.6)
    axes.set_xticks(range(1, len(drawn) + 1), [label for _, label, _ in drawn], rotation=60, ha="right", fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_ylabel(charts.box_label(df, task))
    return svg_image(figure)


def sweep_chart(df, task, setting):
    """What was measured against a setting: headline, posterior error where it is known, and cost, side by side."""
    found = {quantity: sweep.sweep(df, task, setting, quantity) for quantity in sweep.QUANTITIES}
    found = {quantity: lines for quantity, lines in found.items() if lines}
    figure = Figure(figsize=(4.6 * len(found), 4.2), layout="constrained")
    for axes, (quantity, lines) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for number, (label, points) in enumerate(lines.items()):
            points = [point for point in points if point.score]
            bars = None if quantity == "cost" else [np.nan_to_num(point.score.half_width) for point in points]
            style = {"color": f"C{number % 10}", "marker": "osD^vP*X"[number // 10 % 8], "capsize": 3}
            x, y = [point.value for point in points], [point.score.mean for point in points]
            axes.errorbar(x, y, bars, label=label, **style)
        axes.grid(alpha=0.3)
        axes.set_xlabel(setting, fontsize=8)
        axes.set_ylabel(sweep.quantity_label(df, task, quantity).replace(", ", "\n", 1), fontsize=8)
        if any(isinstance(point.value, str) for points in lines.values() for point in points):
            axes.tick_params(axis="x", rotation=60, labelsize=7)
        axes.legend(fontsize=7)
    return svg_image(figure)


def calibration_chart(df, task, name):
    """One of the calibration curves of every solver and the band that exact draws stay in."""
    found, rows = calibration.curves(scores.rows_of(df, task)), scores.rows_of(df, task)
    solvers = list(df["solver_name"].unique())
    figure, axes = _figure(right=0.62, bottom=0.12)
    for solver, curves in found.items():
        number, curve = solvers.index(solver), curves[name]
        style = {"color": f"C{number % 10}", "marker": "osD^vP*X"[number // 10 % 8]}
        axes.plot(curve.x, curve.found, label=scores.solver_label(rows, solver), ms=4, **style)
    band = next(iter(found.values()))[name]
    axes.fill_between(band.x, band.low, band.high, color="0.5", alpha=0.3, label=calibration.BAND_LABEL)
    axes.grid(alpha=0.3)
    xlabel, ylabel = calibration.CURVES[name]
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel(ylabel, fontsize=8)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.02))
    return svg_image(figure)


def picture_html(label, pixels):
    """A picture with its label; an empty place of the grid where there is none."""
    if pixels is None:
        return "<figure></figure>"
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png")
    image = f'<img src="{data_uri(content.getvalue(), "png")}" alt="{html.escape(label)}">'
    return f"<figure>{image}<figcaption>{html.escape(label)}</figcaption></figure>"


def pictures_html(df, task, view):
    """One view of the reconstructions, nothing where a run has no spread."""
    grid = pictures.pictures(df, task, view)
    if not grid:
        return ""
    style = f"grid-template-columns: repeat({pictures.n_columns(df, task, view)}, minmax(96px, 192px))"
    figures = "".join(picture_html(*picture) for picture in grid)
    return f'<h3>{view.capitalize()}{pictures.VIEWS[view]}</h3><div class="pictures" style="{style}">{figures}</div>'


def traces_html(df, task):
    """The electrocardiograms of a task, one figure per record and solver."""
    figures = "".join(picture_html(trace.label, traces.trace_pixels(trace)) for trace in traces.traces(df, task))
    return f'<h3>Traces</h3><p class="note">{traces.NOTE}</p><div class="traces">{figures}</div>'


def task_parts(df, task, own=(), links=None):
    """Everything about one task; the solvers ``own`` are compared pair by pair with the others."""
    yield table_html(tables.leaderboard(df, task), links)
    for solver in own:
        yield f"<h3>{html.escape(solver)} against each other solver</h3>"
        yield table_html(beside.differences(df, task, solver), links)
    yield "<h3>Quality against cost, and the images</h3><div class='charts'>"
    for axis in charts.COST_AXES:
        yield tradeoff_chart(df, task, axis)
    yield box_chart(df, task)
    yield "</div>"
    for setting in sweep.sweep_settings(df, task):
        yield f"<h3>Sweep of {html.escape(setting)}</h3>{sweep_chart(df, task, setting)}"
    if task in pictures.picture_tasks(df):
        for view in pictures.VIEWS:
            yield pictures_html(df, task, view)
    if task in traces.trace_tasks(df):
        yield traces_html(df, task)
    if task in tables.samples_tasks(df):
        yield f"<h3>Several samples per image</h3>{table_html(tables.samples(df, task), links)}"
    if task in tables.exactness_tasks(df):
        yield f"<h3>Distance to the exact posterior</h3>{table_html(tables.exactness(df, task), links)}"
    if task in calibration.calibration_tasks(df):
        yield f"<h3>Calibration</h3>{table_html(calibration.calibration_table(df, task), links)}<div class='charts'>"
        for name in calibration.CURVES:
            yield calibration_chart(df, task, name)
        yield "</div>"
    yield f"<h3>Comparison with published numbers</h3>{table_html(paper.paper_comparison(df, task), links)}"


def overall_parts(df, links=None):
    """Mean ranks of every set of solvers with common tasks: {its label: parts}."""
    return {compared: [table_html(tables.overall(df, compared), links)] for compared in scores.comparisons(df)}


def warnings_html(warnings):
    """Texts that stand out above everything else."""
    return "".join(f'<p class="warning">{html.escape(text)}</p>' for text in warnings)


def page_html(title, introduction, sections, links=""):
    """A page as text: ``sections`` is ``{id: (heading, parts)}``, the first one is shown, a menu shows the others.

    ``links`` is a line of links to other pages.
    """
    options = "".join(f'<option value="{name}">{html.escape(text)}</option>' for name, (text, _) in sections.items())
    menu = (
        f'<label>Show <select id="chooser">{options}<option value="everything">everything</option></select></label>'
        if len(sections) > 1
        else ""
    )
    body = "".join(
        f'<section id="{name}"><h2>{html.escape(text)}</h2>\n{"".join(parts)}\n</section>\n'
        for name, (text, parts) in sections.items()
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>{html.escape(title)}</h1>{introduction}\n<nav>{links}{menu}</nav>\n{body}"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def report(df, title, config=None, outputs=None, reference=None):
    """The whole page as text; ``config`` and ``outputs`` as for :func:`benchmark_utils.results.tables.missing`.

    Of ``reference``, rows of other solvers, those of the same images, measurements and seeds are shown beside.
    """
    missing = table_html(tables.missing(df, config, outputs))
    facts = "; ".join(f"{name}: {value}" for name, value in scores.facts(df).items())
    introduction, own = f'<p class="note">{html.escape(facts)}. Click a heading to sort.</p>', frozenset()
    if reference is not None:
        df, own, warnings = beside.compare(df, reference)
        introduction += warnings_html(warnings)
    ran = {task: set(scores.rows_of(df, task)["solver_name"]) for task in scores.tasks(df)}
    # the first task is the landing view
    sections = {
        f"task{number}": (task, task_parts(df, task, sorted(own & ran[task]))) for number, task in enumerate(ran)
    }
    overall = "".join(f"<h3>{label}</h3>{''.join(parts)}" for label, parts in overall_parts(df).items())
    first = next(iter(sections))
    sections = {first: sections[first], "overall": ("Mean rank over tasks", overall)} | sections
    return page_html(title, introduction, sections | {"missing": ("Missing cells", [missing])})


def write_report(path, config, reference=None):
    """Write ``<run>_report.html`` beside the results at ``path`` and print its path.

    With a run config, the missing cells are those of the config; ``reference`` as for :func:`report`.
    """
    page = path.with_name(f"{path.stem}_report.html")
    text = report(scores.read_file(path), f"Posterior sampling: {path.stem}", config, path.parent, reference)
    page.write_text(text, encoding="utf-8")
    print(page.resolve())
