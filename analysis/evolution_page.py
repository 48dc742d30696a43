"""The page of an evolution: figures, tables and cells in one file of HTML that runs no script and loads nothing."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from analysis import table_text
from analysis.dashboard.page import DOCUMENT, STYLE, asset
from analysis.report_files import Contents, Drawn
from analysis.style import DPI, KINDS
from analysis.table_text import Table

_HEAD = """\
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title} · Odyssey</title>
<link rel="icon" href="data:,">
<style>{style}
figure {{ margin: 2rem 0; }} .card {{ margin: 0 0 1rem; }}
img {{ display: block; background: white; max-width: 100%; }} img.wide {{ min-width: 44rem; }}</style>"""
_BODY = """<div id="page">
<header><div class="title"><strong>{title}</strong></div></header>
<main>
{body}
</main>
</div>"""
_MOST_NARROW = 4.0  # inches of a figure that a telephone shows whole


def page(
    title: str,
    said: Sequence[str],
    commands: Sequence[str],
    contents: Contents,
    tables: Sequence[Table],
    cells: Sequence[Mapping[str, Any]],
) -> str:
    """The page.

    Args:
        title: of it.
        said: paragraphs that come first.
        commands: what comes next, behind them.
        contents: of the report, with its figures drawn.
        tables: that are shown below the figures.
        cells: of each survivor title, note, and equations, a list of lines.
    """
    body = [f'<p class="lead">{escape(text)}</p>' for text in said[:1]]
    body += [f'<p class="said">{escape(text)}</p>' for text in said[1:]]
    body += [f"<pre>{escape(chr(10).join(commands))}</pre>"] if commands else []
    body += [_figure(drawn, contents.files[f"{drawn.name}.png"]) for drawn in contents.figures]
    body += [f'<section>\n<h2>Survivors</h2>\n<div class="grid small">\n{"".join(map(_cell, cells))}</div>\n</section>']
    body += map(_table, tables)
    head = _HEAD.format(title=escape(title), style=asset(STYLE).decode())
    return DOCUMENT.format(head=head, body=_BODY.format(title=escape(title), body="\n".join(body)))


def _figure(drawn: Drawn, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    width = int.from_bytes(png[16:20]) / DPI  # which the header of a PNG says, in inches
    kind = ' class="wide"' if width > _MOST_NARROW else ""
    files = ", ".join(f'<a href="{escape(f"{drawn.name}.{end}")}">{end.upper()}</a>' for end in (*KINDS, "csv"))
    return (
        f"<figure>\n<h2>{escape(drawn.title)}</h2>\n"
        f'<div class="scroll"><img{kind} alt="{escape(drawn.title)}" src="data:image/png;base64,{data}"></div>\n'
        f"<figcaption>{escape(drawn.caption)} {files}</figcaption>\n</figure>"
    )


def _cell(cell: Mapping[str, Any]) -> str:
    equations = escape("\n".join(cell["equations"]))
    return (
        f'<article class="card"><h3>{escape(cell["title"])}</h3>\n<p class="note">{escape(cell["note"])}</p>\n'
        f"<pre>{equations}</pre></article>\n"
    )


def _table(table: Table) -> str:
    groups = table_text.groups(table.headings)
    head = ""
    if any(group for group, _ in groups):
        cells = "".join(f'<th colspan="{n}">{escape(group)}</th>' for group, n in groups)
        head = f'<tr class="groups">{cells}</tr>\n'
    headings = "".join(f'<th scope="col">{escape(heading)}</th>' for _, heading in table.headings)
    head += f"<tr>{headings}</tr>"
    rows = []
    for first, *rest in table.rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    body = "\n".join(rows)
    return (
        f'<section>\n<h2>{escape(table.title)}</h2>\n<div class="scroll"><table>\n<thead>\n{head}\n</thead>\n'
        f'<tbody>\n{body}\n</tbody>\n</table></div>\n<p class="note">{escape(table.note)}</p>\n</section>'
    )
