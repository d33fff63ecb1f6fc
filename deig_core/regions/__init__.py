"""What goes where, knowing no model: regions, places of any shape, layouts as text."""
