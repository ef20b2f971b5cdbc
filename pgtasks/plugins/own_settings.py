"""Settings of a plugin's own: `[tool.pgtasks.plugin.NAME]` and `PGTASKS_PLUGIN_NAME__KEY`, checked by its model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from pgtasks.errors import PluginError, SettingsError, did_you_mean
from pgtasks.settings.problems import explain

if TYPE_CHECKING:
    from pgtasks.settings import Settings

Model = TypeVar("Model", bound=BaseModel)


def read_plugin_settings(settings: Settings, name: str, model: type[Model]) -> Model:
    """Return what the sources say for a plugin, checked by its pydantic `model`.

    A value of the environment that begins like a JSON list or object is read as one.

    Raises:
        SettingsError: a name is unknown or a value cannot be used; the message says where it stands.
        PluginError: `model` is no pydantic model.
    """
    if not issubclass(model, BaseModel):
        raise PluginError(f"plugin {name!r}: the model of its settings must be a pydantic BaseModel, not {model!r}")
    given = settings.of_plugin(name)
    known = [field.alias or attribute for attribute, field in model.model_fields.items()]
    for key, (_, place) in given.items():
        if key not in known and model.model_config.get("extra") != "allow":
            raise SettingsError(f"{place} is not a setting of plugin {name!r}{did_you_mean(key, known)}")
    try:
        return model.model_validate({key: _parsed(value, place) for key, (value, place) in given.items()})
    except ValidationError as error:
        problems = []
        for detail in error.errors(include_url=False):
            key, inner = str(detail["loc"][0]) if detail["loc"] else "", detail["loc"][1:]
            place = given[key][1] if key in given else f"setting 'plugin.{name}{f'.{key}' if key else ''}'"
            path = f" ({'.'.join(map(str, inner))})" if inner else ""
            words = "is missing" if detail["type"] == "missing" else explain(detail, secret=_is_secret(model, key))
            problems.append(f"{place}{path}: {words}")
        raise SettingsError("; ".join(problems)) from None


def describe_plugin_settings(settings: Settings, name: str, model: BaseModel) -> list[tuple[str, str, str]]:
    """Return a plugin's settings as text: each one's name, value (secrets hidden) and where it comes from."""
    given = settings.of_plugin(name)
    lines = []
    for attribute, field in type(model).model_fields.items():
        key = field.alias or attribute
        value = getattr(model, attribute)
        text = "********" if value and _is_secret(type(model), key) else _as_text(value)
        lines.append((key, text, given[key][1] if key in given else "default"))
    return lines


def _parsed(value: Any, place: str) -> Any:
    if isinstance(value, str) and place.startswith("environment") and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            raise SettingsError(f"{place}: begins like JSON and is none") from None
    return value


def _is_secret(model: type[BaseModel], key: str) -> bool:
    field = model.model_fields.get(key) or next(
        (field for field in model.model_fields.values() if field.alias == key), None
    )
    if field is None:
        return False
    return any(kind in _kinds(field.annotation) for kind in (SecretStr, SecretBytes)) or field.repr is False


def _kinds(annotation: Any) -> set[Any]:
    return {annotation, *(inner for argument in getattr(annotation, "__args__", ()) for inner in _kinds(argument))}


def _as_text(value: object) -> str:
    match value:
        case bool() | None:
            return str(value).lower()
        case tuple() | list() | set() | frozenset():
            return ", ".join(map(str, value))
        case _:
            return str(value)
