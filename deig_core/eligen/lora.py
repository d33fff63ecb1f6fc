"""Names of EliGen's LoRA for FLUX.1 in the form of its training code, which no ComfyUI reads."""

import re

# A layer as DiffSynth-Studio calls it -> as FLUX.1's own code and ComfyUI do.
IN_DOUBLE_BLOCKS = {
    "norm1_a.linear": "img_mod.lin",
    "norm1_b.linear": "txt_mod.lin",
    "attn.a_to_qkv": "img_attn.qkv",
    "attn.b_to_qkv": "txt_attn.qkv",
    "attn.a_to_out": "img_attn.proj",
    "attn.b_to_out": "txt_attn.proj",
    "ff_a.0": "img_mlp.0",
    "ff_a.2": "img_mlp.2",
    "ff_b.0": "txt_mlp.0",
    "ff_b.2": "txt_mlp.2",
}
IN_SINGLE_BLOCKS = {"to_qkv_mlp": "linear1", "proj_out": "linear2", "norm.linear": "modulation.lin"}
ELSEWHERE = {
    "time_embedder.timestep_embedder.0": "time_in.in_layer",
    "time_embedder.timestep_embedder.2": "time_in.out_layer",
    "guidance_embedder.timestep_embedder.0": "guidance_in.in_layer",
    "guidance_embedder.timestep_embedder.2": "guidance_in.out_layer",
    "pooled_text_embedder.0": "vector_in.in_layer",
    "pooled_text_embedder.2": "vector_in.out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "final_norm_out.linear": "final_layer.adaLN_modulation.1",
    "final_proj_out": "final_layer.linear",
}
ENDS = (".lora_A.default.weight", ".lora_B.default.weight", ".lora_A.weight", ".lora_B.weight", ".alpha")


def host_name(key: str) -> str | None:
    """Return a tensor's name as ComfyUI reads it, or None if it is not one of DiffSynth-Studio's for FLUX.1."""
    end = next((end for end in ENDS if key.endswith(end)), None)
    if end is None:
        return None
    path = key[: -len(end)].removeprefix("pipe.dit.")
    block = re.fullmatch(r"(single_)?blocks\.(\d+)\.(.+)", path)
    if block is None:
        layer = ELSEWHERE.get(path)
    else:
        layers, kind = (IN_SINGLE_BLOCKS, "single") if block[1] else (IN_DOUBLE_BLOCKS, "double")
        layer = layers.get(block[3])
        layer = layer and f"{kind}_blocks.{block[2]}.{layer}"
    return layer and f"diffusion_model.{layer}{end.replace('.default', '')}"


def host_names(state: dict) -> dict:
    """Rename what is named as DiffSynth-Studio names FLUX.1's layers; all else stays as it is."""
    return {host_name(key) or key: tensor for key, tensor in state.items()}
