"""The one exception for mistakes that the user can mend."""


class UserError(Exception):
    """A mistake in one line: what is wrong, where (file, line, value), what to do.

    Scripts print it and exit with code 2.
    """
