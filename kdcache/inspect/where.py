"""``--where``: a condition that people type, made into an expression of pyarrow.

    duration > 20 and kl_lattice > 0.01
    speaker in ("ada", "bob") and not "hello" in text
    3 < duration / labels < 10 or speaker is None

Python's own parser takes the text apart, and each piece that this page knows becomes an
expression that pyarrow evaluates over whole columns. Nothing is ever called, looked up or
executed on the way: whatever else the parser understands is refused. As in SQL, a comparison
with a value that is absent is neither true nor false, and its row is left out.
"""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.inspect.fields import Field, Fields

LONGEST = 2_000
"""Characters of a condition: the parser goes no deeper than these can nest."""

EXAMPLE = "duration > 20 and kl > 0.01"

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: pc.add, ast.Sub: pc.subtract, ast.Mult: pc.multiply, ast.Div: pc.divide,
}  # fmt: skip
_NUMBER, _TEXT, _TRUTH = "a number", "a text", "a condition"


@dataclass(frozen=True, slots=True)
class Where:
    """A condition on utterances.

    Attributes:
        expression: over a table that has a column a field, named in full.
        fields: what it asks for.
    """

    expression: pc.Expression
    fields: tuple[Field, ...]


def parse_where(text: str, fields: Fields) -> Where:
    """The condition that ``text`` says.

    Raises:
        ConfigError: it says none, or one that is not about these fields.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"--where takes up to {LONGEST:,} characters, got {len(text):,}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        walker = _Walker(text.strip(), fields)
        value = walker.value(tree)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        why = f": {error.msg}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(
            f"--where {text!r} is no condition{why}; expected one such as {EXAMPLE!r}."
        ) from None
    if value.kind != _TRUTH:
        walker.refuse(tree, _TRUTH, value.kind)
    return Where(value.expression, tuple(walker.asked.values()))


@dataclass(frozen=True, slots=True)
class _Value:
    """A piece of the condition, and what it evaluates to."""

    expression: pc.Expression
    kind: str


class _Walker:
    """Turns one text's tree into expressions, and notes the fields that it meets."""

    def __init__(self, text: str, fields: Fields) -> None:
        self._text, self._fields = text, fields
        self.asked: dict[str, Field] = {}

    def value(self, node: ast.expr) -> _Value:
        """What a piece stands for."""
        match node:
            case ast.BoolOp(op=op, values=parts):
                joined = operator.and_ if isinstance(op, ast.And) else operator.or_
                return _Value(reduce(joined, [self._of(p, _TRUTH) for p in parts]), _TRUTH)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _Value(~self._of(operand, _TRUTH), _TRUTH)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _Value(pc.negate(self._of(operand, _NUMBER)), _NUMBER)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                apply = _ARITHMETIC[type(op)]
                return _Value(apply(self._of(left, _NUMBER), self._of(right, _NUMBER)), _NUMBER)
            case ast.Compare(left=left, ops=ops, comparators=others):
                pairs = zip([left, *others[:-1]], ops, others, strict=True)
                compared = [self._compare(a, op, b) for a, op, b in pairs]
                return _Value(reduce(operator.and_, compared), _TRUTH)
            case ast.Constant(value=str() as said):
                return _Value(pc.scalar(said), _TEXT)
            case ast.Constant(value=int() | float() as said) if not isinstance(said, bool):
                return _Value(pc.scalar(pa.scalar(_number(said), pa.float64())), _NUMBER)
            case ast.Name() | ast.Attribute():
                return self._field(node)
        return self.refuse(node, "a field, a number, a text or a condition")

    def refuse(self, node: ast.expr, expected: str, got: str = "") -> NoReturn:
        """Say which piece cannot be used."""
        piece = ast.get_source_segment(self._text, node) or ast.unparse(node)
        told = f", got {got}" if got else ""
        raise ConfigError(
            f"--where does not understand {piece!r}: expected {expected}{told}, as in {EXAMPLE!r}."
        )

    def _of(self, node: ast.expr, kind: str) -> pc.Expression:
        value = self.value(node)
        if value.kind != kind:
            self.refuse(node, kind, value.kind)
        return value.expression

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        nothing = isinstance(right, ast.Constant) and right.value is None
        if nothing and isinstance(op, ast.Is | ast.Eq):
            return self.value(left).expression.is_null(nan_is_null=True)
        if nothing and isinstance(op, ast.IsNot | ast.NotEq):
            return ~self.value(left).expression.is_null(nan_is_null=True)
        if isinstance(op, ast.In | ast.NotIn):
            found = self._within(left, right)
            return found if isinstance(op, ast.In) else ~found
        if type(op) not in _COMPARISONS:
            self.refuse(right, "'is' to be followed by None")
        first = self.value(left)
        if first.kind == _TRUTH:
            self.refuse(left, "a number or a text", _TRUTH)
        compared: pc.Expression = _COMPARISONS[type(op)](
            first.expression, self._of(right, first.kind)
        )
        return compared

    def _within(self, left: ast.expr, right: ast.expr) -> pc.Expression:
        """``"part" in text``, or ``speaker in ("a", "b")``."""
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            value = self.value(left)
            known = [self._constant(item, value.kind) for item in right.elts]
            kind = pa.string() if value.kind == _TEXT else pa.float64()
            # Of an absent value it is not known whether it is among them.
            member = value.expression.isin(pa.array(known, kind))
            return pc.if_else(pc.is_valid(value.expression), member, pa.scalar(None, pa.bool_()))
        part = self._constant(left, _TEXT)
        return pc.match_substring(self._of(right, _TEXT), part)

    def _constant(self, node: ast.expr, kind: str) -> Any:
        said = node.value if isinstance(node, ast.Constant) else None
        if kind == _TEXT and isinstance(said, str):
            return said
        if kind == _NUMBER and isinstance(said, int | float) and not isinstance(said, bool):
            return _number(said)
        return self.refuse(node, f"{kind} in quotes" if kind == _TEXT else f"{kind} as it is")

    def _field(self, node: ast.Name | ast.Attribute) -> _Value:
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            self.refuse(node, "the name of a field")
        field = self._fields.find(".".join([inner.id, *reversed(parts)]))
        self.asked[field.name] = field
        return _Value(pc.field(field.name), _TEXT if field.is_text else _NUMBER)


def _number(said: float) -> float:
    try:
        return float(said)
    except OverflowError:
        raise ValueError("a number beyond all bounds") from None
