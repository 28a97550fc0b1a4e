"""Reads a pickle without calling anything that it names.

A pickle is a program for a stack machine. Python's `pickletools` takes it apart and reads no more
than the file holds; this machine knows the opcodes that protocols 2 to 5 write for plain data. A
global that the file names is looked up by its exact name in the caller's list of stand-ins, never
imported; all else is a `StudyError` that names the opcode and the byte.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lib.common.errors import StudyError

PROTOCOLS = range(2, 6)
MAX_OPCODES = 200_000  # an official file with three networks holds about 20,000
MAX_BITS, MAX_KEY = 128, 2**31
MAX_ARGUMENTS = 8
StandIns = dict[tuple[str, str], Any]


@dataclass(frozen=True)
class Global:
    """A global that a file names: its name and the caller's stand-in, a function or a value."""

    name: str
    stand_in: Any


class SafeUnpickler:
    """Reads the pickles of a file, one at each call of `load`.

    A stand-in function takes the tuple of arguments and returns the value; an object with a
    method `build(state)` accepts the opcode BUILD. `persistent(id)` resolves persistent ids,
    which are refused without it.
    """

    def __init__(
        self, file: io.BytesIO, stand_ins: StandIns, persistent: Callable[[Any], Any] | None = None
    ):
        self.file, self.stand_ins, self.persistent = file, stand_ins, persistent
        self.budget = 4 * file.getbuffer().nbytes + 2**20  # bytes that calls may take: `call`

    def load(self) -> Any:
        """Return what the next pickle describes; `file` then stands behind its STOP."""
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks
        self.memo: dict[int, Any] = {}
        start, header = self.file.tell(), self.file.read(2)
        if len(header) < 2 or header[:1] != pickle.PROTO or header[1] not in PROTOCOLS:
            fault = f"byte {start}: no pickle of protocol 2 to 5 begins here"
            raise StudyError(f"{fault}: download the file again")
        for _ in range(MAX_OPCODES):
            position, code = self.file.tell(), self.file.read(1).decode("latin-1")
            opcode = pickletools.code2op.get(code)
            if not code:
                raise StudyError(
                    f"byte {position}: the file ends before its STOP: download it again"
                )
            name = opcode.name if opcode else f"opcode {ord(code):#04x}"
            try:
                if name == "STOP":
                    return self._result()
                self._run(name, opcode)
            except (StudyError, ValueError, Warning) as error:  # an escape in a name may warn
                raise StudyError(f"byte {position}, {name}{self._near()}: {error}") from None
            except LookupError:
                reason = "the stack or memo holds no value for it"
                raise StudyError(f"byte {position}, {name}: {reason}") from None
        raise StudyError(f"more than {MAX_OPCODES:,} opcodes")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self, count: int) -> tuple:
        """Take `count` values from the stack, in the order they were put there."""
        return tuple([self.stack.pop() for _ in range(count)][::-1])

    def mark(self) -> None:
        """Begin a stack above the present one."""
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def put(self, index: int | None) -> None:
        """Remember the top of the stack."""
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def extend(self, kind: type, items: Sequence) -> None:
        """Add items to the list or set on top, or keys and values in turn to the dictionary."""
        target = self.stack[-1]
        if type(target) is not kind:
            raise StudyError(f"applied to {type(target).__name__} instead of {kind.__name__}")
        if kind is list:
            target.extend(items)
        elif kind is set:
            target.update(check_keys(items))
        elif len(items) % 2:
            raise StudyError("a key without a value")
        else:
            target.update(zip(check_keys(items[::2]), items[1::2], strict=True))

    def push_global(self, module: Any, name: Any) -> None:
        """Push what stands for a global."""
        if type(module) is not str or type(name) is not str:
            raise StudyError("a global is named by something else than text")
        if (module, name) not in self.stand_ins:
            raise StudyError(f"global {shown(module)} {shown(name)} is not on the list")
        self.push(Global(f"{module}.{name}", self.stand_ins[module, name]))

    def call(self) -> None:
        """Call the stand-in of a global."""
        function, arguments = self.pop(2)
        if type(function) is not Global or not callable(function.stand_in):
            raise StudyError("something is called that is no known function")
        if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
            raise StudyError(f"the arguments of {function.name} are no tuple, or too many")
        # A text may be fetched from the memo and converted again and again: bound the sum.
        self.budget -= sum(len(a) for a in arguments if isinstance(a, str | bytes | bytearray))
        if self.budget < 0:
            raise StudyError("the file makes more bytes than it holds")
        try:
            self.push(function.stand_in(arguments))
        except StudyError as error:
            raise StudyError(f"{function.name}: {error}") from None

    def build(self) -> None:
        """Give a stand-in its state."""
        target, state = self.pop(2)
        if not hasattr(target, "build"):
            raise StudyError(f"{type(target).__name__} takes no state")
        target.build(state)
        self.push(target)

    def resolve(self) -> None:
        """Replace a persistent id by what it refers to."""
        if self.persistent is None:
            raise StudyError("a persistent id refers to something outside of the file")
        self.push(self.persistent(*self.pop(1)))

    def _run(self, name: str, opcode: pickletools.OpcodeInfo | None) -> None:
        if name not in ACTIONS:
            raise StudyError("no such thing belongs in a file of plain data")
        argument = opcode.arg.reader(self.file) if opcode.arg else None
        if type(argument) is int and argument.bit_length() > MAX_BITS:
            raise StudyError(f"an integer of {argument.bit_length():,} bits")
        ACTIONS[name](self, argument)

    def _result(self) -> Any:
        (value,) = self.pop(1)
        if self.stack or self.below:
            raise StudyError("values are left on the stack at the end")
        return value

    def _near(self) -> str:
        texts = [v for part in [*self.below, self.stack] for v in part if type(v) is str]
        return f" near {shown(texts[-1])}" if texts else ""


def check_keys(keys: Sequence) -> Sequence:
    """Allow texts and small numbers: hashing them costs nothing, whatever the file holds."""
    for key in keys:
        if type(key) is not str and not (type(key) is int and abs(key) < MAX_KEY):
            raise StudyError(f"a key is of type {type(key).__name__}")
    return keys


def shown(value: str) -> str:
    """Return a file's text for a message: escaped and cut."""
    return ascii(value if len(value) <= 80 else value[:77] + "…")


VALUES = "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8"
VALUES += " SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8"  # they push their argument
Action = Callable[[SafeUnpickler, Any], Any]
ACTIONS: dict[str, Action] = dict.fromkeys(VALUES.split(), SafeUnpickler.push)
ACTIONS |= dict.fromkeys(["BINPUT", "LONG_BINPUT", "MEMOIZE"], SafeUnpickler.put)
ACTIONS |= dict.fromkeys(["BINGET", "LONG_BINGET"], lambda m, index: m.push(m.memo[index]))
ACTIONS |= dict.fromkeys(["REDUCE", "NEWOBJ"], lambda m, _: m.call())
ACTIONS |= {
    "FRAME": lambda m, length: None,
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.pop(1),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.push(m.pop(1)),
    "TUPLE2": lambda m, _: m.push(m.pop(2)),
    "TUPLE3": lambda m, _: m.push(m.pop(3)),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_SET": lambda m, _: m.push(set()),
    "APPEND": lambda m, _: m.extend(list, m.pop(1)),
    "APPENDS": lambda m, _: m.extend(list, m.pop_mark()),
    "ADDITEMS": lambda m, _: m.extend(set, m.pop_mark()),
    "SETITEM": lambda m, _: m.extend(dict, m.pop(2)),
    "SETITEMS": lambda m, _: m.extend(dict, m.pop_mark()),
    "GLOBAL": lambda m, names: m.push_global(*names.partition(" ")[::2]),
    "STACK_GLOBAL": lambda m, _: m.push_global(*m.pop(2)),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.resolve(),
}
