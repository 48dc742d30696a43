"""What the page is made from when it is opened: the parts there are to choose from, and what they ran with."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import yaml

from analysis import words
from analysis.dashboard.chosen import Chosen
from analysis.dashboard.source import Source
from analysis.load import sampled
from analysis.style import Dimension
from search.errors import masked
from search.evolve import settings as kept_settings
from search.study import repeat
from search.study.plan import PLAN_FILE


def parts(every: Sequence[Chosen]) -> list[dict[str, Any]]:
    """The parts, as the page names them."""
    return [
        {
            "key": part.key,
            "study": part.study,
            "task": part.task,
            "title": part.title,
            "label": part.label,
            "note": part.note,
            "variants": part.variants,
            "reference": part.reference,
            "settings": sampled(part.trials),
            "complement": [name for name in sampled(part.trials) if Dimension.of(name, part.plan.space).complement],
        }
        for part in every
    ]


def ran(source: Source, further: Sequence[str]) -> dict[str, Any]:
    """When and with what the trials ran, and the commands and settings by which.

    Args:
        source: the studies.
        further: commands beside those that make the studies.
    """
    frame, plans = source.frame, source.plans
    counts = frame["status"].value_counts()
    alone = [plan for name, plan in plans.items() if source.evolution(name) is None]
    known = [(plan.study, PLAN_FILE, asdict(plan)) for plan in alone]
    known += [(each.name, kept_settings.FILE, dict(each.settings)) for each in source.evolutions]
    evolve = [["odyssey", "evolve", f"study={each.name}", f"runs={each.folder.parent}"] for each in source.evolutions]
    return {
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "when": words.when(frame),
        "ended": int(sum(counts.get(status, 0) for status in ("finished", "diverged", "failed"))),
        "draws": list(dict.fromkeys(plan.draws for plan in plans.values())),
        "provenance": dict(words.provenance(frame)),
        "commands": [*(masked(repeat.sweep(plan)) for plan in alone), *map(shlex.join, evolve), *further],
        "plans": [
            [f"{name}: {file}", masked(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))]
            for name, file, values in known
        ],
    }
