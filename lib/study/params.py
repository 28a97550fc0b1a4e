"""The parameters of the study: one flat, typed schema for every profile and notebook.

Type, bounds, default and meaning of each are said in the `options.py` of its room; those of the
study as a whole, in this one's. A profile holds what differs from the defaults, or from the
profile that it names as its `base`.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)

from lib.calibration.options import ZeroQOptions
from lib.classifiers.options import ClassifierOptions
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.quantization.options import QuantizationOptions
from lib.student.options import StudentOptions
from lib.study import options as study
from lib.study.rules import RULES
from lib.teacher.options import SamplingOptions, TeacherOptions

# In the order in which notebooks and docs show them; a prefix is put before the names.
PARTS: list[tuple[str, type]] = [
    ("", study.Run),
    ("", study.Data),
    ("", study.Teacher),
    ("teacher", TeacherOptions),
    ("sampling", SamplingOptions),
    ("", study.Student),
    ("student", StudentOptions),
    ("", study.Evaluation),
    ("", study.Networks),
    ("classifier", ClassifierOptions),
    ("", study.Calibration),
    ("zeroq", ZeroQOptions),
    ("quantization", QuantizationOptions),
    ("", study.Grid),
    ("", study.Comparison),
    ("", study.ImageGenerator),
    ("", study.OwnNetwork),
    ("", study.Ablation),
]
GROUPS = {prefix: kind for prefix, kind in PARTS if prefix}
PROFILES = ROOT / "params"


class _Params(BaseModel):
    """All parameters; `python -m lib parameters` explains each one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> "Params":
        given = (info.context or {}).get("given", type(self).model_fields.keys())
        for rule, keys in RULES.items():
            if keys <= set(given):
                rule(self)
        return self

    def options(self, prefix: str) -> Any:
        """Return the options of a stage, the parameters that start with `prefix_`."""
        kind = GROUPS[prefix]
        return kind(
            **{name: getattr(self, f"{prefix}_{name}") for name in kind.__dataclass_fields__}
        )


def _flat_fields() -> dict[str, tuple[Any, Any]]:
    return {
        f"{prefix}_{name}" if prefix else name: (field.annotation, field)
        for prefix, kind in PARTS
        for name, field in kind.__pydantic_fields__.items()
    }


Params = create_model("Params", __base__=_Params, **_flat_fields())
"""The schema, made of all parts."""

HOW = frozenset(
    name for name, field in Params.model_fields.items() if field.json_schema_extra["how"]
)
"""The parameters that say how or where the study runs, not what comes out."""


def validate(values: dict[str, Any], given: set[str] | None = None) -> Params:
    """Check parameter values; the first fault is a one-line `StudyError` that names the key.

    Of the rules on several parameters (`lib.study.rules`) those count that read none but `given`,
    by default all: the other values stand in for ones that are not known here.
    """
    try:
        return Params.model_validate(values, context=None if given is None else {"given": given})
    except ValidationError as error:
        raise StudyError(_first_fault(error, values)) from None


def _first_fault(error: ValidationError, values: dict[str, Any]) -> str:
    fault = error.errors(include_url=False)[0]
    key = str(fault["loc"][0]) if fault["loc"] else ""
    text = fault["msg"].removeprefix("Value error, ")
    if key == "own_models" and len(fault["loc"]) > 1:
        entry, *inner = fault["loc"][1:]
        inner = ".".join(map(str, inner)) or "entry"
        return f"parameter own_models, network {entry + 1}, {inner}: {text}"
    if fault["type"] == "extra_forbidden":
        return f"unknown parameter {key}: no notebook declares it, remove it or mend its spelling"
    given = f" (given: {values.get(key)!r})" if key else ""
    return f"parameter {key or 'set'}: {text}{given}"


def read_profile(path: Path | str) -> dict[str, Any]:
    """Read a profile's YAML file, and the one that it names as its base, as a dictionary.

    `base: digits` is `digits.yaml` beside the file or in `params/`. The values are not validated.
    """
    values, seen = read_yaml(Path(path)), set()
    while base := str(values.pop("base", "") or ""):
        if base in seen:
            raise StudyError(f"profile {base} is its own base: name another one, or none")
        seen.add(base)
        beside = Path(path).with_name(f"{base}.yaml")
        values = read_yaml(beside if beside.is_file() else PROFILES / f"{base}.yaml") | values
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of lines `key: value`; raise `StudyError` for anything else."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise StudyError(f"{path} is missing: name a file such as params/digits.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise StudyError(f"{path} must hold lines of the form key: value")
    return values


def parse_override(text: str) -> Any:
    """Read a `-p` value as YAML would, so lists and numbers work."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


class _UniqueKeys(yaml.SafeLoader):
    """Safe loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.YAMLError(f"{', '.join(repeated)} given twice")
        return super().construct_mapping(node, deep)
