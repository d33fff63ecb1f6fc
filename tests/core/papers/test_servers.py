"""What servers have and lack, what is chosen to paint with, and what a picture has to be."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from bench.papers import servers
from bench.papers.entries import bench_of
from bench.papers.graph import PICTURE
from bench.papers.paint import PACK, pack_version, painted_by
from bench.papers.plan import Painter, Task
from bench.papers.protocol import SHAPES, Sampling
from bench.papers.servers import (
    Versions,
    Wanted,
    _write_model_paths,
    choose_painters,
    clients_of,
    files_on,
    lacking,
    small_model,
    usable,
    versions_of,
)
from bench.papers.shapes import write_shapes
from bench.papers.trouble import Trouble
from demo.client import ComfyClient, ExecutionFailed, Result

SYSTEM = {"comfyui_version": "0.33.0", "pytorch_version": "2.11.0"}
DEIG = Painter("deig", "sd14.ckpt", "model.pth", "t5")


class Server(ComfyClient):
    """A server that has what it is given, without a network."""

    def __init__(
        self, address="there:8188", checkpoint=("sd14.ckpt",), adapter=("model.pth",), encoder=("t5",)
    ):
        super().__init__(address)
        adapters = ["COMBO", {"options": list(adapter)}]  # as newer nodes say it
        self.lists = {
            "CheckpointLoaderSimple": {"ckpt_name": [list(checkpoint), {}]},
            "DEIG_LoadAdapter": {"adapter_name": adapters},
            "DEIG_LoadTextEncoder": {"encoder_name": ["COMBO", {"options": list(encoder)}]},
        }
        self.missing, self.stats = (), {"system": SYSTEM, "devices": [{"name": "one"}, {"name": "two"}]}

    def get(self, path, **query):
        if path == "/system_stats":
            return self.stats
        node = path.removeprefix("/object_info/")
        return {} if node in self.missing else {node: {"input": {"required": self.lists.get(node, {})}}}


def test_a_server_says_what_it_is():
    server = Server()
    assert versions_of(server) == Versions("0.33.0", "2.11.0", "one, two")
    server.stats = {"system": {}}
    assert versions_of(server) == Versions("unknown", "unknown", "")


def test_files_are_listed_by_old_nodes_and_new_ones_and_words_for_none_are_none():
    server = Server(adapter=["no adapter found: put one in models/deig"], encoder=["t5", "other"])
    kinds = ("checkpoint", "adapter", "text encoder")
    assert [files_on(server, kind) for kind in kinds] == [["sd14.ckpt"], [], ["t5", "other"]]


@pytest.mark.parametrize(
    "way, painter",
    [
        ("deig", DEIG),
        ("off", Painter("off", "sd14.ckpt", "model.pth", "t5")),
        ("plain", Painter("plain", "sd14.ckpt")),
        ("instancediffusion", Painter("instancediffusion", "sd14.ckpt", "model.pth")),
    ],
)
def test_what_is_not_named_is_taken_where_there_is_one(way, painter):
    assert choose_painters(Server(), Wanted((way,))) == [painter]


def test_a_way_that_needs_no_adapter_asks_for_none():
    server = Server(adapter=("a", "b"), encoder=())
    assert choose_painters(server, Wanted(("plain",))) == [Painter("plain", "sd14.ckpt")]
    wanted = Wanted(("instancediffusion",), adapters=("a",))
    assert choose_painters(server, wanted) == [Painter("instancediffusion", "sd14.ckpt", "a")]


def test_what_is_named_is_not_looked_for():
    server = Server(checkpoint=(), adapter=(), encoder=())
    assert choose_painters(server, Wanted(("deig",), ("a",), ("b", "c"), "d")) == [
        Painter("deig", "a", "b", "d"),
        Painter("deig", "a", "c", "d"),
    ]


@pytest.mark.parametrize(
    "has, told",
    [
        ({"encoder": ()}, "Which text encoder. there:8188 has 0: none. Name one with --text-encoder."),
        ({"adapter": ("a", "b")}, "Which adapter. there:8188 has 2: a, b. Name one with --adapter."),
        ({"checkpoint": [f"c{i}" for i in range(13)]}, "c10, c11, .... Name one with --checkpoint."),
        ({"checkpoint": [f"c{i}" for i in range(12)]}, "c10, c11. Name one with --checkpoint."),
    ],
)
def test_what_there_is_none_or_several_of_has_to_be_named(has, told):
    with pytest.raises(Trouble, match=told):
        choose_painters(Server(**has), Wanted(("deig",)))


def test_everything_that_a_server_lacks_is_said():
    painters = [DEIG, Painter("deig", "sd15.ckpt", "new.pth", "t5"), Painter("plain", "sd14.ckpt")]
    assert lacking(Server(), painters, SHAPES.sampling) == (
        "there:8188 has no checkpoint 'sd15.ckpt'. It has sd14.ckpt. "
        "there:8188 has no adapter 'new.pth'. It has model.pth."
    )
    bare = Server()
    bare.missing = ("DEIG_LoadAdapter", "DEIG_LoadTextEncoder")  # the pack is not there, and not needed
    assert lacking(bare, painters[2:], SHAPES.sampling) == ""


@pytest.mark.parametrize("sampler, node", [("euler", "KSampler"), ("paper", "DEIG_PaperSampling")])
def test_a_server_without_a_node_that_paints_cannot(sampler, node):
    server = Server()
    server.missing = (node,)
    with pytest.raises(Trouble, match=f"there:8188 has no node {node}. Install this pack"):
        lacking(server, [DEIG], Sampling(4, 7.5, "", 64, sampler))


def test_the_others_need_what_the_first_usable_server_was_chosen_for():
    good, other = Server("good"), Server("other", checkpoint=["sd15.ckpt"])
    silent = Server("silent")
    silent.stats = {}
    said = []
    servers, painters = usable([silent, good, other], Wanted(("deig",)), SHAPES.sampling, said.append)
    assert (list(servers), painters) == ([good], [DEIG])
    assert said[0].startswith("Left out: No ComfyUI answers at silent")
    assert said[1:] == ["Left out: other has no checkpoint 'sd14.ckpt'. It has sd15.ckpt."]


def test_a_server_that_is_named_twice_paints_once():
    clients = clients_of(["a:1", "http://b:2/", "a:1/", "http://b:2"])
    assert [client.address for client in clients] == ["a:1", "http://b:2"]


def test_every_folder_of_models_is_told_by_its_name(tmp_path):
    models = tmp_path / "models"
    for name in ("vae", "checkpoints"):
        (models / name).mkdir(parents=True)
    (models / "readme.txt").touch()
    told = json.loads(_write_model_paths(tmp_path, models).read_text())
    assert told == {"papers": {"base_path": str(models), "vae": "vae", "checkpoints": "checkpoints"}}
    with pytest.raises(Trouble, match="no folder of models .*nowhere. Name one with --models"):
        _write_model_paths(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "asked, has_accelerator, on_cpu", [(False, True, False), (True, True, True), (False, False, True)]
)
@pytest.mark.parametrize("named", [True, False])
def test_a_server_of_ones_own_has_the_pack_and_models_and_goes_with_its_folder(
    named, asked, has_accelerator, on_cpu, tmp_path, monkeypatch
):
    models, started = tmp_path / "models", []
    models.mkdir()

    class Started:
        def __init__(self, host, base, extra_args, cpu):
            started.append((host, base, cpu, extra_args))

        def __enter__(self):
            return "a server"

        def __exit__(self, *_):
            started.append("ended")

    placed = []
    monkeypatch.setattr(servers, "ComfyServer", Started)
    monkeypatch.setattr(servers, "install_pack", lambda base: placed.append(base))
    monkeypatch.setattr(servers, "place_weights", lambda place: placed.append(place))
    monkeypatch.setattr(servers.torch.accelerator, "is_available", lambda: has_accelerator)
    with servers.own_server(Path("host"), models if named else None, asked) as server:
        assert server == "a server"
        ((host, base, cpu, extra),) = started
        assert (host, cpu, base.is_dir()) == (Path("host"), on_cpu, True)
        assert placed == ([base] if named else [base, base / "models"])
        assert extra == (("--extra-model-paths-config", str(base / "model_paths.yaml")) if named else ())
        assert not named or "base_path" in Path(extra[1]).read_text()
    assert started[1:] == ["ended"] and not base.exists()


def test_the_small_model_paints_by_the_ways_that_need_no_clip():
    wanted = small_model(["deig", "off"])
    assert (wanted.ways, wanted.checkpoints, wanted.adapters, wanted.text_encoder) == (
        ("deig", "off"), ("small-deig.safetensors",), ("small-deig.safetensors",), "small-deig-t5",
    )  # fmt: skip
    with pytest.raises(Trouble, match="paints by deig or off, not by plain, instancediffusion"):
        small_model(["deig", "plain", "instancediffusion"])


(ENTRY,) = bench_of(write_shapes(layouts=1, kept_out=0)).entries
TASK = Task(DEIG, 0, ENTRY, SHAPES.sampling)


class Paints:
    """A server that gives one file as the picture of every graph."""

    address = "there:8188"

    def __init__(self, picture: Image.Image | None = None, outputs=None, data: bytes | None = None):
        file = io.BytesIO()
        (picture or Image.new("RGB", (128, 128), "red")).save(file, "PNG")
        self.data = file.getvalue() if data is None else data
        image = {"filename": "a.png", "subfolder": "b", "type": "temp", "more": "of a newer host"}
        self.outputs = {PICTURE: {"images": [image]}} if outputs is None else outputs

    def run(self, prompt):
        return Result("1", self.outputs)

    def view(self, image):
        assert image == {"filename": "a.png", "subfolder": "b", "type": "temp"}
        return self.data


def test_a_picture_is_kept_as_the_server_wrote_it():
    server = Paints()
    data, seconds = painted_by(server, TASK)
    assert data == server.data and seconds >= 0


@pytest.mark.parametrize(
    "server, told",
    [
        (Paints(Image.new("RGB", (128, 64))), r"painted pictures/.*png at \(128, 64\) instead of 128."),
        (Paints(Image.new("RGB", (64, 128))), r"painted pictures/.*png at \(64, 128\) instead of 128."),
        (Paints(Image.new("RGB", (64, 64))), r"at \(64, 64\) instead of 128."),
        (Paints(outputs={}), "gave no picture of it"),
        (Paints(outputs={PICTURE: {"images": []}}), "gave no picture of it"),
        (Paints(data=b"no picture"), "gave no picture of it"),
        (Paints(data=Paints().data[:-30]), "gave no picture of it"),
    ],
)
def test_what_is_no_picture_of_the_size_asked_for_is_not_kept(server, told):
    with pytest.raises(RuntimeError, match=f"^there:8188 .*{told}"):
        painted_by(server, TASK)


def test_a_node_that_raises_is_told_with_its_server():
    class Fails(Paints):
        def run(self, prompt):
            raise ExecutionFailed("KSampler (node sampler): out of memory")

    with pytest.raises(RuntimeError, match="there:8188: KSampler .*out of memory"):
        painted_by(Fails(), TASK)


def test_the_packs_version_is_that_of_its_project_file():
    assert f'version = "{pack_version()}"' in PACK.read_text(encoding="utf-8").splitlines()
