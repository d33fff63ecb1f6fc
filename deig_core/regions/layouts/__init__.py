"""Layouts as text: regions from and to the forms that people, data sets and language models use.

own.py             this pack's JSON, which the editor holds
annotations.py     InstanceDiffusion, COCO, DEIG-Bench, MIG-Bench
free_text.py       what language models write, and one line a region
in_words.py        what looks like a box in words that no reader has read
fields.py          reading one value at a time, with its place in the text named in every error
places.py          masks, scribbles and points beside a box, or instead of one
run_length.py      binary masks as COCO writes them
"""

from .formats import READABLE, WRITABLE, read_layout, write_layout
from .layout import Layout

__all__ = ["READABLE", "WRITABLE", "Layout", "read_layout", "write_layout"]
