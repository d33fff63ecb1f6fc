"""How well the small model paints what it is told."""
