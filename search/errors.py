"""The one exception whose text is meant for a user, and what makes texts fit to be shown."""

import re
import shlex
from collections.abc import Iterable

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130  # exit codes; 130 is 128 + SIGINT: what was interrupted can go on
_SECRET = r"(?:user|\w*passw\w*|pwd|token|secret)"


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
    """`text` with user names and passwords of URLs, and values of keys such as password, replaced by ``***``.

    A password may have any sign in it but a line's end: rather too much is replaced than too little.
    """
    text = re.sub(r"(?<=://)([^\s'\"/:@]*:(?:(?!://).)*|[^\s'\"]*)@", "***@", text)
    text = re.sub(r"(?<=\bstorage=)(?!\S*://)\S*@", "***@", text)  # a URL that is mistyped
    text = re.sub(rf"(?i)([?&]{_SECRET}=)[^&\n]+", r"\1***", text)
    return re.sub(rf"(?i)((?<![?&\w]){_SECRET}=)('[^'\n]*'|\"[^\"\n]*\"|[^&\s'\"]+)", r"\1***", text)


def masked_command(words: Iterable[str]) -> str:
    """A command line, as a shell takes it, each of its words `masked`."""
    return shlex.join(map(masked, words))


def one_line(error: BaseException) -> str:
    """An error in one line, without secrets."""
    text = str(getattr(error, "orig", None) or error) or type(error).__name__
    return visible(masked(" ".join(text.split())))[:200]


def visible(text: str) -> str:
    """`text` with all that a terminal would obey, or not show, as an escape sequence of Python: control characters,
    line ends too, those that turn the direction of writing or have no width, and lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
