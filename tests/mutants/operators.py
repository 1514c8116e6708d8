"""Mutants of a module: each is its code with one small change in one function.

| operator | changes |
| --- | --- |
| negate | a comparison, or what `if`, `while`, `and`, `or` and a comprehension ask, becomes its opposite |
| boundary | `<` becomes `<=`, `>` becomes `>=`, and the other way round |
| constant | a number grows by one, True and False change places, a string without spaces gets a character more |
| drop call | a call that stands alone is left out |
| return None | what is returned becomes None |

Left as they are: what people read (docstrings, log records, what is raised, strings with spaces, the words of an
f-string), assertions, `__repr__`, calls of super(), type hints, defaults of parameters, and what is outside functions.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]

_OPPOSITE: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_NEIGHBOUR: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


@dataclass(frozen=True)
class Mutant:
    """One change. Its name does not change when lines move: function, line, operator, what becomes what."""

    path: str
    name: str
    #: the lines of which a test has to run one to notice it
    lines: range
    tree: ast.Module
    parent: ast.AST
    field: str
    index: int | None
    changed: ast.AST

    def codes(self) -> list[CodeType]:
        """The code of the module's functions with the change, for this process alone: the tree stays changed."""
        if self.index is None:
            setattr(self.parent, self.field, self.changed)
        else:
            getattr(self.parent, self.field)[self.index] = self.changed
        ast.fix_missing_locations(self.tree)
        return [*_codes(compile(self.tree, str(ROOT / self.path), "exec"))]


def _codes(module: CodeType) -> Iterator[CodeType]:
    """The code of every function of a module and of its classes."""
    for code in module.co_consts:
        if isinstance(code, CodeType):
            if code.co_flags & inspect.CO_OPTIMIZED:
                yield code
            else:
                yield from _codes(code)


def mutants_of(path: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    source = (ROOT / path).read_text()
    tree = ast.parse(source)
    found = [
        mutant
        for name, function in _functions(tree)
        for mutant in _Function(path, source, tree, name, function)
    ]
    seen: Counter[str] = Counter()
    for number, mutant in enumerate(found):
        seen[mutant.name] += 1
        if (nth := seen[mutant.name]) > 1:
            found[number] = Mutant(**{**vars(mutant), "name": f"{mutant.name} ({nth})"})
    return found


def _functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{within}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and child.name != "__repr__":
            yield f"{within}{child.name}", child


class _Function:
    """The mutants of one function, those within it included."""

    def __init__(
        self, path: str, source: str, tree: ast.Module, name: str, function: ast.FunctionDef
    ) -> None:
        self._path = path
        self._source = source.splitlines()
        self._tree = tree
        self._name = name
        self._function = function
        self._asked: set[int] = set()
        self._denied: set[int] = set()
        self._lines = range(0)

    def __iter__(self) -> Iterator[Mutant]:
        for number, statement in enumerate(self._function.body):
            yield from self._within(statement, self._function, "body", number)

    def _mutant(self, operator: str, parent: ast.AST, field: str, index: int | None, new: ast.AST) -> Mutant:
        value = getattr(parent, field)
        old = value if index is None else value[index]
        ast.copy_location(new, old)
        line = self._source[old.lineno - 1].strip()
        before = " ".join(ast.unparse(old).split())
        after = " ".join(ast.unparse(ast.fix_missing_locations(new)).split())
        change = before if operator == "drop call" else f"{before} -> {after}"
        name = f"{self._path}:{self._name}: {line} | {operator}: {change}"
        return Mutant(self._path, name, self._lines, self._tree, parent, field, index, new)

    def _within(self, node: ast.AST, parent: ast.AST, field: str, index: int | None) -> Iterator[Mutant]:
        if _is_for_people(node):
            return
        # Of a statement with others in it, what is changed is run where its own part of it is.
        own = isinstance(node, ast.expr) and isinstance(parent, ast.stmt) and hasattr(parent, "body")
        if own or isinstance(node, ast.stmt):
            self._lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            self._ask(node.test)
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                self._ask(test)
        elif isinstance(node, ast.match_case) and node.guard is not None:
            self._ask(node.guard)
        elif isinstance(node, ast.BoolOp):
            for value in node.values[:-1]:
                self._ask(value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._denied.add(id(node.operand))
        for operator, new in self._changes(node):
            yield self._mutant(operator, parent, field, index, new)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "format_spec"):
                continue
            for number, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if isinstance(child, ast.AST) and not (
                    isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
                ):
                    yield from self._within(child, node, name, number)

    def _ask(self, node: ast.expr) -> None:
        """Remember the parts of which only the truth counts."""
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                self._ask(value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            if isinstance(node.operand, ast.BoolOp):
                self._ask(node.operand)
        else:
            self._asked.add(id(node))

    def _changes(self, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
        match node:
            case ast.Compare(left, [op], [right]):
                if id(node) not in self._denied:
                    yield "negate", ast.Compare(left, [_OPPOSITE[type(op)]()], [right])
                if type(op) in _NEIGHBOUR:
                    yield "boundary", ast.Compare(left, [_NEIGHBOUR[type(op)]()], [right])
            case ast.UnaryOp(ast.Not(), operand):
                yield "negate", operand
            case ast.expr() if id(node) in self._asked and not isinstance(node, ast.Constant):
                yield "negate", ast.UnaryOp(ast.Not(), node)
            case ast.Compare():
                yield "negate", ast.UnaryOp(ast.Not(), node)
            case ast.Constant(value) if (new := _other(value)) is not None:
                yield "constant", ast.Constant(new)
            case ast.Expr(ast.Call()) if not _calls_super(node):
                yield "drop call", ast.Pass()
            case ast.Return(ast.expr() as value) if not (_is_falsy_or_bool(value) or _calls_super(node)):
                yield "return None", ast.Return(ast.Constant(None))
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            for number, op in enumerate(node.ops):
                if type(op) in _NEIGHBOUR:
                    ops = [*node.ops[:number], _NEIGHBOUR[type(op)](), *node.ops[number + 1 :]]
                    yield "boundary", ast.Compare(node.left, ops, node.comparators)


def _is_for_people(node: ast.AST) -> bool:
    """Whether a node says something to people, or to the type checker, and does nothing else."""
    match node:
        case ast.Raise() | ast.Assert() | ast.Expr(ast.Constant()):
            return True
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("_log")))):
            return True
    return False


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str() if " " not in value:
            return f"{value}_"
    return None


def _calls_super(node: ast.AST) -> bool:
    """Whether a function without it would be no longer bound to its class, as code put in its place has to be."""
    return any(isinstance(part, ast.Name) and part.id == "super" for part in ast.walk(node))


def _is_falsy_or_bool(value: ast.expr) -> bool:
    """Whether None in its place changes nothing, or the same as another constant."""
    return isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, bool))
