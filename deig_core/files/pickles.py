"""Reading what torch.save pickled without running any of it.

Python's own unpickler calls whatever the file names. This one has its own small stack machine: it takes the
opcodes from the standard library's `pickletools.genops`, which only parses, and builds nothing but plain
containers, numbers, text and descriptions of tensors. What the file would call, import, or set on an object
becomes a `Foreign` that remembers the name and does nothing, so a checkpoint that carries an optimiser or a
configuration object beside its weights can be read around it.

The safety of this rests on three habits: no name from the file is ever looked up with import or getattr, no
object made for the file has an attribute set, and nothing from the file is called or hashed but text and
numbers. What a file can ask for is bounded: so many steps, so many bytes, no name or argument list so long that
repeating it costs more than the file has.

Why not a restricted `pickle.Unpickler`, which is a third as long: measured with 3.11, one whose `find_class` hands
out stand-ins alone still calls what an extension code stands for, which it takes from copyreg's memory without
asking; 100 bytes of tuples in tuples as a key, or 400 KB of numbers with one hash, hold it (and the interpreter) for
ever, as the latter do torch's own for `weights_only`; and neither has a limit of steps or memory.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch

from .windows import is_shape, unforeseen

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

# InstanceDiffusion's training checkpoint, with 4,000 tensors, takes 130,000 steps and 420 KB.
_MOST_STEPS = 500_000
_LONGEST = 32 * 2**20
# torch.save gives a call at most nine. Longer lists could be handed to a million calls.
_MOST_ARGUMENTS = 16
_LONGEST_GLOBAL = 200
# Of what is counted: memo indices, elements, keys that are numbers. Numbers beyond could share one hash.
_LARGEST = 2**48


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A block of numbers that lies elsewhere in the file, under `key`: `count` elements of `dtype`."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor as the pickle describes it. `offset` and `stride` count elements of `dtype`."""

    storage: StorageRef
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Foreign:
    """Stands where the file wanted something that is neither a tensor nor a plain container.

    Args:
        name: the global that the file asked for, for example `os.system`.
    """

    name: str


@dataclass(frozen=True, slots=True)
class _Global(Foreign):
    """A name as the file mentions it, not yet called. `_call` knows the few that mean something."""


def _named(module: str, name: str) -> _Global:
    return _Global(f"{module}.{name}"[:_LONGEST_GLOBAL])


class _Mark:
    """The type of the one marker that MARK lays on the stack."""


_MARK = _Mark()


@dataclass(frozen=True, slots=True)
class Walked:
    """What a pickle holds.

    Args:
        value: dicts, lists, tuples, text, bytes, numbers, None, with `TensorRef` and `Foreign` among them.
        storages: every storage that the pickle points to, by key, also those within what is foreign.
    """

    value: Any
    storages: dict[str, StorageRef]


class Stream(Protocol):
    def read(self, count: int, /) -> bytes: ...

    def readline(self, longest: int, /) -> bytes: ...


class _Bounded:
    """A stream that gives `_LONGEST` bytes and no more, and is never asked for more than are left of them."""

    def __init__(self, stream: Stream):
        self.stream = stream
        self.left = _LONGEST

    def _given(self, got: bytes) -> bytes:
        self.left -= len(got)
        if self.left <= 0:
            raise ValueError(f"it is longer than {_LONGEST // 2**20} MiB, as no list of weights is")
        return got

    def read(self, count: int) -> bytes:
        return self._given(self.stream.read(min(count, self.left)))

    def readline(self) -> bytes:
        return self._given(self.stream.readline(self.left))


def walk_pickle(stream: Stream) -> Walked:
    """Read one pickle from `stream` and leave the stream just behind it.

    Raises:
        ValueError: if the bytes are no whole, well-formed pickle, or one that takes more than any list of weights.
    """
    machine = _Machine()
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(_Bounded(stream))):
            if step > _MOST_STEPS:
                raise ValueError(f"it takes more than {_MOST_STEPS} steps, as no list of weights does")
            machine.step(opcode.name, argument)
        return Walked(machine.pop(), machine.storages)
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        # The file drives this machine, so a stack that runs empty or a memo never filled is its fault.
        raise ValueError(f"The pickle is damaged ({unforeseen(error, 80)}).") from error


def _is_key(value: Any) -> bool:
    # Hashing a tuple of tuples of tuples can be made to take for ever; state dicts have no such keys.
    return isinstance(value, str) or (type(value) is int and abs(value) < _LARGEST)


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
        if not 0 <= index < _LARGEST:
            raise IndexError(f"a memo of index {str(index)[:20]}")
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
        self.stack.append(_named(module[:_LONGEST_GLOBAL], name[:_LONGEST_GLOBAL]))

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
    machine.stack.append(_named(*argument.split(" ", 1)))


def _instance(machine: _Machine, argument: str):
    arguments = machine.pop_to_mark()
    machine.stack.append(_call(_named(*argument.split(" ", 1)), tuple(arguments)))


def _persistent(machine: _Machine, _):
    storage = _storage(machine.pop())
    if isinstance(storage, StorageRef) and machine.storages.setdefault(storage.key, storage) != storage:
        raise ValueError(
            f"the storage {storage.key[:80]!r} is described twice, with different sizes or types"
        )
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
    # Before 0.4, torch could store a storage as a view of another one; of others the sixth is None or missing.
    match persistent_id:
        case ("storage", _Global(name=name), str(key), _, int(count)) | (
            "storage",
            _Global(name=name),
            str(key),
            _,
            int(count),
            None,
        ):
            return StorageRef(key, _STORAGES[name], count) if _is_storage(name, count) else Foreign(name)
        case ("storage", _Global(name=name), _, _, _, _):
            return Foreign(name)
    return Foreign("a persistent id that torch.save does not write")


def _is_storage(name: str, count: int) -> bool:
    return name in _STORAGES and 0 <= count < _LARGEST


def _call(function: Any, arguments: Any) -> Any:
    """What calling `function` gives, where it is one of the few names that make tensors or containers."""
    if not isinstance(function, Foreign):
        raise TypeError(f"a call of a {type(function).__name__}")
    recipe = _RECIPES.get(function.name) if isinstance(function, _Global) else None
    if recipe is None or not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
        return Foreign(function.name)
    for value in arguments:
        if isinstance(value, Foreign) and not isinstance(value, _Global):
            return Foreign(value.name)
    made = recipe(arguments)
    return Foreign(f"{function.name} with arguments that do not fit") if made is None else made


# The recipes: each takes the call's arguments and returns None where they do not fit.


def _describe(
    storage: StorageRef, offset: Any, shape: tuple, stride: tuple, dtype: torch.dtype, metadata: tuple
) -> TensorRef | Foreign | None:
    """A tensor over part of a storage, or None where the numbers reach outside it.

    The tensor may repeat numbers of the storage (a stride of 0), and so be larger.
    """
    if not is_shape(shape) or len(shape) != len(stride):
        return None
    if not all(type(number) is int and 0 <= number < _LARGEST for number in (offset, *stride)):
        return None
    if any(isinstance(flags, dict) and (flags.get("conj") or flags.get("neg")) for flags in metadata):
        return Foreign("a tensor whose numbers are to be negated or conjugated after reading")
    room = storage.count * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if prod(shape) and last >= room:
        return None
    return TensorRef(storage, dtype, offset, shape, stride)


def _tensor(arguments: tuple) -> TensorRef | Foreign | None:
    match arguments:
        case (StorageRef() as storage, offset, tuple(shape), tuple(stride), *_grad_and_hooks):
            return _describe(storage, offset, shape, stride, storage.dtype, arguments[6:])
    return None


def _tensor_v3(arguments: tuple) -> TensorRef | Foreign | None:
    """The form for types that have no storage class of their own: bytes, and the type's name."""
    match arguments:
        case (StorageRef() as storage, offset, tuple(shape), tuple(stride), _, _, _Global(name=name), *_):
            dtype = DTYPES.get(name.removeprefix("torch."))
            return dtype and _describe(storage, offset, shape, stride, dtype, arguments[7:])
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
