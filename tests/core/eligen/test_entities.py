"""Which entities act when, and how strongly."""

import pytest
import torch
from deig_pack.deig_core.eligen.entities import Entities
from deig_pack.deig_core.fusion.schedule import Schedule
from deig_pack.deig_core.regions.region import Region

MUG = Region("a mug", (0, 0, 1, 1))


def entities(*regions, **schedule):
    texts = tuple(torch.zeros(1, 3 + number, 8) for number in range(len(regions)))
    return Entities(tuple(regions), texts, Schedule(**schedule))


def test_each_text_has_its_own_length():
    assert entities(MUG, MUG, MUG).lengths == (3, 4, 5) and entities().lengths == ()


@pytest.mark.parametrize("regions, texts", [(1, 2), (2, 1)])
def test_every_region_takes_one_text(regions, texts):
    with pytest.raises(ValueError, match=f"{regions} regions and {texts} texts"):
        Entities((MUG,) * regions, (torch.zeros(1, 3, 8),) * texts)


def test_an_entitys_strength_is_multiplied_by_that_of_all():
    weak, off = Region("a lamp", MUG.box, strength=0.25), Region("a hat", MUG.box, strength=0.0)
    assert entities(weak, off, MUG).strengths_at(0.5) == {0: 0.25, 2: 1.0}
    assert entities(weak, off, MUG, strength=2.0).strengths_at(0.5) == {0: 0.5, 2: 2.0}
    assert entities(MUG, strength=0.0).strengths_at(0.5) == {}


def test_an_entity_acts_in_its_own_time_and_in_that_of_all():
    late = Region("a lamp", MUG.box, start_percent=0.4, end_percent=0.8)
    both = entities(MUG, late, start_percent=0.2, end_percent=0.6)
    acting = {percent: tuple(both.strengths_at(percent)) for percent in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}
    assert acting == {0.1: (), 0.2: (0,), 0.3: (0,), 0.4: (0, 1), 0.5: (0, 1), 0.6: (), 0.7: ()}
    assert tuple(entities(late).strengths_at(1.0)) == () and tuple(entities(MUG).strengths_at(1.0)) == (0,)


@pytest.mark.parametrize("settings", [{"start_percent": 0.1}, {"end_percent": 0.9}], ids=str)
def test_where_nothing_begins_or_ends_the_schedule_does_not_matter(settings):
    timed = Region("a lamp", MUG.box, **settings)
    assert not entities(MUG, MUG, strength=0.5).is_timed
    assert entities(MUG, timed).is_timed and entities(MUG, **settings).is_timed
    assert entities(MUG, decay_percent=0.1).is_timed
