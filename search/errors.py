"""The one exception whose text is meant for a user, and what makes texts fit to be shown."""

import re

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130  # exit codes; 130 is 128 + SIGINT: what was interrupted can go on


class UserError(Exception):
    """Bad input. The text is one line that names the file or key and what was expected.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, text: str):
        super().__init__(visible(text))  # files and studies of others may have their say in it


def expect(condition: bool, where: str, value: object, expected: str) -> None:
    """Raises UserError ``where=value: expected ...`` unless `condition` holds."""
    if not condition:
        raise UserError(f"{where}={value}: expected {expected}")


def expect_whole(where: str, value: object, low: int, otherwise: str = "") -> None:
    """Raises UserError unless `value` is a whole number of at least `low`; `otherwise` says what else it may be."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= low
    expect(whole, where, value, f"a whole number of at least {low}{otherwise}")


def masked(text: str) -> str:
    """`text` with user names and passwords of URLs replaced by ``***``."""
    text = re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)
    return re.sub(r"(?i)((?:user|\w*passw\w*|pwd|token|secret)=)[^&\s'\"]+", r"\1***", text)


def one_line(error: BaseException) -> str:
    """An error in one line, without secrets."""
    text = str(getattr(error, "orig", None) or error) or type(error).__name__
    return visible(masked(" ".join(text.split())))[:200]


def visible(text: str) -> str:
    """`text` with all that a terminal would obey, or not show, as an escape sequence of Python: control characters,
    line ends too, those that turn the direction of writing or have no width, and lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
