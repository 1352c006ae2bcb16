"""Reads lines of [schema's name, body] and prints what of them its schema refuses; the last line counts both.

Lengths are counted as UTF-16 does, which is the largest that a receiver can mean."""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator, ValidationError, validators


def longest(validator, limit, text, schema):
    if validator.is_type(text, "string") and len(text.encode("utf-16-le")) // 2 > limit:
        yield ValidationError(f"{text[:40]!r}… is longer than {limit}")


checker = validators.extend(Draft202012Validator, {"maxLength": longest})
schemas = {}
for path in Path(__file__).parent.glob("*.json"):
    schema = json.loads(path.read_text())
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
