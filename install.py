"""Fetch and convert the full FILM model; ComfyUI-Manager runs this after the requirements are installed."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's status: 0, or 1 on an error, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        _install(options)
    except KeyboardInterrupt:
        print("Interrupted; nothing was installed or replaced.", file=sys.stderr)
        return 130
    except Exception as error:  # Manager's users see a console: one line for them, the traceback behind --debug
        if options.debug:
            raise
        sentence = " ".join(str(error).split())
        if isinstance(error, ImportError):
            sentence += f": type `{sys.executable} -m pip install -r requirements.txt` in this pack's folder."
        print(sentence, file=sys.stderr)
        return 1
    return 0


def _install(options: argparse.Namespace) -> None:
    from ov_film.errors import FilmError
    from ov_film.fetch import by_hand, install
    from ov_film.library import default_models_folder

    models = options.models_dir or default_models_folder()
    report = partial(print, flush=True)  # the console is often a pipe, and the progress bar isn't buffered
    try:
        install(models, source=options.source, force=options.force, report=report)
    except FilmError as error:
        if options.source or options.require:
            raise
        report(f"{error} The small model that comes with this pack works now. {by_hand(models)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Fetch Google's FILM and convert it for OpenVINO, into the folder `film` of the models folder. "
        "Where that is done already, nothing happens. Else an archive (film*.tar.gz) or a SavedModel folder that "
        "lies in the models folder is converted; else google/film is fetched by tensorflow_hub, if that is "
        "installed, or from Kaggle (both clients keep what they fetched in their own caches). Where it can't be "
        "fetched, the way to do it by hand is printed, and the status is 0.")
    parser.add_argument("--source", help="convert this, even if the model is there: a SavedModel folder, a .tar.gz, "
                        "the address of one, or a handle (https://tfhub.dev/google/film/1, "
                        "google/film/tensorFlow2/film/1)")
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="the models folder; without this, "
                        "models/film_openvino of the ComfyUI that holds this pack")
    parser.add_argument("--force", action="store_true", help="convert again, even if the model is there")
    parser.add_argument("--require", action="store_true", help="end with status 1 where it can't be fetched")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
