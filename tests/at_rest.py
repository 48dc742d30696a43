"""What stands in the page that a report writes, read as the page reads it."""

import gzip
import json
import re
from base64 import b64decode
from typing import Any


def unpacked(page: str) -> dict[str, Any]:
    """Its answers by key, as sent."""
    data = re.search(r'id="data">([^<]*)<', page)
    assert data
    found = json.loads(gzip.decompress(b64decode(data[1])))
    answers: dict[str, Any] = _whole(found["answers"], found["chunks"])
    return answers


def answer(page: str, name: str, **params: str) -> dict[str, Any]:
    """Its answer to a request; any part of the study, and any control that is not given."""
    wanted = {f"{key}={value}" for key, value in params.items()}
    found = (a for key, a in unpacked(page).items() if key.split("\n")[0] == name and wanted <= set(key.split("\n")))
    one: dict[str, Any] = next(found)
    return one


def texts(page: str) -> str:
    """All that it says."""
    return json.dumps(unpacked(page), ensure_ascii=False)


def _whole(value: Any, chunks: list[Any]) -> Any:
    if isinstance(value, list):
        return [_whole(each, chunks) for each in value]
    if not isinstance(value, dict):
        return value
    return _whole(chunks[value["$"]], chunks) if "$" in value else {k: _whole(v, chunks) for k, v in value.items()}
