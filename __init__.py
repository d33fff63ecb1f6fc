"""DEIG for ComfyUI: the entry point that the host looks for.

Nothing of the host is imported until the host asks for the nodes, so that pytest and plain scripts may
import this package where there is no ComfyUI.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension that lists this pack's nodes (ComfyUI's V3 API calls this by name)."""
    from .nodes import DeigExtension

    return DeigExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
