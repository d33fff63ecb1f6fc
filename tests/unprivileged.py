"""Being somebody whom permissions hold off, also where the tests run as root."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """Run the block as a user without privileges, with an empty folder of that user's own."""
    if os.name == "nt":
        pytest.skip("permissions are others on Windows")
    # Not tmp_path, which nobody but the user of the tests may enter.
    folder = Path(tempfile.mkdtemp(prefix="deig-unprivileged-"))
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield folder
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)
