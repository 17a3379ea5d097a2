"""What Python itself does not keep of a source: the text below attributes, a class as written."""

import ast
import inspect
from textwrap import dedent
from typing import Any


def class_source(source: str, name: str) -> str:
    """The text of one class of a module. Raises LookupError."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            decorators = [f"@{ast.unparse(each)}" for each in node.decorator_list]
            return "\n".join([*decorators, ast.get_source_segment(source, node) or ""])
    raise LookupError(f"no class {name}")


def attribute_docs(owner: type[Any]) -> dict[str, str]:
    """The text below each attribute of a class."""
    (body,) = ast.parse(dedent(inspect.getsource(owner))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        says = after.value if isinstance(after, ast.Expr) else None
        if isinstance(node, ast.Assign) and isinstance(says, ast.Constant):
            found[ast.unparse(node.targets[0])] = inspect.cleandoc(str(says.value))
    return found


def parameters(source: str, name: str) -> list[tuple[str, str, str]]:
    """Name, default (empty: required) and meaning of a function's parameters.

    From its text and its docstring's `Args:`, because importing it may be slow.
    """
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == name
    )
    says = _args(ast.get_docstring(function) or "")
    arguments, defaults = function.args.args, function.args.defaults
    values = [""] * (len(arguments) - len(defaults))
    values += [ast.unparse(default) for default in defaults]
    return [
        (argument.arg, value, says.get(argument.arg, ""))
        for argument, value in zip(arguments, values, strict=True)
    ]


def _args(docstring: str) -> dict[str, str]:
    says: dict[str, str] = {}
    last = ""
    for line in inspect.cleandoc(docstring.partition("Args:")[2]).splitlines():
        key, colon, rest = line.partition(": ")
        if colon and key.isidentifier():
            last, says[key] = key, rest
        elif last:
            says[last] += f" {line.strip()}"
    return says
