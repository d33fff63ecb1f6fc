"""A custom node for the test server: the host's own Qwen3-VL and RT-DETR, tiny and random, and what a large one says.

The server loads the stand-ins' files through its own loaders. Qwen3-VL's code has its sizes written in, so they are
made small here before anything is loaded. It then reads its words and its picture and generates in truth; only what
comes out of random weights is replaced by a recorded answer: a phrase where it was shown a picture, else a layout.
"""

import json
from pathlib import Path

from comfy.text_encoders import qwen3vl

SIZES = json.loads((Path(__file__).parent / "sizes.json").read_text())
PHRASE = 'Sure! Here is the phrase: "a golden disc with a dark rim and a fine grain."'
LAYOUT = """<think>
</think>
```json
{"prompt": "a reading corner by a window", "regions": [
  {"phrase": "a dark green velvet armchair with brass legs", "box": [0.3, 0.35, 0.85, 1.05]},
  {"phrase": "a sleeping orange tabby cat with a blue collar", "box": [0.45, 0.5, 0.7, 0.7]}]}
```"""


def make_small():
    config = qwen3vl.QWEN3VL_CONFIGS["qwen3vl_8b"]
    qwen3vl.QWEN3VL_CONFIGS["qwen3vl_8b"] = lambda **given: config(**{**SIZES["text"], **given})
    qwen3vl.QWEN3VL_VISION["qwen3vl_8b"] = SIZES["vision"]
    qwen3vl.QWEN3VL_VISION_COMMON["num_heads"] = SIZES["heads"]


def answer_as_recorded():
    generate = qwen3vl.Qwen3VLClipModel.generate
    read = qwen3vl.tokenizer(model_type="qwen3vl_8b")()

    def recorded(self, tokens, do_sample, max_length, *options, **named):
        assert generate(self, tokens, do_sample, 2, *options, **named), "it generates"
        shown = any(isinstance(token[0], dict) for batch in next(iter(tokens.values())) for token in batch)
        words = read.tokenize_with_weights(PHRASE if shown else LAYOUT, skip_template=True)
        return [token[0] for token in next(iter(words.values()))[0]]

    qwen3vl.Qwen3VLClipModel.generate = recorded


make_small()
answer_as_recorded()

NODE_CLASS_MAPPINGS: dict = {}
