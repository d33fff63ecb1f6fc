"""Folders of models, which may hold anything: walked past what cannot be read, with one warning for each of these."""

import logging
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

log = logging.getLogger(__name__)


def walk_folder(
    root: Path, passed_over: Callable[[str], None]
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk a folder and what is linked into it as `os.walk` does, past what cannot be entered.

    Args:
        passed_over: told of each folder that cannot be read, in words. One that is not there is none.
    """

    def failed(error: OSError):
        if not isinstance(error, FileNotFoundError):
            passed_over(f"{error.filename} cannot be read ({error.strerror})")

    for here, folders, files in os.walk(root, followlinks=True, onerror=failed):
        try:
            os.stat(os.path.join(here, "."))
        except OSError as error:
            # Its names may be read and nothing else of them.
            passed_over(f"{here} cannot be entered ({error.strerror})")
            folders.clear()
        else:
            yield Path(here), folders, files


@lru_cache(maxsize=256)
def warn_once(message: str):
    """Warn, unless the same was said before."""
    # The host asks for the list again and again. Names of files may have bytes that no console can show.
    log.warning("%s", message.encode("utf-8", "backslashreplace").decode())
