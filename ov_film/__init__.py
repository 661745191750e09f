"""FILM frame interpolation on OpenVINO, without TensorFlow or torch."""

from typing import TYPE_CHECKING, Any

from .errors import FilmError

if TYPE_CHECKING:
    from .model import FilmModel

__all__ = ["FilmError", "FilmModel"]


def __getattr__(name: str) -> Any:
    """Import FilmModel, and OpenVINO with it, when it is first asked for: finding a model installed needs neither."""
    if name == "FilmModel":
        from .model import FilmModel

        return FilmModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
