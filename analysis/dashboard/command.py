"""The command ``odyssey dashboard``."""

import sys

from analysis import findings as judging
from analysis.dashboard.background import Background
from analysis.dashboard.server import serve
from analysis.dashboard.source import Source
from analysis.dashboard.views import Views
from search.run.composition import Composed, Composer


def main(composed: Composed, composer: Composer) -> int:
    """``odyssey dashboard``: serves the page of a study until it is interrupted."""
    settings = composed.settings
    findings = judging.PUBLISHED if settings["findings"] is None else settings["findings"]
    judging.read(findings)  # so that what is wrong with it is said now
    source = Source(settings["study"], settings["runs"], settings["storage"])
    digests = Background(findings)
    try:
        serve(Views(source, digests, live=True), settings["host"], settings["port"], _say)
    except KeyboardInterrupt:  # the way to end it
        pass
    finally:
        digests.close()
        source.close()
    return 0


def _say(address: str) -> None:
    print(address, flush=True)
    print("odyssey dashboard: serves until Ctrl-C; it only reads", file=sys.stderr, flush=True)
