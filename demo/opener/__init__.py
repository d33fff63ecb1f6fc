"""A pack without nodes, for the ComfyUI of `demo.play` alone: it teaches older frontends what /?template= means."""

WEB_DIRECTORY = "web"
NODE_CLASS_MAPPINGS = {}
