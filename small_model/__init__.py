"""The small trained DEIG: from drawing its scenes to its weights."""
