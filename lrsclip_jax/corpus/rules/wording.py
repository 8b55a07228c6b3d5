"""Every sentence of the rules, and every name of a place with what it means.

The braces: {things} is a list with counts, and {it}, {are}, {lie}, {reach}, {cover}, {there_are} agree with it; {one}
and {many} are a class in the singular and the plural; {where} is one of the places below; {label} is the class of
the scene with its article. Capitals and full stops come later.
"""

# Places and the part of the image that they mean: left, top, right, bottom as twelfths of width and height.
NINTHS = {
    "in the upper left of the image": (0, 0, 4, 4),
    "at the top of the image": (4, 0, 8, 4),
    "in the upper right of the image": (8, 0, 12, 4),
    "on the left of the image": (0, 4, 4, 8),
    "in the centre of the image": (4, 4, 8, 8),
    "on the right of the image": (8, 4, 12, 8),
    "in the lower left of the image": (0, 8, 4, 12),
    "at the bottom of the image": (4, 8, 8, 12),
    "in the lower right of the image": (8, 8, 12, 12),
}
QUARTERS = {
    "in the upper left quarter of the image": (0, 0, 6, 6),
    "in the upper right quarter of the image": (6, 0, 12, 6),
    "in the lower left quarter of the image": (0, 6, 6, 12),
    "in the lower right quarter of the image": (6, 6, 12, 12),
}
THIRDS = {
    "in the upper third of the image": (0, 0, 12, 4),
    "in the lower third of the image": (0, 8, 12, 12),
    "in the left third of the image": (0, 0, 4, 12),
    "in the right third of the image": (8, 0, 12, 12),
}
HALVES = {
    "in the upper half of the image": (0, 0, 12, 6),
    "in the lower half of the image": (0, 6, 12, 12),
    "in the left half of the image": (0, 0, 6, 12),
    "in the right half of the image": (6, 0, 12, 12),
}
ACROSS = {"horizontal": "from the left edge to the right edge", "vertical": "from the upper edge to the lower edge"}
# The share of the image, in per cent, from which on each holds.
SHARES = (
    (97, "almost the whole image"),
    (75, "more than three quarters of the image"),
    (55, "more than half of the image"),
    (45, "about half of the image"),
    (38, "more than a third of the image"),
    (29, "about a third of the image"),
    (21, "about a quarter of the image"),
    (8, "a part of the image"),
    (0, "a small part of the image"),
)

# Short captions.
CENTRE = (
    "{there_are} {things} in the centre of the image",
    "{things} {lie} in the middle of this aerial image",
    "{things} can be seen at the centre of the image",
    "in the middle of the image {are} {things}",
)
NOT_IN_CENTRE = (
    "{things} can be seen only in the outer parts of the image",
    "an aerial image with {things} outside its central part",
    "at some distance from its middle, the image shows {things}",
)
ELSEWHERE = (
    "outside the central part of the image, {there_are} {things}",
    "{things} {lie} away from the centre of the image",
    "away from the middle of this aerial image {are} {things}",
)
ELSEWHERE_PLACED = ("{there_are} {things} {where}", "{things} {lie} {where}", "{things} can be seen {where}")
ALL_IN_CENTRE = (
    "an aerial image centred on {things}",
    "the image has {things} right in its middle",
)
COUNTS = (
    "{there_are} {things} in this aerial image",
    "this remote sensing image shows {things}",
    "{things} can be seen from above",
    "an aerial photograph of {things}",
    "the image contains {things}",
    "an overhead view of {things}",
    "{things} {are} visible in this image",
    "a bird's-eye view of a place with {things}",
    "seen from the air, {there_are} {things}",
)
COUNTS_IN_SCENE = (
    "an aerial image of {label} with {things}",
    "an overhead view of {label} with {things}",
    "{things} can be seen in this image of {label}",
)
SCENE = (
    "an aerial image of {label}",
    "{label} seen from above",
    "an overhead view of {label}",
    "a remote sensing image of {label}",
    "this image shows {label} from the air",
)
PRESENT = (
    "an aerial image of a place with these elements: {names}",
    "the following can be seen from above: {names}",
    "this remote sensing image shows the following: {names}",
    "what the aerial image contains: {names}",
    "seen from the air, the land shows these elements: {names}",
)
OTHERS = "other objects"

# The long caption.
OPENINGS = (
    "this aerial image shows {things}",
    "seen from above, the image shows {things}",
    "in this remote sensing image {there_are} {things}",
    "the image is an overhead view of a place with {things}",
)
OPENINGS_IN_SCENE = (
    "this aerial image shows {label} with {things}",
    "the image is an overhead view of {label} with {things}",
    "in this remote sensing image of {label} {there_are} {things}",
)
ALSO = ("{there_are} also {things}", "the image also shows {things}")
PRESENT_TOO = ("the image also has the following: {names}",)
SINGLE = ("the {one} is {where}", "the {one} can be seen {where}", "the {one} lies {where}")
SINGLE_SMALL = ("it takes up only a small part of the image", "it is small compared with the whole image")
SINGLE_WIDE = ("the {one} stretches over a large part of the image", "the {one} takes up much of the image")
SINGLE_ACROSS = ("the {one} extends {across}",)
FEW = ("of the {number} {many}, {places}", "as for the {many}, {places}")
GROUP = ("the {many} are {where}", "the {many} can be found {where}", "all of the {many} are {where}")
MOSTLY = ("most of the {many} are {where}", "the {many} are mostly {where}")
MOSTLY_THEM = ("most of them are {where}", "the larger part of them is {where}")
SCATTERED = ("the {many} are scattered across the image", "the {many} are spread over the whole image")
VARIOUS = ("the {many} are found in different parts of the image",)
ROWS = {
    "horizontal": "they are lined up in a horizontal row",
    "vertical": "they are lined up in a vertical row",
    "falling": "they form a diagonal line that runs from the upper left to the lower right",
    "rising": "they form a diagonal line that runs from the lower left to the upper right",
    "slanting": "they form a straight line",
}
GRIDS = {
    "horizontal": "they are arranged in {number} horizontal rows",
    "vertical": "they are arranged in {number} columns",
}
CLOSE = ("they are close together", "they form a dense group")
CLOSE_FEW = ("they are close together", "they are right next to each other")
CLUSTERS = ("they form {number} separate groups", "they are gathered in {number} separate groups")
APART = ("they are far apart from each other",)
CENTRAL = ("{things} {are} in the centre of the image", "in the centre of the image {are} {things}")
QUARTERLY = (
    "by quarters of the image, {places}",
    "counted by quarters of the image, {places}",
)
EVERY_QUARTER = ("there are many of them in each quarter of the image",)
RICHEST = (
    "the {quarter} quarter of the image has more of them than any other",
    "they are most numerous in the {quarter} quarter of the image",
)
ALONE = ("one of them stands apart from the others {where}", "{where}, one stands apart from all the others")
WIDTHS = {
    2: "half",
    3: "a third",
    4: "a quarter",
    5: "a fifth",
    6: "a sixth",
    8: "an eighth",
    10: "a tenth",
    15: "a fifteenth",
    20: "a twentieth",
}
WIDTH = ("it is about {width} of the image wide", "its width is about {width} of that of the image")
WIDEST = ("the widest of them takes up about {width} of the width of the image",)
EDGE = ("{things} {reach} the edge of the image",)
EQUAL = ("they are all about the same size", "all of them are similar in size")
UNEQUAL = ("they differ widely in size, and the largest is {where}", "the largest of them is {where}")
SMALL = ("each of them takes up only a tiny part of the image", "they are all small compared with the whole image")
SMALL_BOTH = ("both are small compared with the whole image", "both take up only a small part of the image")
COVER = ("{things} {cover} {share}", "{share} is covered by {things}")
STUFF = ("{things} can be seen {where}", "{things} {lie} {where}")
STUFF_ACROSS = ("{things} {reach} {across}",)
STUFF_TOO = ("{it} can be seen {where}", "{it} {lie} {where}")
STUFF_ACROSS_TOO = ("{it} {reach} {across}",)
BESIDE = ("{things} {are} next to the {other}", "right next to the {other} {are} {things}")
DIRECTIONS = {
    "left": "the {one} is to the left of the {other}",
    "right": "the {one} is to the right of the {other}",
    "above": "the {one} is above the {other} in the image",
    "below": "the {one} is below the {other} in the image",
}
