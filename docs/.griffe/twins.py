"""Shows methods that modules make from their definitions as what they are; griffe only reads code."""

from __future__ import annotations

from typing import Any

import griffe


class Twins(griffe.Extension):
    """Puts a function where a class has `name = _blocking(_name)` or `name = _asynchronous(_name)`."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Do so in one class."""
        if cls.module.path not in ("pgtasks.administration", "pgtasks.timetables"):
            return
        for name, attribute in list(cls.attributes.items()):
            made = str(attribute.value)
            for maker in ("_blocking", "_asynchronous"):
                if made == f"{maker}(_{name})":
                    method = _method(cls, name, cls.module[f"_{name}"])
                    method.labels |= {"async"} if maker == "_asynchronous" else set()
                    cls.set_member(name, method)


def _method(cls: griffe.Class, name: str, definition: griffe.Function) -> griffe.Function:
    _sql, *parameters = definition.parameters
    returns = str(definition.returns).removeprefix("Operation[").removesuffix("]")
    own = griffe.Parameter("self", kind=griffe.ParameterKind.positional_only)
    return griffe.Function(
        name,
        parameters=griffe.Parameters(own, *parameters),
        returns=returns,
        docstring=definition.docstring,
        lineno=definition.lineno,
        endlineno=definition.endlineno,
        parent=cls,
    )
