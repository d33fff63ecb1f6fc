"""Where entities lie, against masks by the reference implementation and by hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from deig_pack.deig_core.eligen.places import entity_cells, entity_tokens
from deig_pack.deig_core.regions.region import Mask, Region
from PIL import Image
from safetensors import safe_open

GOLDEN = Path(__file__).parents[1] / "golden" / "eligen"
GOLDENS = "ELIGEN_GOLDENS"
NOT_KEPT = "flux_full_two"  # too large to be kept here
NAMES = (*sorted(path.stem for path in GOLDEN.glob("*.safetensors")), NOT_KEPT)


def read_golden(name):
    """Return (tensors, metadata) of a golden file; skip the test where the one that is not kept is not there."""
    path = GOLDEN / f"{name}.safetensors"
    if name == NOT_KEPT:
        path = Path(os.environ.get(GOLDENS) or GOLDEN.parents[3].parent / "shared" / "eligen") / path.name
    if not path.is_file():
        pytest.skip(f"there is no {path.name} in {path.parent}; {GOLDENS} names its folder")
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), "size": json.loads(file.metadata()["size"])}
        return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118 (not a dict)


def mask_region(values):
    mask = Mask(np.asarray(values, dtype=np.float32))
    return Region("a thing", mask.bounding_box(), mask=mask)


def drawn(region, latent_size):
    """The cells of a box or a stroke, drawn as a mask image of the picture's size and shrunk by Pillow."""
    height, width = (8 * size for size in latent_size)
    ys, xs = np.mgrid[:height, :width]
    if region.point:
        (x, y), radius = region.point, region.radius * min(height, width)
        inside = (xs + 0.5 - x * width) ** 2 + (ys + 0.5 - y * height) ** 2 <= radius**2
    else:
        x0, y0, x1, y1 = (
            int(np.rint(edge * size)) for edge, size in zip(region.box, (width, height) * 2, strict=True)
        )
        inside = (xs >= x0) & (xs < x1) & (ys >= y0) & (ys < y1)
    image = Image.fromarray((inside * 255).astype(np.uint8))
    return torch.from_numpy(np.array(image.resize(latent_size[::-1], Image.NEAREST)) >= 128)


@pytest.mark.parametrize("name", NAMES)
def test_masks_lie_where_the_reference_has_them(name):
    golden, metadata = read_golden(name)
    latent_size = int(metadata["height"]) // 8, int(metadata["width"]) // 8
    cells = entity_cells([mask_region(image / 255) for image in golden["mask_images"]], latent_size)
    assert torch.equal(cells, golden["latent_masks"])
    assert torch.equal(entity_tokens(cells), golden["token_masks"])


@pytest.mark.parametrize("size", [(200, 333), (97, 61), (1024, 768), (7, 5)])
def test_masks_of_any_size_shrink_as_pillow_does_it(size):
    values = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(1)).numpy().astype(np.uint8)
    for latent_size in ((16, 24), (33, 47), (12, 5)):
        expected = np.array(Image.fromarray(values).resize(latent_size[::-1], Image.NEAREST)) >= 128
        assert np.array_equal(entity_cells([mask_region(values / 255)], latent_size)[0].numpy(), expected)


@pytest.mark.parametrize(
    "region",
    [
        Region("a box", (0.1, 0.2, 0.53, 0.91)),
        Region("a box on the grid", (0.25, 0.25, 0.5, 0.75)),
        Region("a point", (0.4, 0.4, 0.6, 0.6), point=(0.5, 0.4), radius=0.21),
    ],
)
def test_a_place_lies_where_a_mask_image_of_it_would(region):
    for latent_size in ((16, 24), (17, 23)):
        assert torch.equal(entity_cells([region], latent_size)[0], drawn(region, latent_size))


THIN = 2 / 256
LOST = [
    Region("a thin line", (0.1, 1 / 256, 0.9, 1 / 256 + THIN)),
    Region("a dot", (0.5, 0.5, 0.51, 0.51), point=(0.501, 0.501), radius=0.0),
    Region("a thin stroke", (0.1, 0.0, 0.9, 0.1), scribble=((0.1, 1 / 256), (0.9, 1 / 256)), radius=0.002),
]


@pytest.mark.parametrize("region", LOST, ids=lambda region: region.phrase)
def test_a_place_thinner_than_a_cell_keeps_what_it_touches(region):
    latent_size = (32, 32)
    assert region.scribble or not drawn(region, latent_size).any()
    cells = entity_cells([region], latent_size)[0]
    assert cells.any() and entity_tokens(cells[None]).any()
    x0, y0, x1, y1 = region.box
    rows, columns = cells.nonzero().T
    assert rows.max() <= y1 * 32 and columns.min() >= int(x0 * 32) - 1 and columns.max() <= x1 * 32
    if region.phrase != "a dot":
        assert len(columns.unique()) >= 25  # all along the line


def test_a_mask_with_one_pixel_or_faint_everywhere_keeps_a_token():
    one = np.zeros((256, 256))
    one[3, 250] = 1
    faint = np.full((256, 256), 0.1)
    faint[40:48, 80:88] = 0.3
    cells = entity_cells([mask_region(one), mask_region(faint)], (32, 32))
    assert cells[0].nonzero().tolist() == [[0, 31]]
    assert cells[1].nonzero().tolist() == [[5, 10]]


def test_grey_has_no_half_tones():
    for grey in (127 / 255, 0.5):
        values = np.array([[grey, 128 / 255], [0, 1]])
        assert entity_cells([mask_region(values)], (2, 2))[0].tolist() == [[False, True], [False, True]]


def test_tokens_of_odd_latents_and_of_no_entities():
    cells = torch.zeros(1, 5, 7, dtype=torch.bool)
    cells[0, 4, 6] = True
    tokens = entity_tokens(cells)
    assert tokens.shape == (1, 3, 4) and tokens.nonzero().tolist() == [[0, 2, 3]]
    assert entity_tokens(entity_cells([], (4, 6))).shape == (0, 2, 3)
