"""Reading what torch.save pickled without running any of it.

Python's own unpickler calls whatever the file names. This one has its own small stack machine: it takes the
opcodes from the standard library's `pickletools.genops`, which only parses, and builds nothing but plain
containers, numbers, text and descriptions of tensors. What the file would call, import, or set on an object
becomes a `Foreign` that remembers the name and does nothing, so a checkpoint that carries an optimiser or a
configuration object beside its weights can be read around it.

The safety of this rests on three habits: no name from the file is ever looked up with import or getattr, no
object made for the file has an attribute set, and nothing from the file is called or hashed but text and
numbers.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import torch

_DTYPE_NAMES = (
    *("float32", "float64", "float16", "bfloat16"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "complex64", "complex128"),
)
# What this version of torch has of them.
DTYPES = {name: getattr(torch, name) for name in _DTYPE_NAMES if hasattr(torch, name)}

_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.UntypedStorage": torch.uint8,
    "torch.storage.UntypedStorage": torch.uint8,
}


# As many as torch has. Without a limit a file could have numbers multiplied for hours.
MOST_AXES = 64


@dataclass(frozen=True)
class StorageRef:
    """A block of numbers that lies elsewhere in the file, under `key`: `count` elements of `dtype`."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor as the pickle describes it. `offset` and `stride` count elements of `dtype`."""

    storage: StorageRef
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Foreign:
    """Stands where the file wanted something that is neither a tensor nor a plain container.

    Args:
        name: the global that the file asked for, for example `os.system`.
    """

    name: str


@dataclass(frozen=True)
class _Global(Foreign):
    """A name as the file mentions it, not yet called. `_call` knows the few that mean something."""


class _Mark:
    """The type of the one marker that MARK lays on the stack."""


_MARK = _Mark()


@dataclass(frozen=True)
class Walked:
    """What a pickle holds.

    Args:
        value: dicts, lists, tuples, text, bytes, numbers, None, with `TensorRef` and `Foreign` among them.
        storages: every storage that the pickle points to, by key, also those within what is foreign.
    """

    value: Any
    storages: dict[str, StorageRef]


def walk_pickle(file: BinaryIO) -> Walked:
    """Read one pickle from `file` and leave the file just behind it.

    Raises:
        ValueError: if the bytes are no whole, well-formed pickle.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.step(opcode.name, argument)
        return Walked(machine.pop(), machine.storages)
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        # The file drives this machine, so a stack that runs empty or a memo never filled is its fault.
        raise ValueError(f"The pickle is damaged ({type(error).__name__}: {error}).") from error


def _is_key(value: Any) -> bool:
    # Hashing a tuple of tuples of tuples can be made to take for ever; state dicts have no such keys.
    return value is None or isinstance(value, (str, bytes, int, float))


def _put_items(target: Any, flat: list):
    if isinstance(target, dict):
        target.update((key, value) for key, value in zip(flat[::2], flat[1::2], strict=True) if _is_key(key))
    elif not isinstance(target, Foreign):
        raise TypeError(f"items set on a {type(target).__name__}")


def _append(target: Any, values: list):
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Foreign):
        raise TypeError(f"values appended to a {type(target).__name__}")


class _Machine:
    """The pickle machine: a stack, a memo, and for each opcode what it does to them."""

    def __init__(self):
        self.stack: list = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageRef] = {}

    def step(self, name: str, argument: Any):
        if name in _IGNORED:
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.stack.append(argument)
        else:
            _ACTIONS[name](self, argument)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise TypeError("a mark where a value belongs")
        return value

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise TypeError("a mark where a value belongs")
        return self.stack[-1]

    def pop_to_mark(self) -> list:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def pop_many(self, count: int) -> tuple:
        return tuple(self.pop() for _ in range(count))[::-1]

    def put(self, index: int):
        self.memo[index] = self.top()

    def call(self, argument_count: int):
        function, arguments, *_ = self.pop_many(argument_count)
        self.stack.append(_call(function, arguments))

    def call_marked(self):
        function, *arguments = self.pop_to_mark()
        self.stack.append(_call(function, tuple(arguments)))

    def join_global(self):
        module, name = self.pop_many(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a global whose name is no text")
        self.stack.append(_Global(f"{module}.{name}"))

    def foreign(self, name: str):
        self.stack.append(Foreign(name))


_IGNORED = {"PROTO", "FRAME", "STOP", "READONLY_BUFFER"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: Foreign("builtins.set"),
    "MARK": lambda: _MARK,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def _from_dict_marks(machine: _Machine, _):
    made: dict = {}
    _put_items(made, machine.pop_to_mark())
    machine.stack.append(made)


def _set_items(machine: _Machine, flat: list):
    _put_items(machine.top(), flat)


def _add_items(machine: _Machine, values: list):
    _append(machine.top(), values)


def _frozen_set(machine: _Machine, _):
    machine.pop_to_mark()
    machine.foreign("builtins.frozenset")


def _global(machine: _Machine, argument: str):
    machine.stack.append(_Global(argument.replace(" ", ".", 1)))


def _instance(machine: _Machine, argument: str):
    arguments = machine.pop_to_mark()
    machine.stack.append(_call(_Global(argument.replace(" ", ".", 1)), tuple(arguments)))


def _persistent(machine: _Machine, _):
    storage = _storage(machine.pop())
    if isinstance(storage, StorageRef):
        machine.storages[storage.key] = storage
    machine.stack.append(storage)


_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "APPEND": lambda m, _: _add_items(m, [m.pop()]),
    "APPENDS": lambda m, _: _add_items(m, m.pop_to_mark()),
    "ADDITEMS": lambda m, _: _add_items(m, m.pop_to_mark()),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append(m.pop_many(1)),
    "TUPLE2": lambda m, _: m.stack.append(m.pop_many(2)),
    "TUPLE3": lambda m, _: m.stack.append(m.pop_many(3)),
    "DICT": _from_dict_marks,
    "SETITEM": lambda m, _: _set_items(m, list(m.pop_many(2))),
    "SETITEMS": lambda m, _: _set_items(m, m.pop_to_mark()),
    "FROZENSET": _frozen_set,
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.stack.append(m.top()),
    "GET": lambda m, index: m.stack.append(m.memo[index]),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "PUT": lambda m, index: m.put(index),
    "BINPUT": lambda m, index: m.put(index),
    "LONG_BINPUT": lambda m, index: m.put(index),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GLOBAL": _global,
    "STACK_GLOBAL": lambda m, _: m.join_global(),
    "REDUCE": lambda m, _: m.call(2),
    "NEWOBJ": lambda m, _: m.call(2),
    "NEWOBJ_EX": lambda m, _: m.call(3),
    "OBJ": lambda m, _: m.call_marked(),
    "INST": _instance,
    # State is what an object would set on itself: attributes of an OrderedDict, hooks of a parameter.
    "BUILD": lambda m, _: m.pop(),
    "BINPERSID": _persistent,
    "PERSID": lambda m, argument: m.foreign("a persistent id in text"),
    "EXT1": lambda m, code: m.foreign(f"copyreg extension {code}"),
    "EXT2": lambda m, code: m.foreign(f"copyreg extension {code}"),
    "EXT4": lambda m, code: m.foreign(f"copyreg extension {code}"),
    "NEXT_BUFFER": lambda m, _: m.foreign("a buffer outside the pickle"),
}


def _storage(persistent_id: Any) -> StorageRef | Foreign:
    """The numbers that `('storage', type, key, device, element count, ...)` points to."""
    match persistent_id:
        case ("storage", _Global(name=name), str(key), _, int(count), *view):
            # Before 0.4, torch could store a storage as a view of another one.
            if name in _STORAGES and count >= 0 and view in ([], [None]):
                return StorageRef(key, _STORAGES[name], count)
            return Foreign(name)
    return Foreign("a persistent id that torch.save does not write")


def _call(function: Any, arguments: Any) -> Any:
    """What calling `function` gives, where it is one of the few names that make tensors or containers."""
    if not isinstance(function, Foreign):
        raise TypeError(f"a call of a {type(function).__name__}")
    recipe = _RECIPES.get(function.name) if isinstance(function, _Global) else None
    if recipe is None or not isinstance(arguments, tuple):
        return Foreign(function.name)
    for value in arguments:
        if isinstance(value, Foreign) and not isinstance(value, _Global):
            return Foreign(value.name)
    made = recipe(arguments)
    return Foreign(f"{function.name} with arguments that do not fit") if made is None else made


# The recipes: each takes the call's arguments and returns None where they do not fit.


def _describe(storage: StorageRef, offset: Any, shape: tuple, stride: tuple, dtype: torch.dtype):
    """A tensor over part of a storage, or None where the numbers reach outside it."""
    numbers = (offset, *shape, *stride)
    if len(shape) > MOST_AXES or len(shape) != len(stride):
        return None
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        return None
    room = storage.count * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if prod(shape) > room or (prod(shape) and last >= room):
        return None
    return TensorRef(storage, dtype, offset, shape, stride)


def _tensor(arguments: tuple) -> TensorRef | None:
    match arguments:
        case (StorageRef() as storage, offset, tuple(shape), tuple(stride), *_grad_hooks_metadata):
            return _describe(storage, offset, shape, stride, storage.dtype)
    return None


def _tensor_v3(arguments: tuple) -> TensorRef | None:
    """The form for types that have no storage class of their own: bytes, and the type's name."""
    match arguments:
        case (StorageRef() as storage, offset, tuple(shape), tuple(stride), _, _, _Global(name=name), *_):
            dtype = DTYPES.get(name.removeprefix("torch."))
            return dtype and _describe(storage, offset, shape, stride, dtype)
    return None


def _parameter(arguments: tuple) -> TensorRef | None:
    match arguments:
        case (TensorRef() as data, *_grad_hooks_state):
            return data
    return None


def _tensor_with_attributes(arguments: tuple) -> TensorRef | Foreign | None:
    """A tensor that carries attributes of its own, which are dropped."""
    match arguments:
        case (_Global() as function, _Global(name=kind), tuple(inner), _state):
            known = kind in _TENSOR_TYPES and function.name in _TENSOR_MAKERS
            return _call(function, inner) if known else Foreign(kind)
    return None


def _dict(arguments: tuple) -> dict | None:
    """Made empty, and filled by opcodes of its own; a defaultdict also names what makes its values."""
    match arguments:
        case () | (_Global(),):
            return {}
    return None


_TENSOR_TYPES = {"torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"}
_TENSOR_MAKERS: dict[str, Callable[[tuple], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_RECIPES: dict[str, Callable[[tuple], Any]] = {
    **_TENSOR_MAKERS,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _dict,
}
