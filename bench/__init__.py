"""Benchmarks: `python run.py bench`. Every figure is a ratio within one run."""
