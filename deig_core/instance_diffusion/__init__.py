"""InstanceDiffusion (Wang et al., CVPR 2024): instances by boxes, points, scribbles and masks, on SD1.x.

    places.py              a region's box, point, scribble, polygon and mask, as the model takes them
    contours.py            points on and in a mask
    uni_fusion.py          UniFusion: tokens of instances
    convnext.py            the network with which UniFusion reads masks, under the checkpoint's names
    masked_attention.py    who sees whom where instances are kept apart
    scale_u.py             ScaleU: the decoder's features and skips, rescaled
    adapter.py             the three together, sized from a state dict
    grounding.py           regions and adapter, turned into what the fusers need during a run

The fusers are GLIGEN's gated self-attention, which DEIG has too (`fusion`).
"""
