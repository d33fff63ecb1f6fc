"""The ways of painting that are compared, and what is asked about them."""

from .pairs import CaseName, Pairing

PLAIN, DEIG, GLIGEN, AREAS, MASKS = "plain", "DEIG", "GLIGEN", "areas", "masks"
INSTANCE_DIFFUSION = "InstanceDiffusion"
DENSE, DENSE_FUSED = "dense", "dense, fused kernel"

COUNTS = (1, 8, 30)
DENSE_COUNT = 3  # at which the dense formulation is compared
AREA_COUNT = 8  # at which masked conditionings are

# How wide the spread of a figure of the README's table may be, relative to the figure.
WITHIN = 0.1


def over_plain(way: str, count: int, by_count: bool = False) -> Pairing:
    """Ask for a row of the table. Every way of painting makes the plain call too, and more."""
    return Pairing(CaseName(way, count), CaseName(PLAIN), by_count=by_count, includes=True, within=WITHIN)


def deig(count: int) -> CaseName:
    return CaseName(DEIG, count)


PAIRINGS = (
    over_plain(DEIG, 1, by_count=True),
    Pairing(deig(1), deig(0), by_count=True, includes=True),
    Pairing(deig(30), deig(1), by_count=True, includes=True),
    *(Pairing(deig(count), CaseName(GLIGEN, count), by_count=True) for count in COUNTS),
    *(Pairing(CaseName(INSTANCE_DIFFUSION, count), deig(count), at_most=1.05) for count in COUNTS),
    Pairing(CaseName(DENSE, DENSE_COUNT), deig(DENSE_COUNT), at_least=2),
    Pairing(CaseName(MASKS, AREA_COUNT), deig(AREA_COUNT), at_least=4),
    *(over_plain(DEIG, count) for count in COUNTS if count != 1),
    *(over_plain(INSTANCE_DIFFUSION, count) for count in COUNTS),
    *(over_plain(GLIGEN, count) for count in COUNTS),
    *(over_plain(AREAS, count) for count in COUNTS),
    over_plain(MASKS, AREA_COUNT),
    over_plain(DENSE, DENSE_COUNT),
    over_plain(DENSE_FUSED, DENSE_COUNT),
)

# What a quick look asks.
QUICK = (
    Pairing(deig(1), CaseName(PLAIN), by_count=True, includes=True),
    Pairing(deig(30), deig(1), by_count=True, includes=True),
    Pairing(deig(AREA_COUNT), CaseName(GLIGEN, AREA_COUNT), by_count=True),
)
