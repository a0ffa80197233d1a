"""Changes to a weight file by chance: of its bytes, its header, its configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = [0, 1, -1, 2, 3, 63, 64, 4096, 4097, 2**31, 2**63, 2**64, 10**30, 10**400]
ODD_VALUES: list[Any] = [
    *NUMBERS,
    1.5,
    1e300,
    True,
    None,
    "",
    "4",
    "../x",
    [],
    {},
    [[[]]],
    "\ud800",
]
DTYPES = ["F16", "BF16", "F32", "F64", "I8", "U8", "BOOL", "F8_E4M3", "", "f16", 7]


def parts_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the values."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def put_together(header: Any, values: bytes) -> bytes:
    """A safetensors file, right or wrong."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def mutated(content: bytes, mutation: str, chance: Random) -> bytes:
    """`content` after the mutation of that name."""
    return MUTATIONS[mutation](content, chance)


def _flip_header_bits(content: bytes, chance: Random) -> bytes:
    changed, end = bytearray(content), 8 + int.from_bytes(content[:8], "little")
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(8, end)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _flip_value_bits(content: bytes, chance: Random) -> bytes:
    changed, end = bytearray(content), 8 + int.from_bytes(content[:8], "little")
    for _ in range(40):
        changed[chance.randrange(end, len(content))] ^= 0x7C  # the exponents of half floats
    return bytes(changed)


def _change_length(content: bytes, chance: Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    others = [0, 1, 2, 7, 2**20, 2**20 + 1, 2**31, 2**63, 2**64 - 1, len(content), len(content) - 8]
    other = chance.choice([*others, length + chance.randrange(-20, 20)])
    return other.to_bytes(8, "little") + content[8:]


def _truncate(content: bytes, chance: Random) -> bytes:
    end = 8 + int.from_bytes(content[:8], "little")
    return content[: chance.choice((chance.randrange(end), chance.randrange(len(content))))]


def _append(content: bytes, chance: Random) -> bytes:
    return content + chance.randbytes(chance.choice((1, 8, 1000)))


def _edit_number(content: bytes, chance: Random) -> bytes:
    """Another number in the text of the header, which then lies about its own length or not."""
    end = 8 + int.from_bytes(content[:8], "little")
    text = content[8:end]
    place = chance.choice(list(re.finditer(rb"\d+", text)))
    text = text[: place.start()] + str(chance.choice(NUMBERS)).encode() + text[place.end() :]
    length = len(text) if chance.random() < 0.8 else end - 8
    return length.to_bytes(8, "little") + text + content[end:]


def _edit_tensor(content: bytes, chance: Random) -> bytes:
    header, values = parts_of(content)
    tensor = header[_some_tensor(header, chance)]
    field = chance.choice(("dtype", "shape", "data_offsets"))
    if field == "dtype":
        tensor[field] = chance.choice(DTYPES)
    elif chance.random() < 0.3:
        tensor[field] = chance.choice(ODD_VALUES)
    else:
        numbers = tensor[field]
        numbers[chance.randrange(len(numbers))] = chance.choice(ODD_VALUES)
    return put_together(header, values)


def _edit_keys(content: bytes, chance: Random) -> bytes:
    header, values = parts_of(content)
    name, other = (_some_tensor(header, chance) for _ in range(2))
    what = chance.randrange(6)
    if what == 0:
        del header[name]
    elif what == 1:
        header[chance.choice(("more", "__metadata__ ", "", "a\nb", "\0", "x" * 5000))] = header[
            name
        ]
    elif what == 2:
        header[name], header[other] = header[other], header[name]
    elif what == 3:
        del header[name][chance.choice(list(header[name]))]
    elif what == 4:
        header[name][chance.choice(("stride", "x", ""))] = chance.choice(ODD_VALUES)
    else:
        header[name] = chance.choice(ODD_VALUES)
    return put_together(header, values)


def _shuffle_keys(content: bytes, chance: Random) -> bytes:
    """The same content in another order, which is no damage."""
    header, values = parts_of(content)
    items = list(header.items())
    chance.shuffle(items)
    return put_together(dict(items), values)


def _edit_metadata(content: bytes, chance: Random) -> bytes:
    header, values = parts_of(content)
    metadata = header["__metadata__"]
    what = chance.randrange(4)
    if what == 0:
        header["__metadata__"] = chance.choice(ODD_VALUES)
    elif what == 1:
        metadata[chance.choice(list(metadata))] = chance.choice(ODD_VALUES)
    elif what == 2:
        metadata[chance.choice(("more", "", "x" * 5000))] = chance.choice(("text", "[" * 5000))
    else:
        metadata["dmsr_config"] = chance.choice(
            ("[" * 9000, "{}", "null", '"', "{" * 9000, "9" * 9000)
        )
    return put_together(header, values)


def _edit_config(content: bytes, chance: Random) -> bytes:
    header, values = parts_of(content)
    config = json.loads(header["__metadata__"]["dmsr_config"])
    name = chance.choice(list(config))
    if chance.random() < 0.2:
        del config[name]
    elif chance.random() < 0.1:
        config[chance.choice(("", "colour", "x" * 5000))] = chance.choice(ODD_VALUES)
    else:
        config[name] = chance.choice(ODD_VALUES)
    header["__metadata__"]["dmsr_config"] = json.dumps(config)
    return put_together(header, values)


def _some_tensor(header: dict[str, Any], chance: Random) -> str:
    return chance.choice([name for name in header if name != "__metadata__"])


MUTATIONS: dict[str, Callable[[bytes, Random], bytes]] = {
    "flip header bits": _flip_header_bits,
    "flip value bits": _flip_value_bits,
    "change length": _change_length,
    "truncate": _truncate,
    "append": _append,
    "edit number": _edit_number,
    "edit tensor": _edit_tensor,
    "edit keys": _edit_keys,
    "shuffle keys": _shuffle_keys,
    "edit metadata": _edit_metadata,
    "edit config": _edit_config,
}
