"""The one exception whose text is meant for a user."""


class UserError(Exception):
    """Bad input. The text is one line that names the file or key and what was expected.

    The command line prints it without a traceback and exits with code 2.
    """


def expect(condition: bool, where: str, value: object, expected: str) -> None:
    """Raises UserError ``where=value: expected ...`` unless `condition` holds."""
    if not condition:
        raise UserError(f"{where}={value}: expected {expected}")
