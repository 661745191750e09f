"""Numbers in messages."""


def counted(count: int, what: str) -> str:
    """Return a number of things as people write it: 1 frame, 2 frames."""
    return f"{count} {what}{'' if count == 1 else 's'}"
