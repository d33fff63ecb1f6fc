"""The graph that paints an entry: what tells two pictures of one entry apart."""

import json

import pytest

from bench.papers.graph import WAYS, graph_of
from bench.papers.protocol import PAPER, Sampling
from deig_core.regions.layouts import read_layout

LAYOUT = read_layout('{"prompt": "a shelf", "regions": [{"phrase": "a red cup", "box": [0, 0, 1, 1]}]}')


@pytest.mark.parametrize("sampler", ["euler", PAPER])
@pytest.mark.parametrize("way", WAYS)
def test_another_seed_is_another_seed_and_nothing_else(way, sampler):
    one, other = (
        json.dumps(graph_of(way, ("base", "deig", "t5"), Sampling(4, 7.5, "", 64, sampler), LAYOUT, seed))
        for seed in (70001, 70002)
    )
    assert one != other and one.replace("70001", "70002") == other
