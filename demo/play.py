"""A real ComfyUI to play with: this pack, the small model in its places, a workflow open. `run.py ui` calls this.

python -m demo.play --host COMFYUI

The server answers on 127.0.0.1 alone and has a folder of its own, so that nothing of the user's ComfyUI is read or
written. It ends with Ctrl-C, with the command that started it, or by itself; the folder goes with it.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
import webbrowser
from pathlib import Path

from small_model.place import WEIGHTS, place_weights

from .server import PACK_NAME, ComfyServer, install_pack
from .show import leave

OPENER = Path(__file__).resolve().parent / "opener"
TEMPLATE = "deig_small_model"
LOOK_SECONDS = 0.5  # between two looks at whether the server still runs


def page(server: ComfyServer) -> str:
    """The address at which the frontend opens the small model's workflow."""
    return f"http://{server.address}/?template={TEMPLATE}&source={PACK_NAME}"


def has_screen() -> bool:
    """Whether a browser has somewhere to open; else Python would start one in the terminal, over our own words."""
    wants_display = sys.platform.startswith(("linux", "freebsd", "openbsd", "netbsd"))
    return not wants_display or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


def furnish(base: Path, weights: Path):
    """Put the pack, the opener and the small model into a ComfyUI's folder."""
    place_weights(base / "models", weights)
    install_pack(base)
    install_pack(base, OPENER, "deig-opener")


def wait_for_its_end(server: ComfyServer, parent: int) -> int:
    """Return when the server has ended, with its exit code, or the process `parent`, which started us, is gone."""
    while os.getppid() == parent:
        code = server.process.poll()
        if code is not None:
            print(f"ComfyUI ended by itself, with code {code}.\n{server.log_tail()}")
            return code or 1
        time.sleep(LOOK_SECONDS)
    return 1


def play(options: argparse.Namespace) -> int:
    parent = os.getppid()
    keep = ("--output-directory", str(options.keep.resolve())) if options.keep else ()
    with tempfile.TemporaryDirectory(prefix="deig-ui-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        furnish(base, options.weights)
        print("Starting ComfyUI ...", flush=True)
        with ComfyServer(options.host, base, extra_args=keep, port=options.port) as server:
            print(f"\n  {page(server)}\n")
            print(
                "Open this address in a browser of this machine; the workflow there paints with the small model."
            )
            kept = (
                f"Pictures go to {options.keep.resolve()}."
                if options.keep
                else "Pictures go with it: save those you like."
            )
            print(f"Ctrl-C ends ComfyUI. {kept}", flush=True)
            if options.browser and has_screen():
                # Some browsers return only when they are closed.
                threading.Thread(target=webbrowser.open, args=(page(server),), daemon=True).start()
            return wait_for_its_end(server, parent)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="what small_model.export wrote")
    parser.add_argument("--port", type=int, help="the port on 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the pictures, which are thrown away otherwise"
    )
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="open no browser")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, leave)
    try:
        return play(options)
    except RuntimeError as failure:  # the server did not start
        print(failure)
        return 1
    except KeyboardInterrupt:
        print("\nComfyUI has ended.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
