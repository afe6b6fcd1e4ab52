"""What benchopt's page needs of a plot: names of files, cells that sort by positive numbers, names that break."""

import re

import benchopt
import click

from benchmark_utils.results.tables import definitions_text

FIGURE_SPACE = "\u2007"  # as wide as a digit, and before the digits in text order
LONG = 30  # characters
MOST_DEFINITIONS = 3  # above a table; the page shows nothing below it
NO_BREAK_SPACE = "\u00a0"


def _whole_width(cell):
    """Characters before the decimal point of a number."""
    return 0 if cell.value is None else len(re.match(r"[-+]?\d*", cell.text)[0])


def breakable(text):
    """Text that may be broken inside its names, at commas, brackets and underscores."""
    return re.sub(r"([,\[_])", "\\1\u200b", text)


def _page_column(name, cells):
    """Cells of a column with the points of their numbers below each other, as wide as the heading at least.

    Long texts may be broken between words, short ones and numbers not.
    """
    whole = max(_whole_width(cell) for cell in cells)
    # bold letters, and the mark to sort by
    width = len(name) + (2 if len(name) == 1 else 3 if len(name) < 6 else 4)
    indent = max(0, width - max(len(cell.text) for cell in cells))
    texts = []
    for cell in cells:
        if cell.value is not None:
            text = FIGURE_SPACE * (indent + whole - _whole_width(cell)) + cell.text.replace(" ", NO_BREAK_SPACE)
        elif len(cell.text) > LONG:
            text = breakable(cell.text)
        else:
            text = cell.text.replace(" ", NO_BREAK_SPACE) + NO_BREAK_SPACE * indent
        texts.append(f"**{text}**" if cell.best else text)
    return texts


def page_table(table):
    """A benchopt table plot: (metadata, rows).

    The page sorts cells such as ``0.12 ± 0.01`` as text, so their whole parts are padded to the same width, which does
    not order negative numbers; it sets the width of a column by its longest word. Many definitions are in the view of
    that name.
    """
    definitions = definitions_text(table.definitions)
    if len(table.definitions) > MOST_DEFINITIONS:
        definitions = 'what the columns are: view "definitions"'
    columns = zip(*table.rows, strict=True)
    padded = [_page_column(name, cells) for name, cells in zip(table.columns, columns, strict=True)]
    rows = [list(row) for row in zip(*padded, strict=True)]
    metadata = {
        "title": "\n".join(filter(None, [table.title, *table.notes, definitions, table.origin])),
        "columns": [name.replace(" ", NO_BREAK_SPACE) for name in table.columns],
        "default_order_column": 0,
        "default_order_ascending": True,
    }
    return metadata, rows


class BasePlot(benchopt.BasePlot):
    """benchopt's plot, with names that the files of ``--no-html`` can have: benchopt cuts them at their last dot."""

    def _get_all_plots(self, df):
        plots, options = super()._get_all_plots(df)
        context = click.get_current_context(silent=True)
        if context is not None and not context.params.get("html", True):
            plots = {re.sub(r"[./]", "_", name): plot for name, plot in plots.items()}
        return plots, options


class TablePlot(BasePlot):
    """A subclass names its ``table(df, task)`` and, in ``options``, the tasks."""

    type = "table"

    def plot(self, df, task):
        return page_table(self.table(df, task))[1]

    def get_metadata(self, df, task):
        return page_table(self.table(df, task))[0]
