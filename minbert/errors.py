"""The one exception for mistakes that the person at the keyboard can mend."""


class UserError(Exception):
    """One line: what was wrong, where (file, line, value), what to do. Scripts then exit 2."""
