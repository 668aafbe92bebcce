"""What a manifest must contain: its fields and their types, checked once, before anything is looked up.

A structure is a type, a list with the structure of its elements, or a dictionary: {"name": structure} for required
fields, {"name?": structure} for optional ones, {"*": structure} for any names.
"""

from engram_ref.errors import InputError

ANY = object
CONFIGURATION = {"config": str, "values": {"*": ANY}, "hashing?": ANY}
STAGE = {"name": str, "class": str, "expected": str, "terms?": int, "scale?": str}
CASE = {"name": str, "op": str, "dialect": str, "flags": [str], "answers": str, "arguments": {"*": ANY},
        "outputs": [str], "stages": [STAGE], "accept?": [{"name": str, "why": str, "stages": [STAGE]}]}
MANIFEST_FIELDS = {"schema": int, "seed": int, "versions": {"*": str}, "classes": {"*": str}, "flags": {"*": str},
                   "files": {"*": {"sha256": str, "bytes": int}}, "sha256": str,
                   "configurations": {"*": CONFIGURATION}, "cases": [CASE]}
INTEGERS_FIELDS = {"*": {"dtype": str, "shape": [int], "values": list}}

WORDS = {int: "a whole number", str: "text", list: "a list", dict: "an object"}


def check_structure(value: object, structure: object, file: str, place: str = "") -> None:
    """Raise InputError for the first field of `value` that is missing or has a wrong type.

    value       as json.loads gives it
    structure   see above
    file        what the error is about
    place       where in the file `value` is found
    """
    if isinstance(structure, list):
        for i, part in enumerate(checked(value, list, file, place)):
            check_structure(part, structure[0], file, f"{place}[{i}]")
    elif isinstance(structure, dict):
        check_fields(checked(value, dict, file, place), structure, file, place)
    elif structure is not ANY:
        checked(value, structure, file, place)


def check_fields(value: dict, structure: dict, file: str, place: str) -> None:
    """Every field of one object; fields that the structure does not name are ignored."""
    if "*" in structure:
        structure = dict.fromkeys(value, structure["*"])
    for field, inner in structure.items():
        name = field.removesuffix("?")
        path = f"{place}.{name}" if place else name
        if name in value:
            check_structure(value[name], inner, file, path)
        elif name == field:
            raise InputError(file, f"a field {path}", "none", "not written by engram-ref golden export?")


def checked(value: object, kind: type, file: str, place: str) -> object:
    """The value, if it is of that type; a truth value is not a number."""
    if type(value) is not kind:
        raise InputError(file, f"{WORDS[kind]} at {place or 'the top'}", repr(value)[:60])
    return value
