"""The directive ``measured``: tables of committed CSV files, so that no number is typed by hand."""

import csv
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def shortened(cell: str) -> str:
    """Floating-point numbers with four significant digits, everything else as it is."""
    try:
        return cell if cell.strip("-").isdigit() else f"{float(cell):.4g}"
    except ValueError:
        return cell


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The comment lines at the head of a file, and its rows by column name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return comments, list(csv.DictReader(line for line in lines if not line.startswith("#")))


class Measured(SphinxDirective):
    """``measured FILE``: the table in ``FILE`` under the comment lines that say how it came about.

    Options: ``command`` writes the file and is shown if there is none; ``columns`` selects columns and their order;
    ``where`` (``column=value, ...``) selects rows.
    """

    required_arguments = 1
    option_spec = {  # noqa: RUF012
        "command": directives.unchanged_required,
        "columns": directives.unchanged,
        "where": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """The nodes that replace the directive."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        path = Path(absolute)
        if not path.is_file():
            words = nodes.Text("No table is stored yet; this command writes it: ")
            return [nodes.paragraph("", "", words, nodes.literal("", self.options["command"]))]
        comments, rows = read_rows(path)
        for condition in filter(None, self.options.get("where", "").split(",")):
            column, _, value = condition.strip().partition("=")
            rows = [row for row in rows if row[column] == value]
        if not rows:
            raise self.error(f"{path.name} has no such rows")
        columns = self.options.get("columns", "").replace(",", " ").split() or list(rows[0])
        notes = nodes.bullet_list("", *(nodes.list_item("", nodes.paragraph("", line)) for line in comments))
        return [_table(columns, [[shortened(row[c]) for c in columns] for row in rows]), notes]


def _table(columns: list[str], rows: list[list[str]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in columns), cols=len(columns))
    group += nodes.thead("", _row([c.replace("_", " ") for c in columns]))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group)


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool | str]:
    """Register the directive."""
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True, "version": "1"}
