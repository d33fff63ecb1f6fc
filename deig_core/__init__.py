"""DEIG (Detail-Enhanced Instance Generation) in plain PyTorch. Nothing below here imports ComfyUI."""
