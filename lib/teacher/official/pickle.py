"""Reads a pickle without calling anything that it names.

A pickle is a program for a stack machine. This machine knows the opcodes that protocols 2 to 5
write for plain data. A global that the file names is looked up by its exact name in the caller's
list of stand-ins, never imported; every length is compared with what is left of the file before
anything is allocated; all else is a `StudyError` that names the opcode and the byte.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lib.common.errors import StudyError

PROTOCOLS = range(2, 6)
MAX_OPCODES = 200_000  # an official file with three networks holds about 20,000
MAX_INT_BYTES = 16
MAX_ARGUMENTS = 8
MAX_KEY = 2**31
StandIns = dict[tuple[str, str], Any]


@dataclass(frozen=True)
class Global:
    """A global that a file names: its name and the caller's stand-in, a function or a value."""

    name: str
    stand_in: Any


class SafeUnpickler:
    """One pickle in `data`, from byte `position` on; `load` returns what it describes.

    A stand-in function takes the tuple of arguments and returns the value; an object with a
    method `build(state)` accepts the opcode BUILD. Byte strings come as views of `data`.
    `persistent(id)` resolves persistent ids, which are refused without it.
    """

    def __init__(
        self,
        data: memoryview,
        stand_ins: StandIns,
        persistent: Callable[[Any], Any] | None = None,
        position: int = 0,
    ):
        self.data, self.position = data, position
        self.stand_ins, self.persistent = stand_ins, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.budget = 4 * len(data) + 2**20  # bytes that calls may take, see `_call`

    def load(self) -> Any:
        """Run the pickle up to its STOP; `position` is then the byte behind it."""
        start = self.position
        header = bytes(self.data[start : start + 2])
        if len(header) < 2 or header[:1] != pickle.PROTO or header[1] not in PROTOCOLS:
            raise StudyError(f"byte {start}: no pickle of protocol 2 to 5 begins here")
        self.position += 2
        for _ in range(MAX_OPCODES):
            start = self.position
            if start >= len(self.data):
                raise StudyError(f"byte {start}: the file ends before the pickle does")
            code, self.position = self.data[start], start + 1
            try:
                if code == pickle.STOP[0]:
                    return self._result()
                self._run(code)
            except StudyError as error:
                raise StudyError(
                    f"byte {start}, {opcode_name(code)}{self._near()}: {error}"
                ) from None
        raise StudyError(f"more than {MAX_OPCODES:,} opcodes")

    def take(self, length: int) -> memoryview:
        """Return the next `length` bytes, which must be there."""
        left = len(self.data) - self.position
        if length > left:
            raise StudyError(f"{length:,} bytes are claimed where {left:,} are left")
        self.position += length
        return self.data[self.position - length : self.position]

    def number(self, code: str) -> Any:
        """Read one number by its `struct` code, little-endian."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def line(self) -> str:
        """Read text up to the next line feed, as GLOBAL stores its two names."""
        text = bytes(self.data[self.position : self.position + 256])
        length = text.find(b"\n")
        if length < 0:
            raise StudyError("a name does not end")
        self.position += length + 1
        return decode(text[:length])

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the top of the stack, not below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise StudyError("the stack is empty")
        return self.stack.pop()

    def pop_many(self, count: int) -> tuple:
        """Take `count` values from the stack, in the order they were put there."""
        return tuple(reversed([self.pop() for _ in range(count)]))

    def pop_mark(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        if not self.marks:
            raise StudyError("there is no mark")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def top(self, kind: type) -> Any:
        """Return the top of the stack, which must be exactly of that type."""
        value = self.pop()
        self.push(value)
        if type(value) is not kind:
            raise StudyError(f"applied to {type(value).__name__} instead of {kind.__name__}")
        return value

    def _run(self, code: int) -> None:
        if code not in ACTIONS:
            raise StudyError("this opcode does not belong in a file of plain data")
        ACTIONS[code](self)

    def _result(self) -> Any:
        value = self.pop()
        if self.stack or self.marks:
            raise StudyError("values are left on the stack at the end")
        return value

    def _near(self) -> str:
        texts = (value for value in reversed(self.stack) if type(value) is str)
        nearest = next(texts, None)
        return "" if nearest is None else f" near {shown(nearest)}"


def opcode_name(code: int) -> str:
    """Return an opcode's name in `pickletools`, or its number."""
    known = pickletools.code2op.get(chr(code))
    return known.name if known else f"unknown opcode {code:#04x}"


def shown(value: str) -> str:
    """Return a file's text for a message: escaped and cut."""
    return ascii(value if len(value) <= 80 else value[:77] + "…")


def decode(data: memoryview | bytes) -> str:
    """Decode UTF-8 as pickle does; invalid bytes are a `StudyError`."""
    try:
        return str(data, "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise StudyError("a text is not UTF-8") from None


def _check_key(key: Any) -> None:
    """Allow texts and small numbers: hashing them costs nothing, whatever the file holds."""
    if type(key) is not str and not (type(key) is int and abs(key) < MAX_KEY):
        raise StudyError(f"a key is of type {type(key).__name__}")


def _integer(machine: SafeUnpickler, length: int) -> None:
    if not 0 <= length <= MAX_INT_BYTES:
        raise StudyError(f"an integer of {length:,} bytes")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


def _set_items(machine: SafeUnpickler, items: list[Any]) -> None:
    target = machine.top(dict)
    if len(items) % 2:
        raise StudyError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        _check_key(key)
        target[key] = value


def _add_items(machine: SafeUnpickler) -> None:
    items = machine.pop_mark()
    for item in items:
        _check_key(item)
    machine.top(set).update(items)


def _global(machine: SafeUnpickler, module: Any, name: Any) -> None:
    if type(module) is not str or type(name) is not str:
        raise StudyError("a global is named by something else than text")
    if (module, name) not in machine.stand_ins:
        raise StudyError(f"global {shown(module)} {shown(name)} is not on the list of known ones")
    machine.push(Global(f"{module}.{name}", machine.stand_ins[module, name]))


def _call(machine: SafeUnpickler) -> None:
    function, arguments = machine.pop_many(2)
    if type(function) is not Global or not callable(function.stand_in):
        raise StudyError("something is called that is no known function")
    if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
        raise StudyError(f"the arguments of {function.name} are no tuple, or too many")
    # A text may be fetched from the memo and converted again and again: bound the sum.
    machine.budget -= sum(len(a) for a in arguments if isinstance(a, str | bytes | memoryview))
    if machine.budget < 0:
        raise StudyError("the file makes more bytes than it holds")
    try:
        machine.push(function.stand_in(arguments))
    except StudyError as error:
        raise StudyError(f"{function.name}: {error}") from None


def _build(machine: SafeUnpickler) -> None:
    state, target = machine.pop(), machine.pop()
    if not hasattr(target, "build"):
        raise StudyError(f"{type(target).__name__} takes no state")
    target.build(state)
    machine.push(target)


def _put(machine: SafeUnpickler, index: int) -> None:
    value = machine.pop()
    machine.push(value)
    machine.memo[index] = value


def _get(machine: SafeUnpickler, index: int) -> None:
    if index not in machine.memo:
        raise StudyError(f"memo entry {index:,} was never stored")
    machine.push(machine.memo[index])


def _persistent(machine: SafeUnpickler) -> None:
    if machine.persistent is None:
        raise StudyError("a persistent id refers to something outside of the file")
    machine.push(machine.persistent(machine.pop()))


def _constant(value: Any) -> Callable[[SafeUnpickler], None]:
    return lambda m: m.push(value)


def _number(code: str) -> Callable[[SafeUnpickler], None]:
    return lambda m: m.push(m.number(code))


def _text(code: str) -> Callable[[SafeUnpickler], None]:
    return lambda m: m.push(decode(m.take(m.number(code))))


def _bytes(code: str) -> Callable[[SafeUnpickler], None]:
    return lambda m: m.push(m.take(m.number(code)))


def _big_endian_float(machine: SafeUnpickler) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


def _frame(machine: SafeUnpickler) -> None:
    length = machine.number("Q")
    machine.take(length)
    machine.position -= length


ACTIONS: dict[int, Callable[[SafeUnpickler], None]] = {
    opcode[0]: action
    for opcode, action in {
        pickle.FRAME: _frame,
        pickle.MARK: lambda m: m.marks.append(len(m.stack)),
        pickle.POP: lambda m: m.pop(),
        pickle.POP_MARK: lambda m: m.pop_mark(),
        pickle.NONE: _constant(None),
        pickle.NEWTRUE: _constant(True),
        pickle.NEWFALSE: _constant(False),
        pickle.BININT: _number("i"),
        pickle.BININT1: _number("B"),
        pickle.BININT2: _number("H"),
        pickle.LONG1: lambda m: _integer(m, m.number("B")),
        pickle.LONG4: lambda m: _integer(m, m.number("i")),
        pickle.BINFLOAT: _big_endian_float,
        pickle.SHORT_BINUNICODE: _text("B"),
        pickle.BINUNICODE: _text("I"),
        pickle.BINUNICODE8: _text("Q"),
        pickle.SHORT_BINBYTES: _bytes("B"),
        pickle.BINBYTES: _bytes("I"),
        pickle.BINBYTES8: _bytes("Q"),
        pickle.BYTEARRAY8: _bytes("Q"),
        pickle.EMPTY_TUPLE: _constant(()),
        pickle.TUPLE1: lambda m: m.push(m.pop_many(1)),
        pickle.TUPLE2: lambda m: m.push(m.pop_many(2)),
        pickle.TUPLE3: lambda m: m.push(m.pop_many(3)),
        pickle.TUPLE: lambda m: m.push(tuple(m.pop_mark())),
        pickle.EMPTY_LIST: lambda m: m.push([]),
        pickle.APPEND: lambda m: _append(m, [m.pop()]),
        pickle.APPENDS: lambda m: _append(m, m.pop_mark()),
        pickle.EMPTY_DICT: lambda m: m.push({}),
        pickle.SETITEM: lambda m: _set_items(m, list(m.pop_many(2))),
        pickle.SETITEMS: lambda m: _set_items(m, m.pop_mark()),
        pickle.EMPTY_SET: lambda m: m.push(set()),
        pickle.ADDITEMS: _add_items,
        pickle.GLOBAL: lambda m: _global(m, m.line(), m.line()),
        pickle.STACK_GLOBAL: lambda m: _global(m, *m.pop_many(2)),
        pickle.REDUCE: _call,
        pickle.NEWOBJ: _call,
        pickle.BUILD: _build,
        pickle.BINPUT: lambda m: _put(m, m.number("B")),
        pickle.LONG_BINPUT: lambda m: _put(m, m.number("I")),
        pickle.MEMOIZE: lambda m: _put(m, len(m.memo)),
        pickle.BINGET: lambda m: _get(m, m.number("B")),
        pickle.LONG_BINGET: lambda m: _get(m, m.number("I")),
        pickle.BINPERSID: _persistent,
    }.items()
}


def _append(machine: SafeUnpickler, items: list[Any]) -> None:
    machine.top(list).extend(items)
