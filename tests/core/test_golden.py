"""The modules against numbers computed by the reference implementation."""

import json
from pathlib import Path

import pytest
import torch
from deig_pack.deig_core.deig.adapter import split_packed_projections
from deig_pack.deig_core.deig.ide import IDESizes, InstanceDetailExtractor
from deig_pack.deig_core.deig.position_net import PositionNet, fourier_features
from deig_pack.deig_core.fusion.fuser import Fuser, Grounded
from deig_pack.deig_core.regions.raster import cell_places, token_places
from deig_pack.deig_core.regions.region import Region
from safetensors import safe_open

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5


def read_golden(name):
    """Return (state dict, inputs, outputs, config) of a golden file."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        config = json.loads(file.metadata()["config"])
    data = {
        kind: {k[len(kind) :]: v for k, v in tensors.items() if k.startswith(kind)}
        for kind in ("in.", "out.")
    }
    state = {k: v for k, v in tensors.items() if not k.startswith(("in.", "out."))}
    return state, data["in."], data["out."], config


def largest_difference(a, b):
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def test_ide():
    state, inputs, outputs, config = read_golden("ide_small")
    sizes = IDESizes(
        text_width=config["input_dim"],
        width=config["width"],
        tokens=config["num_latents"],
        layers=config["layers"],
        time_channels=config["time_channel"],
        time_width=config["time_embed_dim"],
        mlp_width=4 * config["width"],
        heads=config["heads"],
    )
    ide = InstanceDetailExtractor(sizes)
    ide.load_state_dict({k.removeprefix("IDE."): v for k, v in split_packed_projections(state).items()})
    with torch.no_grad():
        for t in (1, 281, 976):
            tokens = ide(inputs["text_features"], torch.full((3,), t))
            assert largest_difference(tokens, outputs[f"tokens.t{t}"]) <= TOLERANCE
        tokens = ide(inputs["text_features_batch2"], torch.tensor([500, 500, 500, 20, 20, 20]))
        assert largest_difference(tokens, outputs["tokens.batch2_t500_t20"]) <= TOLERANCE


def test_position_net():
    state, inputs, outputs, config = read_golden("position_net_small")
    net = PositionNet(config["in_dim"], config["out_dim"])
    net.load_state_dict({k.removeprefix("position_net."): v for k, v in state.items()})
    present = inputs["present"][..., 0].bool()
    with torch.no_grad():
        objs = net(inputs["embeddings"], inputs["boxes"], present)
        real = net(inputs["embeddings"][:, :3], inputs["boxes"][:, :3])
    assert largest_difference(objs.flatten(1, 2), outputs["objs"]) <= TOLERANCE
    assert largest_difference(real, objs[:, :3]) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_boxes_are_as_fine_in_half_precision(dtype):
    """Their high frequencies are another box's where the box was rounded first."""
    net, tokens = PositionNet(8, 4, 16).to(dtype), torch.zeros(2, 3, 8, dtype=dtype)
    boxes = torch.tensor([[0.1234567, 0.2, 0.7654321, 0.9], [0.0, 0.3333333, 0.6666667, 1.0]])
    places = fourier_features(boxes).to(dtype)[:, None].expand(2, 3, -1)
    assert torch.equal(net(tokens, boxes), net.linears(torch.cat((tokens, places), -1)))


@pytest.fixture(scope="module")
def fuser_golden():
    state, inputs, outputs, config = read_golden("fuser_small")
    fuser = Fuser(config["query_dim"], config["context_dim"], heads=config["n_heads"])
    fuser.load_state_dict(state)
    regions = tuple(Region("thing", tuple(box.tolist())) for box in inputs["boxes"])
    return fuser, inputs, outputs, config, regions


@pytest.mark.parametrize("grid", [64, 32, 16, 8])
def test_places(fuser_golden, grid):
    _, _, outputs, _, regions = fuser_golden
    places = token_places(cell_places(regions, (64, 64)), (64, 64), (grid, grid))
    assert torch.equal(places > 0, outputs[f"mask.{grid}"][0])


@pytest.mark.parametrize("grid", [64, 32, 16, 8])
def test_fuser(fuser_golden, grid):
    fuser, inputs, outputs, config, regions = fuser_golden
    places = token_places(cell_places(regions, (64, 64)), (64, 64), (grid, grid))
    present = config["present"] * config["tokens_per_instance"]
    objs = inputs["objs"][0, :present].unflatten(0, (config["present"], -1))
    with torch.no_grad():
        out = fuser(inputs[f"x.{grid}"], [Grounded(1, objs, places.flatten(1).log())])
        without = fuser(inputs[f"x.{grid}"], [Grounded(1)])
    assert largest_difference(out, outputs[f"x.{grid}"]) <= TOLERANCE
    assert largest_difference(without, outputs[f"x_no_instances.{grid}"]) <= TOLERANCE
