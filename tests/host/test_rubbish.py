"""Whatever lies in the folders of models, or in their place, the pack loads and its nodes are listed."""

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import folder_paths
import pytest
from deig_pack.nodes import DeigExtension, loaders
from deig_pack.nodes.eligen import LoadEliGenLoRA
from deig_pack.nodes.loaders import LoadAdapter, LoadTextEncoder
from deig_pack.tests import standins
from deig_pack.tests.rubbish import fill_with_rubbish
from deig_pack.tests.unprivileged import unprivileged

from demo.server import ComfyServer, install_pack

IDS = {node.GET_SCHEMA().node_id for node in asyncio.run(DeigExtension().get_node_list())}


def test_a_real_host_lists_every_node_amid_rubbish(comfy_host, tmp_path):
    models = tmp_path / "models"
    for name in loaders.ENCODER_FOLDERS:
        fill_with_rubbish(models / name)
    fill_with_rubbish(models / "deig")
    standins.write_t5_folder(models / "text_encoders" / "small-t5", comfy_host.t5_tokenizer)
    install_pack(tmp_path)
    with ComfyServer(comfy_host.path, tmp_path) as server:
        listed = server.object_info()
        log = server.log_path.read_text(encoding="utf-8", errors="replace")
    assert {name for name in listed if name.startswith("DEIG_")} >= IDS
    assert "small-t5" in str(listed["DEIG_LoadTextEncoder"]["input"]["required"]["encoder_name"])
    assert "Left out of the list of text encoders" in log and "web_page.safetensors" in log
    assert "IMPORT FAILED" not in log and "Logging error" not in log


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A models folder of its own, which the host forgets again."""
    folder = tmp_path / "models"
    folder.mkdir()
    known = folder_paths.folder_names_and_paths
    monkeypatch.setattr(folder_paths, "models_dir", str(folder))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {**known, "deig": ([], set())})
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return folder


def check_loads_and_says_so(caplog, folder: Path, words: str):
    with caplog.at_level(logging.WARNING):
        nodes = asyncio.run(DeigExtension().get_node_list())
    assert {node.GET_SCHEMA().node_id for node in nodes} == IDS
    assert LoadAdapter.GET_SCHEMA().inputs[0].options == [loaders.NO_ADAPTER]
    assert any(str(folder) in message and words in message for message in caplog.messages)
    with pytest.raises(ValueError, match="cannot be made") as refused:
        LoadAdapter.execute(loaders.NO_ADAPTER, "auto")
    assert words in str(refused.value)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_to_nowhere_in_place_of_the_folder(models, caplog):
    (models / "deig").symlink_to(models / "unplugged")
    check_loads_and_says_so(caplog, models / "deig", "unplugged, which is not there")
    # Plugged in again, without a restart.
    (models / "unplugged").mkdir()
    (models / "unplugged" / "model.pth").write_bytes(b"")
    assert LoadAdapter.GET_SCHEMA().inputs[0].options == ["model.pth"]


def test_a_file_in_place_of_the_folder(models, caplog):
    (models / "deig").write_text("hello")
    check_loads_and_says_so(caplog, models / "deig", "there is a file of that name")


def test_a_file_in_place_of_all_models(models, caplog):
    models.rmdir()
    models.write_text("hello")
    check_loads_and_says_so(caplog, models / "deig", "Not a directory")


def test_models_that_cannot_be_written(models, caplog):
    """On a file system that is mounted to be read only, which holds for root too."""
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "ro", "tmpfs", models], capture_output=True).returncode
    ):
        pytest.skip("no file system may be mounted here")
    try:
        check_loads_and_says_so(caplog, models / "deig", "Read-only file system")
    finally:
        subprocess.run(["umount", models], check=True)


@contextlib.contextmanager
def unprivileged_models(monkeypatch) -> Iterator[Path]:
    """A models folder as somebody whom permissions hold off. No fixture: what pytest writes between a test's phases
    would be held off too."""
    with unprivileged() as folder:
        (folder / "above" / "models").mkdir(parents=True)
        monkeypatch.setattr(folder_paths, "models_dir", str(folder / "above" / "models"))
        yield folder / "above" / "models"


@pytest.mark.usefixtures("models")
def test_models_below_a_folder_that_may_not_be_entered(monkeypatch, caplog):
    with unprivileged_models(monkeypatch) as models:
        models.parent.chmod(0o600)
        check_loads_and_says_so(caplog, models / "deig", "Permission denied")


def test_models_whose_name_is_too_long(models, monkeypatch, caplog):
    folder = models / ("x" * 300)
    monkeypatch.setattr(folder_paths, "models_dir", str(folder))
    check_loads_and_says_so(caplog, folder / "deig", "name too long")


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    "kind, node", [("deig", LoadAdapter), ("loras", LoadEliGenLoRA)], ids=["deig", "loras"]
)
def test_a_folder_that_may_not_be_entered_costs_itself_alone(monkeypatch, kind, node, caplog):
    with unprivileged_models(monkeypatch) as models:
        folder = models / kind
        (folder / "locked" / "sub").mkdir(parents=True)
        (folder / "open" / ".git").mkdir(parents=True)
        for path in (
            folder / "model.pth",
            folder / "open" / "other.pth",
            folder / "open" / ".git" / "x.pth",
        ):
            path.write_bytes(b"")
        (folder / "notes.txt").write_bytes(b"")
        (folder / "locked").chmod(0o644)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(folder)], {".pth"}))
        with caplog.at_level(logging.WARNING):
            nodes = asyncio.run(DeigExtension().get_node_list())
            (options,) = (
                i.options for i in node.GET_SCHEMA().inputs if i.id in ("adapter_name", "lora_name")
            )
            assert options == ["model.pth", os.path.join("open", "other.pth")]
        assert {node.GET_SCHEMA().node_id for node in nodes} == IDS
        assert f"{folder / 'locked'} cannot be entered (Permission denied)" in caplog.text


def test_a_folder_taken_away_while_running_is_an_empty_one(models, caplog):
    (models / "elsewhere").mkdir()
    (models / "deig").symlink_to(models / "elsewhere")
    asyncio.run(DeigExtension().get_node_list())
    (models / "elsewhere" / "model.pth").write_bytes(b"")
    for _ in range(2):
        assert LoadAdapter.GET_SCHEMA().inputs[0].options == ["model.pth"]  # the second time as remembered
    shutil.rmtree(models / "elsewhere")
    assert LoadAdapter.GET_SCHEMA().inputs[0].options == [loaders.NO_ADAPTER]
    (models / "elsewhere").mkdir()
    (models / "elsewhere" / "again.pth").write_bytes(b"")
    assert LoadAdapter.GET_SCHEMA().inputs[0].options == ["again.pth"]


def test_rubbish_is_left_out_of_the_list_of_encoders(models, monkeypatch, comfy_host, caplog):
    for name in loaders.ENCODER_FOLDERS:
        fill_with_rubbish(models / name)
    standins.write_t5_folder(models / "clip" / "small-t5", comfy_host.t5_tokenizer)
    monkeypatch.setattr(
        loaders, "encoder_folders", lambda: [models / name for name in loaders.ENCODER_FOLDERS]
    )
    with caplog.at_level(logging.WARNING):
        options = LoadTextEncoder.GET_SCHEMA().inputs[0].options
    assert set(options) == {"small-t5", "config_no_weights"}
    assert str(models / "t5_model" / "text_cut") in caplog.text
