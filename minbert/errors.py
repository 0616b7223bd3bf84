"""The one exception for mistakes that the user can mend; what others say, in one line."""

# ends a message that names a file, key and value, if none of our scripts writes such a value
DAMAGED = "the file is damaged: correct it, or put back a copy"


class UserError(Exception):
    """A mistake in one line: what is wrong, where (file, line, value), what to do.

    Scripts print it and exit with code 2.
    """


def first_line(error: Exception) -> str:
    """Return the beginning of an exception's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]
