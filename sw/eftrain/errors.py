"""The exception for everything a user can get wrong."""


class UserError(ValueError):
    """Bad input. The text is one sentence: what is wrong, where, and the nearest fix.

    Programs print the text alone and exit with code 2; nothing has been written by then.
    """
