"""Pictures made to break decoders, from seeds: the same seed gives the same bytes.

Each attack of ATTACKS takes a random generator and returns a file. All are small: what is large about a bomb is what it
promises to become.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from benchmarks.faults.attacks import damage, foreign, gif_and_webp, jpeg, png

Attack = Callable[[random.Random], bytes]


def mutated(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` files and the name of the attack that made each: all in turn, those of _DEAR once in ten rounds."""
    cheap = [name for name in ATTACKS if name not in _DEAR]
    order = itertools.cycle([*ATTACKS, *(cheap * 9)])
    for number, name in enumerate(itertools.islice(order, count)):
        yield name, ATTACKS[name](random.Random(f"{seed} {number}"))


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        *(damage.flips, damage.header_flips, damage.truncation, damage.removal, damage.insertion, damage.splice),
        *(damage.large_numbers, damage.noise),
        *(png.png_bomb, png.png_sizes, png.png_chunk_order, png.png_texts, png.png_frames),
        *(jpeg.jpeg_sizes, jpeg.jpeg_scans, jpeg.jpeg_tables, jpeg.exif, jpeg.icc, jpeg.packets, jpeg.mpo),
        *(gif_and_webp.gif_screens, gif_and_webp.gif_frames, gif_and_webp.webp_chunks, gif_and_webp.webp_bomb),
        *(foreign.foreign, foreign.polyglot, foreign.disguise),
    )
}
# Each keeps a core busy for a second or more.
_DEAR = ("png_bomb", "webp_bomb")
