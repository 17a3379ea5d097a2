"""The explanation of each key of a system file, where it stands: the string below the attribute.

Read only where somebody asks for it: at every start of the command line it
would cost more than all else about the system file.
"""

import ast
import inspect
from collections.abc import Iterable, Mapping
from textwrap import dedent
from types import ModuleType
from typing import Any

from pydantic import BaseModel


def explained(
    schema: Mapping[str, Any], root: type[BaseModel], modules: Iterable[ModuleType]
) -> dict[str, Any]:
    """A model's JSON schema with the attributes' docstrings as its descriptions.

    `modules` are those that define the root model and all that it is made of.
    """
    models = {
        name: thing
        for module in modules
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, BaseModel)
    }
    found = {name: _explain(part, models[name]) for name, part in schema["$defs"].items()}
    return {**_explain(schema, root), "$defs": found}


def explanations(model: type[BaseModel]) -> dict[str, str]:
    """Each key of a model with the string below it, its bases' keys too."""
    texts: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            texts |= _docstrings(each)
    return texts


def _explain(part: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    texts = explanations(model)
    properties = {
        name: {**told, "description": texts[name]} if name in texts else told
        for name, told in part.get("properties", {}).items()
    }
    return {**part, **({"properties": properties} if properties else {})}


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string below each annotated attribute of a class, by the attribute's name."""
    body = ast.parse(dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for attribute, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[attribute.target.id] = inspect.cleandoc(text)
    return found
