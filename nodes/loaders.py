"""Nodes that load the adapter and the text encoder, and the folders they are found in."""

import logging
import os
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.text_encoders
import folder_paths
import torch
from comfy_api.latest import io

from ..deig_core.deig.adapter import load_adapter
from ..deig_core.deig.refiner import Refiner
from ..deig_core.deig.text_encoder import explain_missing, find_encoders, load_encoder, pick_dtype
from ..deig_core.files.checkpoint import INSTANCE_DIFFUSION, open_adapter
from ..deig_core.files.folders import walk_folder, warn_once
from ..deig_core.files.windows import shown, shown_list, unforeseen
from ..deig_core.instance_diffusion.adapter import load_instance_diffusion
from .types import (
    CATEGORY,
    AdapterType,
    LoadedAdapter,
    LoadedInstanceDiffusion,
    LoadedTextEncoder,
    TextEncoderType,
    also_found_as,
)

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ADAPTER_FOLDER = "deig"
ADAPTER_EXTENSIONS = {".safetensors", ".sft", ".pth", ".pt", ".ckpt", ".bin"}
ENCODER_FOLDERS = ("text_encoders", "clip", "ella_encoder", "t5_model")
# Where older nodes keep InstanceDiffusion's split files, each in a folder of its own below.
OLDER_FOLDER = "instance_models"
NO_ADAPTER = "no adapter found: put model.pth into models/deig"
NO_ENCODER = "no text encoder found: put Flan-T5-XL into models/text_encoders"

# Later hosts load most models through a patcher that streams weights.
Patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def register_adapter_folder():
    """Make `models/deig` known to the host, beside what extra_model_paths.yaml names for it.

    The folders of older InstanceDiffusion nodes are looked in too.
    """
    default = Path(folder_paths.models_dir) / ADAPTER_FOLDER
    if trouble := _make_folder(default):
        log.warning(trouble)
    older = [str(Path(folder_paths.models_dir) / OLDER_FOLDER)]
    if OLDER_FOLDER in folder_paths.folder_names_and_paths:
        older += folder_paths.get_folder_paths(OLDER_FOLDER)
    for folder in (str(default), *older):
        folder_paths.add_model_folder_path(ADAPTER_FOLDER, folder)
    paths, _ = folder_paths.folder_names_and_paths[ADAPTER_FOLDER]
    folder_paths.folder_names_and_paths[ADAPTER_FOLDER] = (paths, ADAPTER_EXTENSIONS)


def _make_folder(folder: Path) -> str:
    """Make a folder if it is not there, and return why that cannot be, or nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Not by Path, whose questions raise where a folder above may not be entered or the name is too long.
        what = (
            f"it is a link to {os.path.realpath(folder)}, which is not there"
            if os.path.islink(folder) and not os.path.exists(folder)
            else "there is a file of that name"
            if os.path.isfile(folder)
            else error.strerror
        )
        return (
            f"The folder {folder} cannot be made: {what}. Adapters are looked for where extra_model_paths.yaml says "
            "alone until that is mended."
        )
    return ""


def listed_files(kind: str) -> list[str]:
    """Return the names of the files that the host has of a kind of model.

    The host's own list fails as a whole where one folder may not be entered or is gone; what else there is is listed
    then, and a warning says what is left out.
    """
    try:
        return folder_paths.get_filename_list(kind)
    except Exception as error:
        log.debug("The host cannot list its files of %s.", kind, exc_info=error)
    folders, extensions = folder_paths.folder_names_and_paths.get(kind, ([], set()))
    names = set()
    for root in folders:
        try:
            for path, inner, files in walk_folder(Path(root), lambda words: _leave_out(kind, words)):
                inner[:] = [name for name in inner if name != ".git"]
                names |= {str(path.relative_to(root) / name) for name in files}
        except Exception as error:
            _leave_out(kind, f"{root} ({unforeseen(error)})")
    return sorted(folder_paths.filter_files_extensions(names, extensions))


def _leave_out(kind: str, words: str):
    warn_once(f"Left out of the list of files in models/{kind}: {words}")


def encoder_folders() -> list[Path]:
    """Return the folders to look for text encoders in, the host's own first."""
    known = folder_paths.folder_names_and_paths
    registered = [path for name in ENCODER_FOLDERS if name in known for path in known[name][0]]
    usual = [str(Path(folder_paths.models_dir) / name) for name in ENCODER_FOLDERS]
    return [Path(path) for path in dict.fromkeys(registered + usual)]


def _adapter_dtype(name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        return DTYPES[name]
    if comfy.model_management.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32


class LoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_LoadAdapter",
            display_name="DEIG Load Adapter",
            category=CATEGORY,
            **also_found_as(
                "DEIG model", "InstanceDiffusion", "instance adapter", "grounding", "GLIGEN loader"
            ),
            description="Loads the weights of DEIG or of InstanceDiffusion: what turns each phrase and place into "
            "tokens, and what paints these. Put the released model.pth or instancediffusion_sd15.pth, or a smaller "
            ".safetensors made from it, into models/deig.",
            inputs=[
                io.Combo.Input(
                    "adapter_name",
                    options=listed_files(ADAPTER_FOLDER) or [NO_ADAPTER],
                    tooltip="A file from models/deig. Of DEIG's model.pth only the adapter's part is read (about 600 "
                    "MB of 4.6 GB), as of instancediffusion_sd15.pth (about 740 MB of 13.6 GB, in 16 bit). Of "
                    "InstanceDiffusion's split files (fusers, position_net, scaleu) choose any one, the others are "
                    "found beside it.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", "fp16", "bf16", "fp32"],
                    default="auto",
                    tooltip="Precision in which the weights are kept. auto takes what suits your device. fp16 and "
                    "bf16 need half the memory of fp32, with differences too small to see.",
                ),
            ],
            outputs=[
                AdapterType.Output(
                    display_name="adapter", tooltip="The loaded adapter, for 'DEIG Refine Instances'."
                )
            ],
        )

    @classmethod
    def execute(cls, adapter_name, dtype):
        if adapter_name == NO_ADAPTER:
            folders = ", ".join(folder_paths.get_folder_paths(ADAPTER_FOLDER))
            if trouble := _make_folder(Path(folder_paths.models_dir) / ADAPTER_FOLDER):
                folders += f". {trouble.rstrip('.')}"
            raise ValueError(
                f"No adapter was found. Looked in {folders}. Put DEIG's released model.pth or InstanceDiffusion's "
                "instancediffusion_sd15.pth, or a .safetensors made from one of them, there, then press R to refresh "
                "the list and choose it."
            )
        device = comfy.model_management.get_torch_device()
        path = folder_paths.get_full_path_or_raise(ADAPTER_FOLDER, adapter_name)
        source = open_adapter(path)
        state = source.read_all(_adapter_dtype(dtype, device))
        is_instance_diffusion = source.system == INSTANCE_DIFFUSION
        load = load_instance_diffusion if is_instance_diffusion else load_adapter
        adapter = load(state, operations=comfy.ops.manual_cast, path=path)
        offload = comfy.model_management.unet_offload_device()
        patcher = Patcher(adapter, load_device=device, offload_device=offload)
        if is_instance_diffusion:
            return io.NodeOutput(LoadedInstanceDiffusion(adapter, patcher))
        return io.NodeOutput(LoadedAdapter(Refiner(adapter), patcher))


class LoadTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DEIG_LoadTextEncoder",
            display_name="DEIG Load Text Encoder",
            category=CATEGORY,
            **also_found_as("T5", "Flan-T5-XL", "CLIP loader", "phrase encoder"),
            description="Loads the text encoder that reads the phrases: the encoder of Flan-T5-XL. It is found as a "
            "Hugging Face folder or as one .safetensors file in models/text_encoders, clip, ella_encoder or t5_model.",
            inputs=[
                io.Combo.Input(
                    "encoder_name",
                    options=list(find_encoders(encoder_folders())) or [NO_ENCODER],
                    tooltip="A folder with a config.json, or a single .safetensors file. It must be the encoder that "
                    "the adapter was trained with: Flan-T5-XL for the released one.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", "bf16", "fp16", "fp32"],
                    default="auto",
                    tooltip="Precision of the encoder. auto takes bf16 where the device has it, else fp16, and fp32 "
                    "on the CPU. Lower takes less memory: 2.4 GB in bf16, 2.9 GB in fp16 (which keeps the layers that "
                    "outgrow it in fp32), 4.9 GB in fp32.",
                ),
                io.Combo.Input(
                    "device",
                    options=["default", "cpu"],
                    default="default",
                    tooltip="Where phrases are encoded. cpu spares the memory of a small graphics card and takes "
                    "some seconds for each new phrase; phrases seen before take no time on either.",
                ),
            ],
            outputs=[
                TextEncoderType.Output(
                    display_name="text_encoder",
                    tooltip="The loaded encoder, for 'DEIG Encode Regions' and 'DEIG Encode Prompt'.",
                )
            ],
        )

    @classmethod
    def execute(cls, encoder_name, dtype, device):
        folders = encoder_folders()
        found = find_encoders(folders)
        if not found:
            raise ValueError(explain_missing(folders))
        if encoder_name not in found:
            raise ValueError(
                f"The text encoder {shown(encoder_name)} is not there (any more). Found are: {shown_list(found, 20)}. "
                "Press R to refresh the list and choose one of them."
            )
        on_cpu = device == "cpu"
        load_device = torch.device("cpu") if on_cpu else comfy.model_management.text_encoder_device()
        tokenizer = Path(comfy.text_encoders.__path__[0]) / "t5_tokenizer"
        encoder = load_encoder(
            found[encoder_name], pick_dtype(dtype, load_device), tokenizer_folder=tokenizer
        )
        offload = torch.device("cpu") if on_cpu else comfy.model_management.text_encoder_offload_device()
        # The plain patcher: transformers' layers are not the host's, so they cannot be streamed.
        patcher = comfy.model_patcher.ModelPatcher(
            encoder.model, load_device=load_device, offload_device=offload
        )
        return io.NodeOutput(LoadedTextEncoder(encoder, patcher))


NODES = [LoadAdapter, LoadTextEncoder]
