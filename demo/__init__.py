"""Showing it: a real ComfyUI server, driven, and one picture painted with the small model."""
