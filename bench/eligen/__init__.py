"""What EliGen costs in FLUX.1 and Qwen-Image."""
