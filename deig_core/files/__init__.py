"""Tensors out of files, and which adapter, encoder or checkpoint a file is. Nothing in a file is executed."""
