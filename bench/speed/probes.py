"""What has to be measured in a process of its own: importing the pack, and loading an adapter.

python -m bench.speed.probes import|adapter --host COMFYUI    prints one JSON object
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from ..host import ROOT, open_host


def probe_import(base: Path) -> dict:
    """Load the pack as the host does at its start, when everything of the host's own is loaded."""
    # As main.py does, before the host's nodes.py puts comfy/utils.py in the way of the first.
    import utils.extra_config  # noqa: F401, I001
    import comfy_api.latest  # noqa: F401  the host's own V3 nodes, which come first, have loaded it
    import comfy_config.config_parser  # noqa: F401  any pack's loading brings it, whichever comes first
    import execution  # noqa: F401
    import nodes
    import server  # noqa: F401

    before = set(sys.modules)
    start = time.perf_counter()
    loaded = asyncio.run(nodes.load_custom_node(str(ROOT)))
    seconds = time.perf_counter() - start
    new = {name.split(".")[0] for name in set(sys.modules) - before}
    return {"loaded": loaded, "seconds": seconds, "transformers": "transformers" in new}


def probe_adapter(base: Path) -> dict:
    """Load a full-size adapter, fp16 safetensors, through its node."""
    import torch
    from deig_pack.nodes.loaders import LoadAdapter, register_adapter_folder

    from bench.random_weights import save_state

    from .measure import Measured, measuring
    from .models import adapter_state

    path = base / "models" / "deig" / "adapter.safetensors"
    save_state(path, adapter_state(torch.float16), torch.float16)
    register_adapter_folder()
    measured = Measured()
    with measuring(measured, torch.device("cpu")):
        kept = LoadAdapter.execute(path.name, "fp16")
    assert kept is not None  # alive until it is measured
    return {"seconds": measured.seconds[0], "peak": measured.peak[0], "size": path.stat().st_size}


PROBES = {"import": probe_import, "adapter": probe_adapter}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("probe", choices=PROBES)
    parser.add_argument("--host", type=Path, required=True)
    options = parser.parse_args()
    base = open_host(options.host, ["--cpu"])
    print(json.dumps(PROBES[options.probe](base)))


if __name__ == "__main__":
    main()
