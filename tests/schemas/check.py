"""check.py DIRECTORY [--closed] reads lines of [schema's name, body] and prints what of them the schemas of the
directory refuse; the last line counts both. With --closed, properties that no schema names are refused, too.

Lengths are counted as UTF-16 does, which is the largest that a receiver can mean."""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator, ValidationError, validators


def longest(validator, limit, text, schema):
    if validator.is_type(text, "string") and len(text.encode("utf-16-le")) // 2 > limit:
        yield ValidationError(f"{text[:40]!r}… is longer than {limit}")


def close(schema, whole=True):
    """Refuses unnamed properties of every value that a schema describes as a whole: not those of the parts of an
    object, which allOf, anyOf, oneOf and $ref put together."""
    if not isinstance(schema, dict):
        return
    # A map names no properties; jsonschema up to 4.17 takes none of its as evaluated, against 10.3.2.3 of the standard.
    if whole and "additionalProperties" not in schema and schema.keys() - {"title", "description", "default"}:
        schema.setdefault("unevaluatedProperties", False)
    for key in ("allOf", "anyOf", "oneOf", "prefixItems"):
        for part in schema.get(key, []):
            close(part, key == "prefixItems")
    for part in schema.get("properties", {}).values():
        close(part)
    for key in ("items", "additionalProperties"):
        close(schema.get(key))
    for part in schema.get("$defs", {}).values():
        close(part, False)


directory, *options = sys.argv[1:]
checker = validators.extend(Draft202012Validator, {"maxLength": longest})
schemas = {}
for path in Path(directory).glob("*.json"):
    schema = json.loads(path.read_text())
    if "--closed" in options:
        close(schema)
    checker.check_schema(schema)
    schemas[path.stem] = checker(schema)

bodies = refused = 0
for line in sys.stdin:
    name, body = json.loads(line)
    bodies += 1
    for error in schemas[name].iter_errors(body):
        refused += 1
        print(f"{name}: {error.json_path}: {error.message[:300]}")
print(f"{bodies} bodies, {refused} refused")
