"""The shapes that a handler can have, for type checkers alone: what `@task` makes of each is in `decorating.py`.

A shape is a protocol with an overloaded call: what has it can be called in each of these ways. By the first one the
shape takes down the handler's whole signature, P; by the other one it asks how the handler takes payload and context.
(`Callable[[X], R]` alone would ask, too, but lose names and defaults, and with them what a call of a task looks like.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from pgtasks.context import JobContext

X_contra = TypeVar("X_contra", contravariant=True)
P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)


class ContextAlone(Protocol[P, R_co]):
    """`(ctx)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, ctx: JobContext, /) -> Any: ...


class Amidst(Protocol[P, R_co]):
    """`(key, ctx, key, …)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: Any, ctx: JobContext, b: Any, /, *args: Any, **kwargs: Any) -> Any: ...


class PayloadAndContext(Protocol[P, X_contra, R_co]):
    """`(payload, ctx)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, payload: X_contra, ctx: JobContext, /) -> Any: ...


class _Nothing:
    """What only a parameter takes of which nothing is said."""


class AnythingAndMore(Protocol[P, R_co]):
    """`(key, key, …)` where the first may be anything, and so would be taken for a context."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: _Nothing, b: Any, /, *args: Any, **kwargs: Any) -> Any: ...


class AnythingAndNamed(Protocol[P, R_co]):
    """`(key, *, key, …)`, likewise."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: _Nothing, /, *args: Any, **kwargs: Any) -> Any: ...


class ContextAndKeys(Protocol[P, Q, R_co]):
    """`(ctx, key, key, …)`; Q is what follows the context."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, ctx: JobContext, /, *args: Q.args, **kwargs: Q.kwargs) -> Any: ...

    @overload
    def __call__(self, ctx: JobContext, a: Any, b: Any, /, *args: Any, **kwargs: Any) -> Any: ...


class ContextAndPayload(Protocol[P, X_contra, R_co]):
    """`(ctx, payload)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, ctx: JobContext, payload: X_contra, /) -> Any: ...


class TwoAndContext(Protocol[P, R_co]):
    """`(key, key, ctx)`. There is no way to write "any number, and then"."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: Any, b: Any, ctx: JobContext, /) -> Any: ...


class ThreeAndContext(Protocol[P, R_co]):
    """`(key, key, key, ctx)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: Any, b: Any, c: Any, ctx: JobContext, /) -> Any: ...


class FourAndContext(Protocol[P, R_co]):
    """`(key, key, key, key, ctx)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: Any, b: Any, c: Any, d: Any, ctx: JobContext, /) -> Any: ...


class Keys(Protocol[P, R_co]):
    """`(key, key, …)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: Any, b: Any, /, *args: Any, **kwargs: Any) -> Any: ...


class KeyAndOthers(Protocol[P, R_co]):
    """`(key, **others)`: it takes any name."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, a: Any, /, *, _any_name_at_all: Any) -> Any: ...


class PayloadAndNamedContext(Protocol[P, X_contra, R_co]):
    """`(payload, *, ctx)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, payload: X_contra, /, *, ctx: JobContext) -> Any: ...


class Payload(Protocol[P, X_contra, R_co]):
    """`(payload)`."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, payload: X_contra, /) -> Any: ...


class ContextAndNamed(Protocol[P, Q, R_co]):
    """`(ctx, *, key, …)`; Q is what follows the context."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, ctx: JobContext, /, *args: Q.args, **kwargs: Q.kwargs) -> Any: ...
