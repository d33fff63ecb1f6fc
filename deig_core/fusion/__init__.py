"""What DEIG and InstanceDiffusion share: fusers, places on a grid of tokens, when they act."""
