"""From the words of a command line to its settings, by Hydra: config groups, files of the user's own, experiments."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from search.base import keys
from search.errors import UserError, expect, masked, one_line

_EXPERIMENT = "experiment@_global_"  # as Hydra is told, so that a file of the group needs no `# @package _global_`
_GROUPS = ("variant", "space", "task", "optimizer", "launcher", "experiment")
_OPEN = ("variant", "space", "task", "optimizer", "launcher")  # groups that take keys which their files do not have


@dataclass(frozen=True)
class Composed:
    """The settings of a command.

    Attributes:
        settings: plain values, all keys present and of their kinds.
        choices: the file that was chosen of each config group.
        said: the keys that the user gave, ``space`` and ``space.lr.low`` alike, or that an experiment gives which the
            user named; everything else is a default.
    """

    settings: dict[str, Any]
    choices: dict[str, str]
    said: frozenset[str]


class Composer:
    """Composes settings from the project's configs and those in folders of the user's. Use as a context.

    Args:
        folders: of the user's, laid out like ``configs``.
        line: the command as it was typed, without passwords.

    Raises:
        UserError: one is no folder, or has a file by the name of one of the project's, which would be ambiguous, or one
            that cannot be named or read.
    """

    def __init__(self, folders: Sequence[str] = (), line: str = "odyssey"):
        self.line = line
        self._folders = [Path(folder).resolve() for folder in folders]
        expect(all(folders), "--config-dir", "", "a folder")
        for folder in self._folders:
            text = "a folder with config groups in it, e.g. FOLDER/variant/mine.yaml"
            expect(folder.is_dir(), "--config-dir", folder, text)
            for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]):
                place = path.relative_to(folder)
                ours = place.parent.name in _GROUPS and not path.name.startswith(".")
                if ours and not (keys.is_name(path.stem) and path.is_file()):
                    raise UserError(f"{path}: expected a file, called {keys.NAME_EXPECTED}, and .yaml")
                if resources.files("configs").joinpath(str(place)).is_file():
                    raise UserError(
                        f"{path}: expected another name; {place.with_suffix('')} is one of the project's own"
                    )

    def __enter__(self) -> "Composer":
        self._context = hydra.initialize_config_module("configs", version_base="1.3", job_name="odyssey")
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def compose(self, command: str, words: Sequence[str]) -> Composed:
        """The settings of a command.

        An experiment says what the user does not: where the user chooses a file of a config group, what the experiment
        says of that group does not hold. ``space.lr={distribution: ...}`` states a distribution anew.

        Raises:
            UserError: names the word, key or file, and what was expected.
        """
        config, overrides = self.parsed(command, words)
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        assert isinstance(choices, dict)
        names = [key for key in map(str, config) if key != "hydra"]
        legal = keys.legal_keys(command)
        for name in names:
            if name not in legal:
                raise UserError(_unknown(name, legal))
        for name in legal:
            if name not in names:
                raise UserError(f"~{name}: expected values of its own, {name}.KEY=VALUE")
        settings = self._plain(command, config, names)
        chosen = [o.key_or_group for o in overrides if o.key_or_group in keys.groups(command)]
        experiment = choices.get(_EXPERIMENT)
        said = {o.key_or_group for o in overrides}
        if experiment is not None:
            own = self.mapping("experiment", experiment)
            contested = [group for group in chosen if group in own]
            sampling = "space" in chosen and "optimizer" in own  # which says more of the space
            if contested or sampling:
                without = [w for w in words if not w.startswith("experiment=")]
                bare, _ = self.parsed(command, [*without, "experiment=null"])
                settings |= self._plain(command, bare, contested)
                if sampling:
                    settings["optimizer"]["space"] = self._plain(command, bare, ["optimizer"])["optimizer"]["space"]
            if _EXPERIMENT in said:
                said |= {*own, *_overridden(own)} - {"defaults"}
        for override in overrides:
            group, _, name = override.key_or_group.partition(".")
            value = override.value()
            of_optimizer = group == "optimizer" and name.split(".")[0] == "space"
            if of_optimizer:
                one = name != "space" and "space" in settings
                expect(one, override.key_or_group, keys.shown(value), "space.NAME=..., of a study's samples")
            if (group == "space" or of_optimizer) and isinstance(value, dict) and "distribution" in value:
                space = settings["optimizer"]["space"] if of_optimizer else settings["space"]
                space[name.removeprefix("space.")] = OmegaConf.to_container(OmegaConf.create(value))
        if isinstance(settings.get("optimizer"), dict):
            sampled = settings["optimizer"].pop("space", None) or {}
            if "space" in settings:
                fixed = [key.partition(".")[2] for key in said if key.startswith("optimizer.")]
                for name in fixed:
                    sampled.pop(name, None)
                    free = not (isinstance(settings["space"], dict) and name in settings["space"])
                    free &= not any(f"{key}.".startswith(f"optimizer.space.{name}.") for key in said)
                    expect(
                        free, f"optimizer.{name}", settings["optimizer"].get(name), f"no space.{name}, which samples it"
                    )
                settings["space"] = _joined(settings["space"], sampled)
        keys.check(command, settings)
        return Composed(settings, {str(k): str(v) for k, v in choices.items()}, frozenset(said))

    def parsed(self, command: str, words: Sequence[str]) -> tuple[DictConfig, list[Override]]:
        """The configuration of a command as Hydra composes it, and the words as Hydra understands them."""
        for word in words:
            group, _, name = word.partition("=")
            if group not in keys.groups(command) or (group, name) == ("experiment", "null"):
                continue
            legal = self.options(group)
            expect(name in legal, group, keys.shown(name), f"one of {', '.join(legal)}")
            for key, value in self.mapping(group, name).items():  # Hydra would name another file that it does not fit
                fits = group != "space" or key == "defaults" or isinstance(value, dict)
                expect(fits, f"{group}/{name}.yaml: {key}", keys.shown(value), "a distribution")
        try:
            typed = [_override(command, word) for word in self._in_groups(command, words)]
            overrides = OverridesParser.create().parse_overrides(typed)
        except OverrideParseException as error:
            raise UserError(self._explained(command, error)) from None
        for override in overrides:  # of a group that the command does not take Hydra would say neither name nor legal
            root = override.key_or_group.partition(".")[0]
            if override.value() is None and root not in (*keys.legal_keys(command), *keys.groups(command)):
                raise UserError(_unknown(root, keys.legal_keys(command)))
        folders = [f"'file://{_quoted(str(folder))}'" for folder in self._folders]
        lines = [f"hydra.searchpath=[{','.join(folders)}]", *(o.input_line or "" for o in overrides)]
        try:
            return hydra.compose(command, lines, return_hydra_config=True), overrides
        except RecursionError:
            raise UserError(f"{command}: expected config files that do not refer to one another in a circle") from None
        except Exception as error:  # Hydra's, OmegaConf's and YAML's, of which each has kinds of its own
            raise UserError(self._explained(command, error)) from error

    def _in_groups(self, command: str, words: Sequence[str]) -> list[str]:
        """The words, of ``odyssey train`` those that name settings of the optimizer as keys of it."""
        if "optimizer" not in keys.groups(command) or "space" in keys.groups(command):
            return list(words)
        from search.rules import OPTIONS  # which other commands do without

        chosen = next((word.partition("=")[2] for word in reversed(words) if word.startswith("optimizer=")), "")
        own = {*self.mapping("optimizer", chosen or keys.groups(command)["optimizer"]), *OPTIONS} - {"rule", "space"}
        legal = keys.legal_keys(command)
        found = []
        for word in words:
            name = word.partition("=")[0]
            if name.isidentifier() and "=" in word and name not in (*legal, *keys.groups(command)):
                if name not in own:
                    raise UserError(_unknown(name, [*legal, *sorted(own)]))
                word = f"optimizer.{word}"
            found.append(word)
        return found

    def _plain(self, command: str, config: DictConfig, names: Sequence[str]) -> dict[str, Any]:
        try:
            chosen = OmegaConf.masked_copy(config, list(names))
            plain = OmegaConf.to_container(chosen, resolve=True, throw_on_missing=True)
        except Exception as error:
            raise UserError(self._explained(command, error)) from error
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

    def options(self, group: str) -> list[str]:
        """The files of a config group, by name."""
        return options(group, self._folders)

    def variant(self, name: str) -> dict[str, Any]:
        """The definition of a variant, by the name of its file.

        Raises:
            UserError: there is none, or it is no mapping.
        """
        legal = self.options("variant")
        expect(name in legal, "variants", keys.shown(name), f"names among {', '.join(legal)}")
        found, _ = self.parsed("train", [f"variant={name}"])
        definition = self._plain("train", found, ["variant"]).get("variant")
        if not isinstance(definition, dict):
            raise UserError(f"variant={name}: expected a file with cell: NAME and toggles")
        return definition

    def task(self, name: str) -> dict[str, Any]:
        """The definition of a task, by the name of its file.

        Raises:
            UserError: there is none, or it is no mapping.
        """
        legal = self.options("task")
        expect(name in legal, "tasks", keys.shown(name), f"names among {', '.join(legal)}")
        found, _ = self.parsed("train", [f"task={name}"])
        definition = self._plain("train", found, ["task"]).get("task")
        if not isinstance(definition, dict):
            raise UserError(f"task={name}: expected a file with name: NAME and options")
        return definition

    def text(self, group: str, name: str) -> str:
        """The text of a file of a config group."""
        for folder in (resources.files("configs"), *self._folders):
            path = folder.joinpath(group, f"{name}.yaml")
            if path.is_file():
                try:
                    return path.read_text(encoding="utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(f"{path}: expected YAML ({one_line(error)})") from error
        raise UserError(f"{group}={name}: expected one of {', '.join(self.options(group))}")

    def mapping(self, group: str, name: str) -> dict[str, Any]:
        """What stands in a file of a config group, as a mapping."""
        try:
            content = yaml.safe_load(self.text(group, name))
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{group}/{name}.yaml: expected YAML ({one_line(error)})") from error
        expect(isinstance(content, dict), f"{group}/{name}.yaml", keys.shown(content), "a mapping of keys to values")
        return {str(key): value for key, value in content.items()}

    def _explained(self, command: str, error: Exception) -> str:
        """One line that names the key and what was expected."""
        first, *rest = str(error if str(error) else error.__cause__ or type(error).__name__).splitlines()
        if first.endswith(":") and rest:  # where it is, and on the next line what
            first = f"{first} {rest[0]}"
        if isinstance(error, OverrideParseException):
            word = re.sub(r"^\++", "", str(error.override))
            return f"{masked(word)}: expected key=value; a value with a comma or a bracket needs quotes, key='\"...\"'"
        if isinstance(error, UnicodeDecodeError):
            return f"expected UTF-8 in every config file ({one_line(error)})"
        if isinstance(error, yaml.YAMLError):
            return f"expected YAML in every config file ({one_line(error)})"
        if isinstance(error, MissingConfigException) and error.missing_cfg_file:
            group, _, name = str(error.missing_cfg_file).rpartition("/")
            return f"{group}={name}: expected one of {', '.join(self.options(group))}" if group else first
        unknown = re.match(r"(?:Could not override '|Key ')([^']*)'", first)
        if unknown:
            legal = keys.legal_keys(command)
            return _unknown(unknown[1], legal)
        merging = re.match(r"Error merging override \+*(.*)", first)
        if merging:
            return f"{masked(merging[1])}: expected a value of the same kind as the one that the key has"
        missing = re.match(r"Missing mandatory value: (.*)", first)
        if missing:
            return f"{missing[1]}: expected a value, {missing[1]}=..., or an experiment that gives one"
        key = getattr(error, "full_key", None)
        return masked(f"{key}: {first}" if key and key not in first else first)


def options(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """The files of a config group, by name: the project's, and those in folders of the user's."""
    own = resources.files("configs").joinpath(group)
    found = [entry.name for entry in own.iterdir()] if own.is_dir() else []
    found += [path.name for folder in folders for path in (folder / group).glob("*.yaml")]
    names = {name.removesuffix(".yaml") for name in found if name.endswith(".yaml") and not name.startswith(".")}
    return sorted(names)


def _overridden(content: dict[str, Any]) -> set[str]:
    """The config groups whose files an experiment chooses: ``defaults: [override /space: mine]``."""
    entries = content.get("defaults") or []
    names = [str(key) for entry in entries if isinstance(entry, dict) for key in entry]
    return {name.removeprefix("override ").strip().lstrip("/") for name in names}


def _joined(space: Any, sampled: Any) -> Any:
    """A space with what an optimizer samples: of its settings those parts that the space does not state."""
    if not (isinstance(space, dict) and isinstance(sampled, dict)):
        return space
    joined = {name: space[name] for name in ("hidden_size",) if name in space}
    for name, distribution in (sampled | space).items():
        both = isinstance(distribution, dict) and isinstance(sampled.get(name), dict)
        partial = both and "distribution" not in distribution
        joined[name] = sampled[name] | distribution if partial else distribution
    return joined


def _override(command: str, word: str) -> str:
    """A word as Hydra should read it."""
    key, equals, value = word.partition("=")
    name = key.lstrip("+~")
    if not (equals and name) and not key.startswith("~"):
        raise UserError(f"{masked(keys.shown(word))}: expected key=value")
    if key.startswith("~") and name.partition(".")[0] not in keys.groups(command):
        raise UserError(f"{masked(keys.shown(word))}: expected key=value; ~ leaves out what a group has, ~space.NAME")
    if re.match(r"hydra\b", name):
        raise UserError(_unknown(name, keys.legal_keys(command)))
    kind = keys.kind(command, name)
    plain = value != "null" and value[:1] not in ("'", '"', "[", *("{" if kind and kind.mapped else ""))
    if kind and kind.many and value and plain:
        parts = [part.strip() for part in value.split(",")]
        expect(all(parts), name, keys.shown(value), kind.expected)
        typed = [f"'{_quoted(part)}'" if kind.text else part for part in parts]
        return f"{key}=[{','.join(typed)}]"
    if kind and kind.text and plain:
        return f"{key}='{_quoted(value)}'"
    if name == "experiment":
        return f"~{_EXPERIMENT}" if value == "null" else f"{_EXPERIMENT}='{_quoted(value)}'"
    if key in keys.groups(command):
        return f"{key}='{_quoted(value)}'"
    # Keys of a group that takes more than its file has are checked by us, and better: Hydra lets them pass.
    return f"++{word}" if key == name and name.partition(".")[0] in _OPEN and "." in name else word


def _quoted(value: str) -> str:
    """Text within single quotes, in Hydra's grammar; nothing in it is a reference to another key."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", value))
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)


def _unknown(name: str, legal: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, legal, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{name}: no such key; {hint}expected one of {', '.join(legal)}"
