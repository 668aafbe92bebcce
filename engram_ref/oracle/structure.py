"""Required fields and types of the manifests, validated once, before any entry is used.

A structure is a type, a list with the structure of its elements, or a dictionary: {"name": structure} for required
fields, {"name?": structure} for optional ones, {"*": structure} for any names.
"""

from engram_ref.errors import InputError

HINT = "write a new kit with engram-ref kit DIR, or reinstall engram_ref"
ANY = object
CONFIGURATION = {"config": str, "values": {"*": ANY}}
HASHING = {"pad_id": int, "eos_id": ANY, "layers": {"*": {"multipliers": [int], "primes": [int], "offsets": [int],
                                                           "table_rows": int}}}
STAGE = {"name": str, "class": str, "expected": str, "noise?": str}
CASE = {"name": str, "op": str, "dialect": str, "kind": str, "result": str, "flags": [str], "arguments": {"*": ANY},
        "outputs": [str], "stages": [STAGE], "accept?": [{"name": str, "why": str, "stages": [STAGE]}]}
PARTS = {"flags": {"*": str}, "configurations": {"*": CONFIGURATION}, "parameters": {"*": {"*": ANY}}}
MANIFEST_FIELDS = PARTS | {"schema": int, "seed": int, "versions": {"*": str}, "classes": {"*": str},
                           "cases": [CASE | {"answers": str}]}
KIT_FIELDS = PARTS | {"kit": int, "engram_ref": str, "dialect": str, "groups": {"*": int}, "results": {"*": str},
                      "tolerance": {"*": ANY}, "cases": [CASE | {"group": str}]}
INTEGERS_FIELDS = {"*": {"dtype": str, "shape": [int], "values": list}}

WORDS = {int: "an integer", str: "text", list: "a list", dict: "an object"}
JSON_TYPES = {int: "integer", str: "string", list: "array", dict: "object"}


def check_structure(value: object, structure: object, file: str, path: str = "") -> None:
    """Raise InputError for the first field that is missing or has the wrong type; `path` is the place of `value`."""
    if isinstance(structure, list):
        for i, part in enumerate(checked(value, list, file, path)):
            check_structure(part, structure[0], file, f"{path}[{i}]")
    elif isinstance(structure, dict):
        check_fields(checked(value, dict, file, path), structure, file, path)
    elif structure is not ANY:
        checked(value, structure, file, path)


def check_fields(value: dict, structure: dict, file: str, path: str) -> None:
    """Check every field of one object; unknown fields are ignored."""
    if "*" in structure:
        structure = dict.fromkeys(value, structure["*"])
    for field, inner in structure.items():
        name = field.removesuffix("?")
        inner_path = f"{path}.{name}" if path else name
        if name in value:
            check_structure(value[name], inner, file, inner_path)
        elif name == field:
            raise InputError(file, f"the field {inner_path}", "none", HINT)


def checked(value: object, kind: type, file: str, path: str) -> object:
    """Return the value; raise InputError unless its type is exactly `kind`, since a bool must not pass as an int."""
    if type(value) is not kind:
        raise InputError(file, f"{WORDS[kind]} at {path or 'the top level'}", repr(value)[:60])
    return value


def json_schema(structure: object) -> dict:
    """Return a structure as JSON Schema, draft 2020-12."""
    if isinstance(structure, list):
        return {"type": "array", "items": json_schema(structure[0])}
    if not isinstance(structure, dict):
        return {} if structure is ANY else {"type": JSON_TYPES[structure]}
    if "*" in structure:
        return {"type": "object", "additionalProperties": json_schema(structure["*"])}
    return {"type": "object", "required": [name for name in structure if not name.endswith("?")],
            "properties": {name.removesuffix("?"): json_schema(inner) for name, inner in structure.items()}}
