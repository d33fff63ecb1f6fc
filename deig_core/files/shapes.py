"""Sizes read off a file's tensors, and whether its tensors are those that the sizes ask for.

What a file says of itself is checked here before anything is built by it: every size stands in a tensor with as many
sides as it should have, and what is numbered (layers, blocks) goes from 0 on without a gap and not beyond reason.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from .windows import cut, shown, shown_list

# Of layers in a row; the released adapters have at most 16.
MOST_NUMBERED = 100


@dataclass(frozen=True)
class Shapes:
    """The tensors of a file, as far as they tell sizes.

    Args:
        tensors: by name.
        whole: how a refusal begins: which file is not a whole what.
        advice: how it ends: what to get instead.
    """

    tensors: Mapping[str, torch.Tensor]
    whole: str
    advice: str

    def refusal(self, trouble: str) -> ValueError:
        return ValueError(f"{self.whole}: {trouble}. {self.advice}")

    def sides(self, name: str, axes: int) -> tuple[int, ...]:
        """Return the sides of a tensor that tells a size.

        Raises:
            ValueError: if it is not there, or has not that many sides above 0.
        """
        if name not in self.tensors:
            raise self.refusal(f"the tensor {shown(name)} is missing")
        found = tuple(self.tensors[name].shape)
        if len(found) != axes or not all(found):
            wanted = f"{axes} side{'s' if axes > 1 else ''} above 0"
            raise self.refusal(
                f"the tensor {shown(name)} has the shape {cut(found)}, and {wanted} were expected"
            )
        return found

    def numbered(self, pattern: re.Pattern, most: int = MOST_NUMBERED) -> int:
        """Count what is numbered in the names, by a pattern whose first group is the number.

        Raises:
            ValueError: where a number is left out, or there are more than `most`.
        """
        found = {int(match[1]): name for name in self.tensors if (match := pattern.match(name))}
        last = max(found, default=-1)
        absent = next((number for number in range(len(found)) if number not in found), None)
        if absent is not None:
            raise self.refusal(
                f"it has the tensor {shown(found[last])}, but none with number {absent} in that place"
            )
        if len(found) > most:
            raise self.refusal(f"it has the tensor {shown(found[last])}, and numbers there end at {most - 1}")
        return len(found)

    def check(
        self,
        expected: Mapping[str, torch.Tensor],
        inner: Callable[[str], str] = str,
        outer: Callable[[str], str] = str,
    ):
        """Compare with what the sizes ask for.

        Args:
            expected: tensors as they should be, by names of ours.
            inner: gives our name for one of the file's, and `outer` the file's for one of ours; without them the
                names are the same.

        Raises:
            ValueError: naming missing, unexpected and misshapen tensors.
        """
        given: dict[str, str] = {}
        unexpected, misshapen = [], []
        for name, tensor in self.tensors.items():
            key = inner(name)
            if key not in expected or key in given:
                unexpected.append(name)
                continue
            given[key] = name
            if tensor.shape != expected[key].shape:
                shapes = f"{cut(tuple(tensor.shape))}, expected {tuple(expected[key].shape)}"
                misshapen.append(f"{cut(name)} {shapes}")
        problems = {
            "missing": [outer(key) for key in expected if key not in given],
            "unexpected": unexpected,
            "of another shape than the rest asks for": misshapen,
        }
        if any(problems.values()):
            raise self.refusal(
                "; ".join(f"tensors {what}: {shown_list(names)}" for what, names in problems.items() if names)
            )
