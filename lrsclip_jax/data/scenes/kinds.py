"""The kinds of procedural scenes and what they are made of: tables, nothing else."""

from __future__ import annotations

from typing import NamedTuple


class Content(NamedTuple):
    """The contents of an area: a number of things of one kind and colour, and a strip along one side."""

    kind: str = ""
    counts: tuple[int, ...] = ()
    colours: tuple[str, ...] = ()
    strip: str = ""
    strip_colours: tuple[str, ...] = ()
    strip_width: float = 0.0
    on_strip: bool = False  # the things stand on the strip, which then lies on the side of the land


class SceneKind(NamedTuple):
    """A kind of scene: its main content, what may lie around it, and how the picture may be divided."""

    main: str
    around: tuple[str, ...]
    layouts: tuple[str, ...] = ("quarter", "half", "half", "centre")


CONTENTS = {
    # Land covers: texture only, so they may also fill the corners around a block in the centre.
    "meadow": Content(),
    "wheat field": Content(),
    "ploughed field": Content(),
    "lavender field": Content(),
    "orchard": Content(),
    "wood": Content(),
    "sand": Content(),
    "red earth": Content(),
    "reservoir": Content(),
    "car park": Content(),
    "solar farm": Content(),
    "greenhouses": Content(),
    # Grounds with things on them.
    "neighbourhood": Content("house", (9, 12, 15, 16), ("red", "grey", "white", "brown")),
    "paved yard": Content("warehouse", (2, 3, 4), ("blue", "white", "red", "green")),
    "tank farm": Content("tank", (2, 3, 4, 5, 6), ("white", "grey", "red", "green")),
    "lawn": Content("tennis court", (1, 2, 3, 4), ("blue", "green", "red")),
    "farmyard": Content("barn", (1, 2, 3), ("red", "white", "grey")),
    "sports field": Content("running track", (1,), ("red", "blue", "grey")),
    "forest": Content("cabin", (1,), ("red", "white", "grey")),
    "park": Content("pond", (1,), ("blue",)),
    "apron": Content(
        *("plane", (2, 3, 4, 5, 6), ("white", "blue", "red")),
        *("terminal", ("red", "blue", "white", "brown"), 0.1),
    ),
    "harbour basin": Content(
        *("ship", (2, 3, 4, 5, 6), ("white", "red", "yellow")),
        *("pier", ("grey",), 0.07),
    ),
    "sea": Content(
        *("umbrella", (3, 4, 5, 6), ("red", "blue", "yellow")),
        *("beach", ("pale",), 0.13),
        on_strip=True,
    ),
}

_CROPS = ("meadow", "wheat field", "ploughed field")
_RURAL = (*_CROPS, "lavender field", "orchard", "sand", "red earth", "wood")
_URBAN = ("car park", "solar farm", "paved yard", "tank farm", "neighbourhood", "red earth", "wood", "meadow")

KINDS = {
    "airport": SceneKind("apron", (*_CROPS, "sand", "red earth", "wood", "reservoir", "car park", "solar farm")),
    "harbour": SceneKind("harbour basin", (*_URBAN, "sand"), ("quarter", "half")),
    "residential": SceneKind("neighbourhood", (*_RURAL, "reservoir", "car park", "lawn")),
    "industrial": SceneKind("paved yard", (*_CROPS, "red earth", "wood", "reservoir", "car park", "tank farm")),
    "storage tanks": SceneKind("tank farm", (*_CROPS, "sand", "wood", "reservoir", "solar farm", "paved yard")),
    "sports ground": SceneKind("sports field", ("meadow", "orchard", "red earth", "wood", "car park", "lawn")),
    "farmland": SceneKind("farmyard", (*_RURAL, "reservoir", "solar farm", "greenhouses")),
    "forest": SceneKind("forest", (*_RURAL[:-1], "reservoir", "neighbourhood")),
    "park": SceneKind("park", ("meadow", "lavender field", "sand", "wood", "car park", "lawn", "greenhouses")),
    "beach": SceneKind("sea", (*_CROPS, "wood", "car park", "neighbourhood", "lawn", "greenhouses"), ("half",)),
    "bridge": SceneKind("", (*_RURAL, "car park", "paved yard", "neighbourhood", "tank farm"), ("river",)),
}

# Width of what runs between areas, in units of the picture's side and in drawing order.
SEAM_WIDTH = {"trees": 0.045, "river": 0.16, "dirt track": 0.025, "railway": 0.04, "road": 0.05}

# Length and width of things in units of the picture's side; smaller where they do not fit.
THING_SIZE = {
    "house": (0.1, 0.075),
    "warehouse": (0.22, 0.14),
    "tank": (0.14, 0.14),
    "tennis court": (0.19, 0.11),
    "barn": (0.17, 0.11),
    "plane": (0.16, 0.16),
    "ship": (0.18, 0.06),
    "running track": (0.62, 0.38),
    "cabin": (0.1, 0.08),
    "pond": (0.3, 0.22),
    "umbrella": (0.045, 0.045),
}
