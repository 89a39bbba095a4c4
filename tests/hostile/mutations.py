"""Files changed at random, but the same every time: bytes flipped, cut out, repeated, numbers
overwritten with those at the edges of their types."""

from __future__ import annotations

import random
from collections.abc import Iterator

_EDGES = (0, 1, 2**7, 2**15 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


def mutations(whole: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield ``count`` files made of one by up to four changes each."""
    random_ = random.Random(seed)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            _change(data, random_)
        yield bytes(data)


def _change(data: bytearray, random_: random.Random) -> None:
    # Headers are at the start and the end, where most is decided.
    span = random_.choice((len(data), min(64, len(data)), min(512, len(data))))
    at = random_.randrange(max(1, span))
    if random_.random() < 0.3:
        at = max(0, len(data) - 1 - at)
    length = random_.choice((1, 2, 8, 100))
    match random_.randrange(6):
        case 0:
            data[at : at + 1] = bytes([random_.choice((0, 0xFF, 0x80, random_.randrange(256)))])
        case 1 if data:
            data[min(at, len(data) - 1)] ^= 1 << random_.randrange(8)
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length] * random_.choice((1, 2, 50))
        case 4:
            del data[at:]
        case _:
            width = random_.choice((2, 4, 8))
            number = random_.choice(_EDGES) % 2 ** (8 * width)
            data[at : at + width] = number.to_bytes(width, random_.choice(("little", "big")))
