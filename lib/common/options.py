"""Options said once: type, bounds, default and meaning of what can be set.

A stage's options are a frozen dataclass in `lib/<room>/options.py`. Its functions take it, and the
study's parameters, their texts and the notebooks' parameter cells are made from it.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from lib.common.errors import StudyError


def _number(value: Any) -> Any:
    """Read `2e-4`, which YAML takes for a text, and whole numbers as floats."""
    if isinstance(value, bool):
        return value
    try:
        return float(value) if isinstance(value, int | str) else value
    except ValueError:
        return value


Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[Float, Field(ge=0, le=1)]
Positive = Annotated[Float, Field(gt=0)]
NotNegative = Annotated[Float, Field(ge=0)]
Truncation = Annotated[Float, Field(ge=0, le=2)]


def checked(check: Callable[[Any], Any]) -> AfterValidator:
    """Return the validator of a value that `check` refuses by a `StudyError`."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except StudyError as error:
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(validate)


@checked
def no_repeats(names: list) -> None:
    """Refuse a list that names something twice."""
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise StudyError(f"{', '.join(repeated)} named twice: name each once")


options = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
"""Decorator of a class of options; wrong values raise pydantic's `ValidationError`."""


def option(default: Any, text: str, *, how: bool = False, **bounds: Any) -> Any:
    """Declare one option; `how`: it says how the work is done, not what comes out."""
    field = partial(Field, description=text, json_schema_extra={"how": how}, **bounds)
    if isinstance(default, list | dict):
        return field(default_factory=default.copy)
    return field(default=default)


def outcome(values: Any) -> dict[str, Any]:
    """Return the options that decide what comes out, by name, without those that say how."""
    declared = getattr(values, "__pydantic_fields__", {})
    how = {name for name, field in declared.items() if (field.json_schema_extra or {}).get("how")}
    return {name: value for name, value in asdict(values).items() if name not in how}
