"""The page: live, where a server answers it, or at rest, one file with the answers in it."""

import base64
import gzip
import hashlib
import html
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from analysis import forked
from analysis.dashboard.chosen import Chosen
from analysis.dashboard.digest import SCORES
from analysis.dashboard.views import SHARES, STATES, Params, Views
from analysis.frames import records
from search.base.keys import ADJUSTMENTS, SELECTIONS

ASSETS = Path(__file__).parent / "assets"
DIGITS = 6
LONG = 60  # characters from which on what answers have in common stands in one place
VENDOR = ("vega.js", "vega-lite.js", "vega-embed.js")
SCRIPTS = (*VENDOR, "core.js", "figure.js", "table.js", "tabs.js", "page.js")
STYLE = "page.css"
_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # made once: a part of the page is a call
DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{head}
</head>
<body>
{body}
</body>
</html>
"""
_BODY = """<noscript>This page is drawn by its own scripts, which this browser does not run.</noscript>
<div id="page"></div>
"""


@cache
def asset(name: str) -> bytes:
    """A file of the page."""
    return (ASSETS / ("vendor" if name in VENDOR else "") / name).read_bytes()


def live() -> str:
    """The page as a server gives it."""
    head = f'<title>Odyssey</title>\n<link rel="stylesheet" href="assets/{STYLE}">\n<link rel="icon" href="data:,">'
    scripts = "\n".join(f'<script src="assets/{name}"></script>' for name in SCRIPTS)
    return DOCUMENT.format(head=head, body=_BODY + scripts)


def at_rest(views: Views, findings: bool = True) -> str:
    """The page with its data inside, which needs no server and no network.

    Args:
        views: whose digests are at hand, if they are asked for.
        findings: whether they are.
    """
    chunks: dict[str, int] = {}
    asked = list(_asked(views, findings))
    thrifty = {key: _shared(answer, chunks) for key, answer in _answered(views, asked)}
    data = _json({"answers": thrifty, "chunks": list(map(json.loads, chunks))})
    packed = base64.b64encode(gzip.compress(data.encode(), mtime=0)).decode()
    scripts = [asset(name).decode().replace("</script", "<\\/script") for name in SCRIPTS]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {hashes}"
    title = html.escape(views.title)
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<title>{title} · Odyssey</title>\n'
    head += f'<style>{asset(STYLE).decode()}</style>\n<link rel="icon" href="data:,">'
    body = f'<script type="application/octet-stream" id="data">{packed}</script>\n'
    body += "\n".join(f"<script>{script}</script>" for script in scripts)
    return DOCUMENT.format(head=head, body=_BODY + body)


def _asked(views: Views, findings: bool) -> Iterator[tuple[str, Params]]:
    """The requests that a page at rest can answer: all values of the controls, one control beside the usual at a time
    being too few, and ranges of settings too many."""
    yield from ((name, {}) for name in ("boot", "overview", "trials", "cells"))
    for part in views.parts():
        own = {"part": part.key}
        for share in SHARES:
            for select in SELECTIONS:
                for baseline in part.variants:
                    for adjust in ADJUSTMENTS:
                        controls = {"share": share, "select": select, "baseline": baseline, "adjust": adjust}
                        yield "compare", own | controls
        for select in SELECTIONS:
            yield "learning", own | {"select": select, "baseline": part.reference}
            for share, state in [*((share, "best") for share in SHARES), *((SHARES[1], state) for state in STATES[1:])]:
                yield "curves", own | {"select": select, "share": share, "state": state, "baseline": part.reference}
        if findings:
            yield "findings", own
            yield from (("importance", {**own, **params}) for params in _importances(views, part))
    trials = views.frame[["study", "task", "variant", "trial"]].astype(str)
    yield from (("trial", dict(row)) for row in records(trials))


def _importances(views: Views, part: Chosen) -> Iterator[Params]:
    """Each score of each variant, each pair, and each path, which do not depend on each other."""
    choices = views.answer("importance", {"part": part.key}).get("choices", {})
    for score in SCORES:
        for variant in ("", *part.variants):
            yield {"show": "shares", "score": score, "variant": variant}
    yield from ({"show": "pair", "pair": pair} for pair in choices.get("pair", ()))
    yield from ({"show": "path", "to": to} for to in choices.get("to", ()))
    yield {"show": "tables"}


def _answered(views: Views, asked: list[tuple[str, Params]]) -> Iterator[tuple[str, Any]]:
    """The answers by key, computed on all cores: those that have much in common, in one process."""
    groups: dict[tuple[Any, ...], list[tuple[str, Params]]] = {}
    for name, params in asked:
        common = (name, *(params.get(control) for control in ("part", "share", "select", "task", "variant")))
        groups.setdefault(common, []).append((name, params))
    processes = min(len(os.sched_getaffinity(0)), len(groups))
    if processes < 2:
        yield from _answers_of(views, asked)
        return
    with forked.pool(processes, _inherit, views) as pool:
        for answers in pool.map(_answers, groups.values()):
            yield from answers


_inherited: Views


def _inherit(views: Views) -> None:
    global _inherited
    _inherited = views


def _answers(asked: list[tuple[str, Params]]) -> list[tuple[str, Any]]:
    return _answers_of(_inherited, asked)


def _answers_of(views: Views, asked: list[tuple[str, Params]]) -> list[tuple[str, Any]]:
    return [(_key(*each), _rounded(views.answer(*each))) for each in asked]


def _rounded(answer: Any) -> Any:
    """With numbers of as many digits as one can see; the report's own files have all."""
    if isinstance(answer, float):
        return float(f"{answer:.{DIGITS}g}")
    if isinstance(answer, dict):
        return {key: _rounded(value) for key, value in answer.items()}
    return [_rounded(value) for value in answer] if isinstance(answer, list) else answer


def _key(name: str, params: Params) -> str:
    """What the page asks for, as `core.js` calls it."""
    return "".join([name, *(f"\n{key}={params[key]}" for key in sorted(params))])


def _shared(answer: Any, chunks: dict[str, int]) -> Any:
    """An answer in which what many have in common stands elsewhere: specifications, frames, tables."""
    if isinstance(answer, dict):
        return _chunk({key: _shared(value, chunks) for key, value in answer.items()}, chunks)
    if isinstance(answer, list):
        nested = any(isinstance(value, dict | list) for value in answer)
        return _chunk([_shared(value, chunks) for value in answer] if nested else answer, chunks)
    return answer


def _chunk(value: Any, chunks: dict[str, int]) -> Any:
    text = _json(value)
    return value if len(text) < LONG else {"$": chunks.setdefault(text, len(chunks))}
