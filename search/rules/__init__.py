"""Update rules, by name, and how their hyperparameters are given."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.base.keys import OLDEST_RULE
from search.errors import UserError, expect
from search.own import explained, imported, toggles
from search.rules.adaptive import Adagrad, Adam, AdamW, Lion, RMSprop, Rprop
from search.rules.rule import FRACTION, NOT_NEGATIVE, POSITIVE, Range, Rule, check, check_rest
from search.rules.sgd import SGD
from search.rules.update import SCHEDULES, Schedule, Update

__all__ = [
    "DEFAULT",
    "FRACTION",
    "NOT_NEGATIVE",
    "POSITIVE",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "RMSprop",
    "Range",
    "Rprop",
    "Rule",
    "Schedule",
    "Update",
    "check_value",
    "is_own",
    "legal",
    "needed",
    "normal",
    "rule",
    "separated",
    "update",
]

_RULES: dict[str, type[Rule]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "adagrad": Adagrad,
    "lion": Lion,
    "rprop": Rprop,
}
DEFAULT: Mapping[str, Any] = {"rule": OLDEST_RULE}


@dataclass(frozen=True)
class Option:
    """What composes with every rule.

    Attributes:
        default: its value where it is not given.
        meaning: in a line.
        legal: of a number, the values that it may have.
    """

    default: Any
    meaning: str
    legal: Range | None = None


OPTIONS: Mapping[str, Option] = {
    "gradient_clipping": Option(False, "whether to clip each gradient to [-1, 1], or to clip_value if there is one"),
    "clip_value": Option(None, "bound of each gradient", POSITIVE),
    "clip_norm": Option(None, "bound of the Euclidean norm of all gradients together", POSITIVE),
    "schedule": Option(Schedule.name, f"of the learning rate; one of {', '.join(SCHEDULES)}"),
    "warmup": Option(Schedule.warmup, "epochs in which the learning rate rises to lr", NOT_NEGATIVE),
    "period": Option(
        Schedule.period, "epochs of a step, of the half cosine, or before the inverse root begins to fall", POSITIVE
    ),
    "decay_factor": Option(Schedule.decay, "of schedule=step, at each period", POSITIVE),
}


def rule(definition: Mapping[str, Any]) -> Rule:
    """The rule of a definition, ``{"rule": name, toggle: value, ...}``, which is what a file of ``optimizer`` holds.

    Raises:
        UserError: no such rule, toggle, hyperparameter or option, or a value that is not legal.
    """
    name = definition.get("rule")
    if not isinstance(name, str) or (name not in _RULES and "." not in name):
        raise UserError(f"optimizer.rule={name}: expected one of {', '.join(_RULES)}, or package.module.Class")
    kind = _RULES.get(name) or imported("optimizer.rule", name, Rule, "search.rules.Rule", _RULES)
    own = toggles(kind)
    for key, value in definition.items():
        names = ("rule", *own, *kind.hyperparameters, *OPTIONS)
        expect(key in names, f"optimizer.{key}", value, f"keys among {', '.join(names)}")
    with explained(kind, "__init__"):
        made = check(kind(**{key: value for key, value in definition.items() if key in own}))
    for key, value in definition.items():
        check_value(made, f"optimizer.{key}", key, value)
    return made


def is_own(definition: Mapping[str, Any]) -> bool:
    """Whether a rule is in a module of the user's, which to make is to run."""
    return definition.get("rule") not in _RULES


def legal(made: Rule) -> tuple[str, ...]:
    """Names of the settings of a rule that a space may sample."""
    return (*made.hyperparameters, *toggles(made), *OPTIONS)


def needed(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The hyperparameters that a definition does not give."""
    return tuple(name for name in rule(definition).hyperparameters if name not in definition)


def check_value(made: Rule, key: str, name: str, value: Any) -> None:
    """Raises UserError unless `value` is possible for a setting of a rule; `key` is what the user typed."""
    if name in made.hyperparameters:
        expect(value in made.hyperparameters[name], key, value, str(made.hyperparameters[name]))
    elif name == "gradient_clipping":
        expect(isinstance(value, bool), key, value, "true or false")
    elif name == "schedule":
        expect(value in SCHEDULES, key, value, f"one of {', '.join(SCHEDULES)}")
    elif name in OPTIONS and (numbers := OPTIONS[name].legal):
        none = OPTIONS[name].default is None
        expect(value in numbers or (none and value is None), key, value, str(numbers) + ", or null" * none)
    elif name in toggles(made):
        with explained(type(made), "__init__"):
            dataclasses.replace(made, **{name: value})


def normal(definition: Mapping[str, Any], sampled: Mapping[str, Any]) -> dict[str, Any]:
    """A definition without what is sampled instead, and without options and toggles that are as they are otherwise."""
    made = rule(definition)
    given: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(made)}
    given |= {name: option.default for name, option in OPTIONS.items()}
    return {k: v for k, v in definition.items() if k not in sampled and (k not in given or v != given[k])}


def separated(definition: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The definition of the plain rule, and all that it is given besides: hyperparameters, toggles and options."""
    rule(definition)
    return {"rule": definition["rule"]}, {key: value for key, value in definition.items() if key != "rule"}


def update(definition: Mapping[str, Any], settings: Mapping[str, Any]) -> Update:
    """The update of a trial.

    Args:
        definition: of the rule.
        settings: of the trial, which come before what the definition says; others than the rule's are passed over.

    Raises:
        UserError: a hyperparameter has no value, or one that is not legal.
    """
    plain = rule(definition)
    values = {**definition, **{name: settings[name] for name in legal(plain) if name in settings}}
    made = rule(values)
    for name in made.hyperparameters:
        expect(name in values, name, "(absent)", str(made.hyperparameters[name]))
    hyper = {name: float(values[name]) for name in made.hyperparameters}
    check_rest(made, hyper)
    options = {name: values.get(name, option.default) for name, option in OPTIONS.items()}
    bound = options["clip_value"] or (1.0 if options["gradient_clipping"] else math.inf)
    rest = (float(options[name]) for name in ("warmup", "period", "decay_factor"))
    return Update(
        made, hyper, float(bound), float(options["clip_norm"] or math.inf), Schedule(options["schedule"], *rest)
    )
