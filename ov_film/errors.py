"""The one exception that the engine raises for what its user can mend."""


class FilmError(Exception):
    """A fault in what the engine was given; its text is one sentence: the thing, the value, the remedy."""
