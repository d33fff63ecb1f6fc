"""The thumbnails beside the templates: each is of its graph as it stands."""

import numpy as np
import pytest
from deig_pack.tests.host.test_workflows import skip_without
from PIL import Image

from demo.pictures import template_picture
from demo.play import TEMPLATE
from demo.workflows import WORKFLOWS, workflow_names

# Of 255, at a quarter of the size, anywhere: JPEG leaves less than 40; a box moved by a thirtieth makes more than 150,
# another phrase more than 60.
FARTHEST = 50


@pytest.fixture(scope="module")
def object_info(comfy_server):
    return comfy_server.object_info()


def quarter(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    small = picture.convert("RGB").resize((size[0] // 4, size[1] // 4), Image.BOX)
    return np.asarray(small, float)


# The small model's is what it paints, which changes with its weights.
@pytest.mark.parametrize("name", [name for name in workflow_names() if name != TEMPLATE])
def test_thumbnail_is_of_the_template(name, comfy_server, object_info):
    skip_without(name, object_info)
    stored = Image.open(WORKFLOWS / f"{name}.jpg")
    drawn = template_picture(comfy_server, name, object_info).resize(stored.size, Image.LANCZOS)
    difference = np.abs(quarter(stored, stored.size) - quarter(drawn, stored.size)).max()
    assert difference < FARTHEST, "make it anew: python -m demo.pictures --host COMFYUI"
