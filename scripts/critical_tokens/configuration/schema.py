"""Validation of the config by rules/schemas/config.schema.yaml, with a sentence per mistake."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from critical_tokens.decoding import distributions
from critical_tokens.engines import opening
from critical_tokens.objectives import registry
from critical_tokens.training import token_weights
from critical_tokens.workflow.refusals import collected, listed, nearest
from critical_tokens.workflow.selections import UNTRAINED

Schema = Mapping[str, Any]

# The present names of keys that were renamed.
RENAMED = {
    "temperatures": "studies: temperatures",
    "agreement": "studies: agreement",
    "replacement": "studies: replacement",
    "critical_rule": "studies: critical_rule",
    "studies: temperatures: temperatures": "studies: temperatures: values",
    "rollouts: later": "rollouts: later_below",
    "rollouts: stratified: later": "rollouts: stratified: later_below",
    "rollouts: stratified: zero": "rollouts: stratified: zero_up_to",
    "rollouts: replacements": "rollouts: replacement_draws",
    "rollouts: replacement": "rollouts: replacement_distribution",
    "studies: critical_rule: later": "studies: critical_rule: later_below",
    "studies: critical_rule: draws": "studies: critical_rule: subsamples",
    "figures: example": "figures: figure1_cell",
    "figures: against_exclusion": "figures: figure5_method",
    "figures: log_probabilities": "figures: figure6_methods",
    "figures: window": "figures: figure6_window",
}
_DECIMAL = re.compile(r"[-+]?(0|[1-9]\d*|\d*\.\d+|\d+\.)([eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None}
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def _is_whole(checker: Any, value: Any) -> bool:
    """Whether a value is an int. Programs do not accept 16.0, and YAML's true is not a number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker: Any, value: Any) -> bool:
    return _is_whole(checker, value) or (isinstance(value, float) and math.isfinite(value))


_TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_whole, "number": _is_number})
_Validator = validators.extend(Draft202012Validator, type_checker=_TYPES)


def read_schema(path: Path) -> dict[str, Any]:
    """Read the schema of the config, and add the entries of the library's registries.

    Objectives, their constants, kinds of token weights, engines and distributions come from their
    registries, so a new one is allowed as soon as it is registered.
    """
    schema = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    properties = schema["properties"]
    method = properties["method_registry"]["additionalProperties"]["properties"]
    constants = _constant_schemas()
    for holder in (method, properties["alignment"]["properties"]):
        holder.update(constants)
    method["objective"]["enum"] = [UNTRAINED, *registry.REGISTRY]
    method["weights"]["enum"] = list(token_weights.TOKEN_WEIGHTS)
    properties["model_registry"]["additionalProperties"]["properties"]["engine"]["enum"] = list(opening.ENGINES)
    named = list(distributions.DISTRIBUTIONS)
    properties["rollouts"]["properties"]["replacement_distribution"]["enum"] = named
    properties["studies"]["properties"]["replacement"]["properties"]["distributions"]["items"]["enum"] = named
    _bound_sweeps(properties["sweeps"]["additionalProperties"], constants)
    return schema


def _constant_schemas() -> dict[str, dict[str, Any]]:
    """The JSON schema of every constant that an objective declares."""
    return {
        name: {
            "type": "integer" if constant.number_type is int else "number",
            **_bounds(constant),
            "description": constant.description,
        }
        for name, constant in registry.all_constants().items()
    }


def _bounds(constant: registry.Constant) -> dict[str, float]:
    stated = {
        "minimum": constant.minimum,
        "exclusiveMinimum": constant.exclusive_minimum,
        "maximum": constant.maximum,
    }
    return {name: value for name, value in stated.items() if value is not None}


def _bound_sweeps(sweep: dict[str, Any], constants: Mapping[str, Any]) -> None:
    """Let sweeps vary the constants of objectives within their bounds, except whole numbers."""
    swept = {name: schema for name, schema in constants.items() if schema["type"] == "number"}
    sweep["properties"]["key"]["enum"] = ["beta", *swept, "epochs", "learning_rate"]
    for name, schema in swept.items():
        bounded = {"properties": {"values": {"items": schema}}}
        sweep["allOf"].append({"if": {"properties": {"key": {"const": name}}}, "then": bounded})


def validate(config: Mapping[str, Any], schema: Schema) -> None:
    """Raise ConfigError with a sentence for every key that the schema refuses."""
    errors = sorted(
        _Validator(schema).iter_errors(config), key=lambda error: [str(part) for part in error.absolute_path]
    )
    with collected() as found:
        for error in errors:
            for sentence in _sentences(error):
                found.add(sentence)


def read_again(value: Any, schema: Schema, root: Schema | None = None) -> Any:
    """Convert values from the command line to the types of the schema.

    Snakemake passes the numbers in lists and mappings as text. A text is converted only if the
    schema does not allow text and it is a number, true, false or null.

    schema: the schema of the value. root: the whole schema, for its definitions.
    """
    root = schema if root is None else root
    schema = _resolved(schema, root)
    if isinstance(value, Mapping):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, Mapping) else {}
        return {key: read_again(member, known.get(key, others), root) for key, member in value.items()}
    if isinstance(value, list):
        return [read_again(member, schema.get("items", {}), root) for member in value]
    return _parsed(value, schema) if isinstance(value, str) else value


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _parsed(text: str, schema: Schema) -> Any:
    if text in schema.get("enum", ()) or "string" in _types(schema) or not (_types(schema) or "enum" in schema):
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _DECIMAL.fullmatch(text):
        return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    return text


def _types(schema: Schema) -> Sequence[str]:
    stated = schema.get("type", ())
    return [stated] if isinstance(stated, str) else stated


def _sentences(error: ValidationError) -> Iterable[str]:
    """Sentences about an error of the schema, each with the path of the key."""
    where = _where(error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in (key for key in error.instance if key not in known):
            if new := _renamed(f"{where}{key}", error.instance[key]):
                yield f"{where}{key}: this key is now called {new}"
                continue
            allowed = f"; allowed are {listed(known)}" if where else "; config.yaml lists all keys"
            yield f"{where}{key}: there is no such key{nearest(str(key), known)}{allowed}"
    elif error.validator == "required":
        for key in (key for key in error.validator_value if key not in error.instance):
            yield f"{where}{key} is missing; it must be {_allowed(error.schema.get('properties', {}).get(key, {}))}"
    elif error.validator == "pattern" and error.parent is None and _names_a_key(error):
        allowed = error.schema.get("description", "choose another name")
        yield f"{where}{error.instance!r} cannot be a name; {allowed}"
    else:
        yield f"{where.removesuffix(': ')} is {_shown(error.instance)}, {_demand(error)}"


def _renamed(key: str, value: Any) -> str | None:
    """The present name of a key that was renamed; None for other keys."""
    if key.startswith("studies: ") and isinstance(value, Mapping) and "against" in value:
        return f"studies: comparisons: {key.removeprefix('studies: ')}"
    return RENAMED.get(key)


def _names_a_key(error: ValidationError) -> bool:
    return "propertyNames" in error.absolute_schema_path


def _where(path: Iterable[str | int]) -> str:
    where = ""
    for part in path:
        where = f"{where.removesuffix(': ')}, entry {part + 1}: " if isinstance(part, int) else f"{where}{part}: "
    return where


def _shown(value: Any) -> str:
    """A value as it is written in YAML; a long one is cut."""
    words = {True: "true", False: "false", None: "null"}
    shown = words[value] if value is None or isinstance(value, bool) else repr(value)
    shown = "empty" if isinstance(value, (list, dict, str)) and not value else shown
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _demand(error: ValidationError) -> str:
    """The end of a sentence about a value: what the schema allows instead."""
    value, kind = error.validator_value, error.validator
    if kind == "type":
        allowed = f"must be {_allowed(error.schema)}"
        text = error.instance
        if isinstance(text, str) and _DECIMAL.fullmatch(text):
            allowed += f"; {text} is text in YAML, so write {_as_number(text)}"
        return allowed
    if kind == "uniqueItems":
        twice = [member for i, member in enumerate(error.instance) if member in error.instance[:i]]
        return f"but {_shown(twice[0])} may appear only once"
    return {
        "enum": lambda: f"must be one of {listed(map(str, value))}{nearest(str(error.instance), map(str, value))}",
        "minimum": lambda: f"must be at least {value}",
        "maximum": lambda: f"must be at most {value}",
        "exclusiveMinimum": lambda: f"must be above {value}",
        "exclusiveMaximum": lambda: f"must be below {value}",
        "minItems": lambda: f"must have at least {value} entry",
        "minProperties": lambda: f"must have at least {value} key",
    }.get(kind, lambda: error.schema.get("description", f"which {kind} {value} forbids"))()


def _as_number(text: str) -> str:
    """A number in the form that YAML 1.1 reads as a number.

    An exponent needs a decimal point before it and must have a sign.
    """
    mantissa, _, exponent = text.lower().partition("e")
    if not exponent:
        return mantissa
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def _allowed(schema: Schema) -> str:
    if "enum" in schema:
        return f"one of {listed(map(str, schema['enum']))}"
    return " or ".join(_KINDS[kind] for kind in _types(schema)) or "given"
