"""The pack's nodes. Importing this package imports ComfyUI."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from . import (
    attention,
    boxes,
    describe,
    eligen,
    grounding,
    layout,
    loaders,
    masks,
    multi_instance,
    paper,
    regions,
)
from .layout_route import add_layout_route


class DeigExtension(ComfyExtension):
    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Not in on_load, which the oldest hosts never call.
        loaders.register_adapter_folder()
        add_layout_route()
        return [
            *loaders.NODES,
            *regions.NODES,
            *layout.NODES,
            *boxes.NODES,
            *masks.NODES,
            *describe.NODES,
            *grounding.NODES,
            *multi_instance.NODES,
            *attention.NODES,
            *paper.NODES,
            *eligen.NODES,
        ]
