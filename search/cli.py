"""The command line: each command is a Hydra application; this module dispatches to them and reports errors."""

import difflib
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pkgutil import resolve_name

import hydra
import setproctitle
import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from search.errors import UserError, masked

# Commands by name: the function, resolved when it is called, and what it does.
COMMANDS = {
    "sweep": ("search.commands:sweep", "run a study, or what it still lacks"),
    "worker": ("search.commands:worker", "help with a study that a sweep has begun, from anywhere"),
    "train": ("search.commands:train", "train one trial and print its result as JSON"),
    "status": ("search.commands:status", "how far a study is"),
    "report": ("analysis.report:main", "figures, tables and a page from a study"),
    "bench": ("search.commands:bench", "measure the engines on this machine"),
    "data": ("search.commands:data", "prepare the data of a task"),
}
_SILENT = [
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra.job.name=odyssey",
]
USAGE_ERROR, INTERRUPTED = 2, 130  # 130: 128 + SIGINT, and the run can go on


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``odyssey COMMAND key=value ...``; returns the exit code: 0, 2 after bad input, 130 if interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["--shell-completion"], ["-sc"]):
        words = _completed_command(words)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else USAGE_ERROR
    command, *arguments = words
    if masked(" ".join(words)) != " ".join(words):
        setproctitle.setproctitle(masked(shlex.join(["odyssey", *words])))  # passwords are not for `ps` to show
    if command not in COMMANDS:
        return fail(f"{command}: no such command; expected one of {', '.join(COMMANDS)}")
    if command == "data" and arguments and "=" not in arguments[0] and not arguments[0].startswith("-"):
        arguments[0] = f"task={arguments[0]}"  # odyssey data jsb
    sys.path.append(os.getcwd())  # where users keep cells and tasks of their own
    if command == "report":  # to Hydra, study=a,b would be two runs
        arguments = [re.sub(r"^study=([^\['\"]*,.*)$", r"study=[\1]", word) for word in arguments]
    try:
        code = _run(command, [_lenient(word) for word in arguments])
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return fail(_explained(command, error))
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        again = (
            f"; the same command goes on:\n  odyssey {masked(shlex.join(words))}"
            if command in ("sweep", "worker")
            else ""
        )
        print(f"interrupted{again}", file=sys.stderr)
    return code


def _run(command: str, arguments: list[str]) -> int:
    """Composes the configuration of a command and calls its function."""
    outcome: list[int | Exception] = []

    def task(config: DictConfig) -> None:
        function: Callable[[DictConfig], int | None] = resolve_name(COMMANDS[command][0])
        try:
            for key in map(str, config):
                if key not in legal_keys(command):
                    raise UserError(f"{key}: no such key; expected one of {', '.join(legal_keys(command))}")
            outcome.append(function(config) or 0)
        except (
            UserError,
            OmegaConfBaseException,
        ) as error:  # not through Hydra, which would print more than its one line
            outcome.append(error)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing a traceback of its own
    completing = any(word in ("--shell-completion", "-sc") for word in arguments)
    sys.argv = ["odyssey", *arguments, *([] if completing else _SILENT)]
    hydra.main(config_path="pkg://configs", config_name=command, version_base="1.3")(task)()
    for result in outcome:
        if isinstance(result, Exception):
            raise result
        return result
    return 0  # --help, --cfg and their like call no function


def legal_keys(command: str) -> list[str]:
    """The keys of a command's configuration: its config groups, then its own."""
    primary = yaml.safe_load(resources.files("configs").joinpath(f"{command}.yaml").read_text())
    groups = [next(iter(entry)) for entry in primary.pop("defaults", []) if isinstance(entry, dict)]
    return [*(group for group in groups if group != "experiment"), *primary]


def _lenient(word: str) -> str:
    """An override of a group whose keys we check ourselves, and better: Hydra is told to let new keys pass."""
    return f"++{word}" if word.startswith(("variant.", "space.", "task.", "launcher.")) else word


def _completed_command(words: list[str]) -> list[str]:
    """Arguments for Hydra's completion, which knows of applications but not of commands within one.

    The line being completed is in COMP_LINE: its command becomes ours, and the rest is what Hydra sees.
    """
    if any(word.startswith(("install", "uninstall")) for word in words):
        return ["sweep", *words]
    program, _, rest = os.environ.get("COMP_LINE", "").partition(" ")
    command, space, overrides = rest.lstrip().partition(" ")
    if not space:
        print("\n".join(f"{name}" for name in COMMANDS if name.startswith(command)))
        raise SystemExit(0)
    os.environ["COMP_LINE"] = f"{program} {overrides}"
    os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    return [command, *words]


def _explained(command: str, error: Exception) -> str:
    """One line that names the key and what was expected."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, OverrideParseException):
        return f"{error.override}: expected key=value, in Hydra's override syntax"
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={name}: expected one of {', '.join(error.options)}"
    unknown = re.match(r"Could not override '(.*)'", first)
    if unknown:
        keys = legal_keys(command)
        near = difflib.get_close_matches(unknown[1], keys, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{unknown[1]}: no such key; {hint}expected one of {', '.join(keys)}"
    key = getattr(error, "full_key", None)
    return f"{key}: {first}" if key and key not in first else first


def _usage() -> str:
    commands = "\n".join(f"  {name:8} {text}" for name, (_, text) in COMMANDS.items())
    return f"usage: odyssey COMMAND [key=value ...]\n\n{commands}\n\nodyssey COMMAND --help lists a command's keys."


def fail(text: str) -> int:
    """Prints what is wrong with the input; returns the exit code."""
    print(f"odyssey: {text}", file=sys.stderr)
    return USAGE_ERROR
