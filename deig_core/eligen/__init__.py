"""EliGen (Zhang et al. 2025): entities painted by FLUX.1 and Qwen-Image through regional attention.

EliGen adds no layer. Each entity's text joins the prompt's, and one rule says which tokens see which. Here is
that rule, where entities lie on the image tokens, and attention that pays only for what is seen.
"""
