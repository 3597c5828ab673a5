"""Settings come from a TOML file that is validated whole before anything starts."""

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sennet_engine.errors import ConfigError


class Config(BaseModel):
    """Base of every settings class: frozen; an unknown key, NaN or infinity is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


def load_config(path: Path, settings: type[C]) -> C:
    """Read the TOML file `path` into `settings`.

    Raises:
        ConfigError: the file is missing, is not TOML, has an unknown key or a value out of its range.
            All problems are listed at once; an unknown key names the nearest known one.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    return validated(table, settings, source=str(path))


def validated(table: dict[str, Any], settings: type[C], *, source: str) -> C:
    """Turn parsed keys and values into `settings`; `source` names where they came from in the error.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        return settings.model_validate(table)
    except ValidationError as error:
        lines = [_explain(problem, table, settings) for problem in error.errors()]
        raise ConfigError("\n  ".join([f"{source}: {len(lines)} problem(s)", *lines])) from error


def _explain(problem: Any, table: dict[str, Any], settings: type[BaseModel]) -> str:
    location = problem["loc"]
    where = _where(location, table)
    if problem["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return f"{where}: got {problem['input']!r}, expected a table: [{where}] and its keys below"
    if problem["type"] == "union_tag_not_found":
        return f"{where}: lacks the key {problem['ctx']['discriminator']}, which says which kind it is"
    if problem["type"] != "extra_forbidden":
        # What our own validators say tells what was got; whole tables would bury it.
        tells = problem["type"] in ("missing", "value_error") and isinstance(problem["input"], dict | list)
        got = "" if tells else f" (got {problem['input']!r})"
        return f"{where}: {problem['msg']}{got}".removeprefix(": ").replace("Value error, ", "", 1)
    known = sorted(_keys_at(settings, location[:-1]))
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"{where}: unknown key; {hint}"


def _where(location: tuple[int | str, ...], table: Any) -> str:
    """`stages.first.training`: dotted keys; an item of a list goes by its name, where it has one."""
    parts = []
    for part in location:
        if isinstance(table, dict) and part not in table and part in table.values():
            continue  # the kind of a table that may be of several kinds
        table = table[part] if isinstance(table, dict) and part in table else _item(table, part)
        name = table.get("name") if isinstance(part, int) and isinstance(table, dict) else None
        parts.append(name if isinstance(name, str) else str(part))
    return ".".join(parts)


def _item(table: Any, part: int | str) -> Any:
    return table[part] if isinstance(table, list) and isinstance(part, int) and part < len(table) else None


def _keys_at(settings: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """The keys that are known at `location`, found by walking the annotations of `settings`."""
    level: list[type[BaseModel]] = [settings]
    for part in location:
        if isinstance(part, int):
            continue
        fields = [cls.model_fields[part] for cls in level if part in cls.model_fields]
        if fields:
            level = [cls for field in fields for cls in _models_in(field.annotation)]
    return {key for cls in level for key in cls.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [cls for argument in getattr(annotation, "__args__", ()) for cls in _models_in(argument)]
