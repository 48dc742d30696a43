# PYTHON_ARGCOMPLETE_OK
"""The command line: finds the command, has its settings composed, and reports what goes wrong in one line."""

import argparse
import gc
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NoReturn

from search.base import keys
from search.errors import FAILED, INTERRUPTED, USER_ERROR, UserError, masked, masked_command, one_line, visible

if TYPE_CHECKING:
    from search.run.composition import Composer

# Commands by name: the function, resolved when it is called, and what it does.
COMMANDS = {
    "sweep": ("search.run.commands:sweep", "run a study, or what it still lacks"),
    "worker": ("search.run.commands:worker", "help with a study that a sweep has begun, from anywhere"),
    "replicate": ("search.run.commands:replicate", "train the best setting of each variant again with new seeds"),
    "evolve": ("search.run.evolve:main", "search for new cells by mutation, in generations"),
    "train": ("search.run.commands:train", "train one trial and print its result as JSON"),
    "status": ("search.run.status:main", "how far a study is"),
    "report": ("analysis.report:main", "figures, tables and a page from a study"),
    "dashboard": ("analysis.dashboard.command:main", "the same page, live, as a study is being trained"),
    "publish": ("search.run.publish:publish", "write a study or an evolution to small files, to be kept with a paper"),
    "restore": ("search.run.publish:restore", "make a study or an evolution of a published one, to go on with"),
    "cell": ("analysis.cell_command:main", "the card of a cell: equations, cost, gradient at initialisation"),
    "bench": ("search.run.commands:bench", "measure the engines on this machine"),
    "data": ("search.run.commands:data", "prepare the data of a task"),
}
# That run cells and tasks of the user's own.
_TRAIN = ("sweep", "worker", "replicate", "evolve", "train", "restore", "cell", "bench", "data")
_LISTS = {"variants": "variant", "tasks": "task", "gate": "task"}  # keys of names, and the config groups of those
_EPILOG = """\
odyssey COMMAND --help explains a command's keys. Completion of commands, keys and values in the shell:
eval "$(register-python-argcomplete odyssey)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``odyssey COMMAND key=value ...``.

    Returns:
        the exit code: 0; 1 if what was to be computed failed; 2 after bad input; 130 if interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if any(masked(word) != word for word in words):
        import setproctitle

        setproctitle.setproctitle(masked_command(["odyssey", *words]))  # passwords are not for `ps` to show
    try:
        code = _run(words)
        if sys.stdout:  # which may have been closed
            sys.stdout.flush()
    except UserError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that has gone
        print(f"odyssey: {one_line(error)}", file=sys.stderr)
        return FAILED
    except Exception:  # a fault of ours: all of it, less the secrets that may stand in it
        print(masked(traceback.format_exc()), end="", file=sys.stderr)
        print("odyssey: this is a fault in odyssey itself; please report it with the lines above", file=sys.stderr)
        return 1
    if code == INTERRUPTED:
        again = ""
        if words and words[0] in ("sweep", "worker", "replicate", "evolve"):
            again = f"; the same command goes on:\n  odyssey {masked_command(words)}"
        print(f"interrupted{again}", file=sys.stderr)
    return code


def _run(words: list[str]) -> int:
    parser = _parser()
    if "COMP_LINE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_intermixed_args(words)
    if options.version:
        print(f"odyssey {metadata.version('odyssey')}")
        return 0
    command, *arguments = options.words or [""]
    if not command:
        print(parser.format_help(), end="")
        return 0 if options.help else USER_ERROR
    if command not in COMMANDS:
        raise UserError(f"{masked(command)}: no such command; expected one of {', '.join(COMMANDS)}")
    if command == "data" and arguments and "=" not in arguments[0]:
        arguments[0] = f"task={arguments[0]}"  # odyssey data jsb
    if command == "cell" and arguments and "=" not in arguments[0]:
        arguments[0] = f"variants={arguments[0]}"  # odyssey cell gru
    if command in _TRAIN and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where users keep cells and tasks of their own

    composer_of = _loaded("search.run.composition:Composer")  # Hydra, which completion and errors above do without
    with composer_of(options.config_dir, masked_command(["odyssey", *words])) as composer:
        if options.help:
            print(_help(composer, command, arguments), end="")
        elif options.cfg:
            from omegaconf import OmegaConf

            config, _ = composer.parsed(command, arguments)
            shown = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            print(masked(OmegaConf.to_yaml(shown)), end="")
        else:
            composed = composer.compose(command, arguments)
            return _loaded(COMMANDS[command][0])(composed, composer) or 0
    return 0


def _loaded(path: str) -> Any:
    """What ``package.module:name`` names, loaded without looking for garbage.

    There is none in what is loaded, which is much: to go through that again and again, now and whenever garbage is
    looked for later, is a sixth of the time of a report.
    """
    if path.partition(":")[0] not in sys.modules:
        gc.disable()
        try:
            return resolve_name(path)
        finally:
            gc.freeze()
            gc.enable()
    return resolve_name(path)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown and unknown[1] in ("-m", "--multirun"):
            raise UserError(f"{unknown[1]}: a sweep is of one study; for several variants give variants=[a,b]")
        if unknown:
            expected = f"key=value, or one of {', '.join(self._options())}"
            raise UserError(f"{masked(unknown[1])}: no such option; expected {expected}")
        raise UserError(masked(message))

    def _options(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:9} {text}" for name, (_, text) in COMMANDS.items())
    parser = _Parser(
        prog="odyssey",
        usage="odyssey COMMAND [key=value ...] [--config-dir FOLDER] [--cfg job]",
        description=f"commands:\n{commands}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS).completer = _completed  # type: ignore[attr-defined]
    folder = "folder with variants, tasks, spaces and experiments of your own"
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="FOLDER", help=folder)
    parser.add_argument("--cfg", "-c", choices=["job"], help="print the command's settings, and do nothing")
    parser.add_argument("--help", "-h", action="store_true", help="explain a command's keys")
    parser.add_argument("--version", action="store_true")
    return parser


def _help(composer: "Composer", command: str, words: Sequence[str]) -> str:
    """The keys of a command, each with its default and what it means, and its config groups with their files."""
    lines = [f"usage: odyssey {command} [key=value ...]", "", *_comment(keys.primary(command)), ""]
    rows = [(f"{key}={value}", comment, key) for key, (value, comment) in keys.meanings(keys.primary(command)).items()]
    width = max((len(row[0]) for row in rows), default=0)
    for assigned, comment, key in rows:
        own = keys.kind(command, key)
        lines.append(f"  {assigned:{width}}  {'; '.join(filter(None, [comment, own.expected if own else '']))}")
    for group in keys.groups(command):
        lines += ["", f"{group}=NAME, one of {', '.join(composer.options(group))}"]
    config, _ = composer.parsed(command, words)
    for group in ("task", "optimizer", "launcher"):
        if group in keys.groups(command):
            choice = config.hydra.runtime.choices[group]
            found = keys.meanings(composer.text(group, choice))
            lines += ["", f"keys of {group}={choice}:"]
            lines += [
                f"  {group}.{key}={value}  {text}".rstrip()
                for key, (value, text) in found.items()
                if key not in ("name", "rule", "space")
            ]
        if group == "optimizer" and group in keys.groups(command):
            from search.rules import OPTIONS

            for key, option in OPTIONS.items():
                lines.append(f"  optimizer.{key}={keys.shown(option.default)}  {option.meaning}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    """The lines of comment at the head of a file."""
    head = re.match(r"(?:#.*\n)*", text)
    return [line.lstrip("# ") for line in head[0].splitlines()] if head else []


def _completed(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """What a word of the command line may become: a command, a key, or a value of a key."""
    from search.rules import SCHEDULES
    from search.run.composition import Composer, options

    command, *_words = parsed_args.words or [""]
    if command not in COMMANDS:
        return list(COMMANDS)
    folders = [Path(folder) for folder in parsed_args.config_dir]
    key, equals, value = prefix.partition("=")
    if not equals:
        own = _settings(Composer(parsed_args.config_dir), command, _words)
        return [f"{name}=" for name in dict.fromkeys([*keys.legal_keys(command), *keys.groups(command), *own])]
    if key in keys.groups(command):
        return [f"{key}={name}" for name in options(key, folders)]
    if key == "study":
        runs = next((w.removeprefix("runs=") for w in _words if w.startswith("runs=")), "runs")
        marks = ["lineage.jsonl"] if command == "evolve" else ["study.yaml"]
        marks += ["lineage.jsonl"] if command == "report" else []
        return [f"study={path.parent.name}" for mark in marks for path in sorted(Path(runs).glob(f"*/{mark}"))]
    if key in _LISTS:
        before = value[: value.rfind(",") + 1]
        return [f"{key}={before}{name}" for name in options(_LISTS[key], folders) if name not in before.split(",")]
    if key == "optimizer.schedule" or (key, command) == ("schedule", "train"):
        return [f"{key}={name}" for name in SCHEDULES]
    kind = keys.kind(command, key)
    return [f"{key}={value}" for value in (kind.values if kind else ())]


def _settings(composer: "Composer", command: str, words: Sequence[str]) -> list[str]:
    """The keys of the files that are chosen, as ``task.path``; those of the optimizer of one trial are its own."""
    from search.rules import OPTIONS

    found = []
    for group, default in keys.groups(command).items():
        if group not in ("task", "optimizer", "launcher", "space"):
            continue
        chosen = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
        name = [default, *chosen][-1]
        if group == "space" or (group, command) == ("optimizer", "sweep"):
            content = composer.mapping(group, name)
            space = content if group == "space" else content.get("space", {})
            found += [f"space.{name}.{field}" for name, spec in space.items() for field in spec]
        if group != "space":
            place = "" if (group, command) == ("optimizer", "train") else f"{group}."
            names = keys.meanings(composer.text(group, name))
            found += [f"{place}{name}" for name in names if name not in ("name", "module", "rule", "space")]
            found += [f"{place}{name}" for name in OPTIONS if group == "optimizer"]
    return found


def fail(text: str) -> int:
    """Prints what is wrong with the input; returns the exit code."""
    print(f"odyssey: {visible(text)}", file=sys.stderr)
    return USER_ERROR
