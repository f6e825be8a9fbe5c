"""Ways to damage a run's files: the whole file, and every field."""

import json

WHOLE = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "gone": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
}
JSON = {
    "a list": lambda path: path.write_text("[]"),
    "a number": lambda path: path.write_text("7"),
    "deep": lambda path: path.write_text("[" * 100_000),
}
VALUES = [None, "x", -1, 1e308, float("nan"), [], {}, True]  # what each field is replaced by; and it is left out


def flipped(content):
    """Flip one bit in the middle."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def fields(value, depth, place=()):
    """The paths of a JSON object's fields, down to a depth."""
    if isinstance(value, dict) and depth:
        for key, part in value.items():
            yield (*place, key)
            yield from fields(part, depth - 1, (*place, key))


def field_damages(path, depth):
    """`name, damage` for every field of a JSON file: replaced by each of `VALUES`, or removed."""
    whole = json.loads(path.read_text())
    for place in fields(whole, depth):
        for value in [..., *VALUES]:
            yield f"{'.'.join(place)}={'gone' if value is ... else value}", lambda p, a=place, v=value: put(p, a, v)


def put(path, place, value):
    """Replace one field of a JSON file."""
    whole = json.loads(path.read_text())
    part = whole
    for key in place[:-1]:
        part = part[key]
    if value is ...:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    path.write_text(json.dumps(whole))
