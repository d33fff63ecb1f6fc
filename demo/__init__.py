"""The demo: a real ComfyUI server, small stand-in models, and one picture."""
