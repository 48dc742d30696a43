"""The trials of a plan, as they are put into its queue."""

from collections.abc import Iterator, Mapping
from functools import partial

from optuna.distributions import distribution_to_json

from search.study.claims import Planned
from search.study.plan import Plan
from search.study.space import NumberedSampler


def planned(plan: Plan, ids: Mapping[str, int], samplers: Mapping[str, NumberedSampler]) -> Iterator[Planned]:
    """All trials, the variants in turn.

    Args:
        plan: of the study.
        ids: of the Optuna study of each variant.
        samplers: of each variant; not asked where the plan's learns.
    """
    spaces = {variant: plan.space_of(variant) for variant in plan.variants}
    stored = {
        variant: [(d, d.stored, distribution_to_json(d.stored)) for d in space] for variant, space in spaces.items()
    }

    def drawn(variant: str, number: int) -> dict[str, tuple[float, str]]:
        if plan.learns:
            return {}
        own = samplers[variant]
        draws = [(own.draw(number, d.stored_name), d, distribution, text) for d, distribution, text in stored[variant]]
        return {d.stored_name: (distribution.to_internal_repr(v), text) for v, d, distribution, text in draws}

    for number in range(plan.trials):
        for index, variant in enumerate(spaces):
            yield Planned(ids[variant], number, number * len(spaces) + index, partial(drawn, variant, number))
