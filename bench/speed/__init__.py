"""What DEIG costs, in time and memory, against what it replaces."""
