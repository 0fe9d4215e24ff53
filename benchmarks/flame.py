"""Where one thread's time goes, by samples of its stack: `Sampler` takes them, `folded` and `svg` show them.

A thread beside it looks at the stack every few milliseconds (`sys._current_frames`), so the code runs almost at its
own speed, which it does not under cProfile, and nothing has to be installed or allowed (py-spy wants ptrace). Below
the Python functions stands what the innermost one was evaluating, the call or the expression as its source has it, so
that time in a kernel has a name. The sampler gets in where native code gives up the interpreter's lock, as numba's
kernels, torch and librdkafka do, or else behind the next call: what Python itself does between two calls, and native
code that keeps the lock, count as part of a call beside them in the same function.

The picture is a flame graph (Gregg, "The Flame Graph", CACM 59(6), 2016) that grows downwards: as wide as its share of
samples, callers on top, children in the order in which they were first met, which is about that of the program.
"""

import ast
import dis
import linecache
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Final, Self

ROOT: Final = Path(__file__).parent.parent
SAMPLE_SECONDS: Final = 0.002
SWITCH_SECONDS: Final = 0.0002
"""How soon Python code lets the sampler in; 5 ms otherwise."""
NATIVE: Final = "⟶ "
"""Before what the innermost function was evaluating."""

Stack = tuple[str, ...]


class Sampler:
    """Counts the stacks of the thread that made it, between entering and leaving."""

    def __init__(self, below: str) -> None:
        """`below`: the outermost function that is shown, `folder/file.py:function`; what is not below it is not
        counted.
        """
        self.stacks: Counter[Stack] = Counter()
        """Outermost function first."""
        self._below = below
        self._watched = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="flame", daemon=True)
        self._switch_seconds = sys.getswitchinterval()

    def __enter__(self) -> Self:
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        sys.setswitchinterval(self._switch_seconds)

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            frame = sys._current_frames().get(self._watched)
            stack = () if frame is None else stack_of(frame)
            del frame  # it would keep what the function holds
            if self._below in stack:
                self.stacks[stack[stack.index(self._below) :]] += 1


def stack_of(frame: FrameType) -> Stack:
    """The names of the functions that run in `frame`, outermost first, and what the innermost one waits for."""
    names = [evaluated] if (evaluated := _evaluated(frame.f_code, frame.f_lasti)) else []
    at: FrameType | None = frame
    while at is not None:
        names.append(_name(at.f_code))
        at = at.f_back
    return tuple(reversed(names))


def folded(stacks: Mapping[Stack, int]) -> str:
    """A line a stack: its functions, outermost first, between semicolons, and how often it was met.

    That is what other flame graph tools read.
    """
    return "".join(f"{';'.join(name.replace(';', ',') for name in stack)} {count}\n" for stack, count in stacks.items())


# --- names ---

_EVALUATING: Final = frozenset(
    {"CALL", "PRECALL", "CALL_FUNCTION_EX", "CALL_KW", "BINARY_OP", "BINARY_SUBSCR", "STORE_SUBSCR", "COMPARE_OP",
     "BINARY_SLICE", "STORE_SLICE", "UNARY_NEGATIVE", "UNARY_INVERT", "CONTAINS_OP"}
)  # fmt: skip
"""Instructions that may run native code for long."""
_LONGEST_EXPRESSION: Final = 48


def _name(code: CodeType) -> str:
    path = Path(code.co_filename)
    if path.is_relative_to(ROOT):
        return f"{path.relative_to(ROOT).as_posix()}:{code.co_qualname.replace('<locals>.', '')}"
    _, installed, inside = path.as_posix().rpartition("/site-packages/")
    return f"{inside if installed else path.name}:{code.co_qualname.replace('<locals>.', '')}"


@cache
def _evaluated(code: CodeType, instruction: int) -> str | None:
    """What this instruction evaluates, as the source has it, a call without its arguments; None where it is quick."""
    if instruction < 0 or dis.opname[code.co_code[instruction]] not in _EVALUATING:
        return None
    first, last, begins, ends = next(islice(code.co_positions(), instruction // 2, None))
    if first is None or last is None or begins is None or ends is None:
        return None
    lines = [linecache.getline(code.co_filename, line).encode() for line in range(first, last + 1)]
    lines[-1] = lines[-1][:ends]  # before the beginning is cut off: it may be the same line; columns are in bytes
    lines[0] = lines[0][begins:]
    try:
        tree = ast.parse(b"(" + b"".join(lines) + b")", mode="eval").body
    except SyntaxError:  # a statement, as the head of a `for` or a `with`
        return None
    text = ast.unparse(tree.func) + "()" if isinstance(tree, ast.Call) else ast.unparse(tree)
    return NATIVE + (text if len(text) <= _LONGEST_EXPRESSION else text[: _LONGEST_EXPRESSION - 1] + "…")


# --- the picture ---

WIDTH: Final = 1200
ROW: Final = 18
MARGIN: Final = 10
LETTER: Final = 6.3
"""Width of a letter of the size that is used, about."""
NARROWEST: Final = 1.5
"""Boxes narrower than this are left out, with all below them."""
COLOURS: Final = {
    "consumer": "#8fb8de",
    "model": "#f2b872",
    "libraries": "#cfcfcf",
    "calls out of Python": "#e58b7b",
}


@dataclass
class _Box:
    samples: int = 0
    inside: dict[str, "_Box"] = field(default_factory=dict)


def svg(stacks: Mapping[Stack, int], title: str) -> str:
    """The flame graph as one SVG, which needs nothing else to be looked at; ValueError where there are no samples."""
    total = sum(stacks.values())
    if not total:
        raise ValueError("no samples: what was to be watched did not run, or for less than a few milliseconds")
    top = _Box(total)
    for stack, count in stacks.items():
        box = top
        for name in stack:
            box = box.inside.setdefault(name, _Box())
            box.samples += count
    scale = (WIDTH - 2 * MARGIN) / total
    boxes = list(_boxes(top, scale, MARGIN, 0))
    height = 62 + ROW * (1 + max(level for _, _, _, level in boxes)) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for number, (kind, colour) in enumerate(COLOURS.items()):
        x = MARGIN + 150 * number
        parts.append(f'<rect x="{x}" y="33" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="43">{kind}</text>')
    parts += [_drawn(name, box, x, 62 + ROW * level, box.samples * scale, total) for name, box, x, level in boxes]
    return "\n".join([*parts, "</svg>\n"])


def _boxes(box: _Box, scale: float, x: float, level: int) -> Iterator[tuple[str, _Box, float, int]]:
    for name, inner in box.inside.items():
        if inner.samples * scale >= NARROWEST:
            yield name, inner, x, level
            yield from _boxes(inner, scale, x, level + 1)
        x += inner.samples * scale


def _drawn(name: str, box: _Box, x: float, y: float, width: float, total: int) -> str:
    share = f"{box.samples / total:.1%}"
    text, room = f"{_short(name)} {share}", int((width - 6) / LETTER)
    if len(text) > room:
        text = _short(name)[: room - 1] + "…" if room >= 4 else ""
    return (
        f"<g><title>{escape(name)}: {share}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.6, 0.6):.1f}" height="{ROW - 1}" '
        f'fill="{COLOURS[_kind(name)]}"/><text x="{x + 3:.1f}" y="{y + 12.5}">{escape(text)}</text></g>'
    )


def _short(name: str) -> str:
    """Without the file, but for functions that need it to be told apart."""
    path, _, function = name.partition(":")
    if name.startswith(NATIVE) or not function:
        return name
    return function if "." in function else f"{Path(path).stem}.{function}"


def _kind(name: str) -> str:
    if name.startswith(NATIVE):
        return "calls out of Python"
    folder = name.partition("/")[0]
    return folder if folder in COLOURS else "libraries"
