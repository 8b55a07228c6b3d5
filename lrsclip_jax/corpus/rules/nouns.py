"""Word lists: the nouns of remote sensing that the regular rules of English get wrong, and names that are no nouns."""

IRREGULAR = {
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "prairie": "prairies",
    "shelf": "shelves",
    "ski": "skis",
    "taxi": "taxis",
    "wharf": "wharves",
    "wolf": "wolves",
    "woman": "women",
}
INVARIANT = frozenset(
    "aircraft barracks brickworks crossroads debris deer earthworks fish gasworks headquarters hovercraft ironworks "
    "livestock offspring roadworks rotorcraft saltworks series sheep spacecraft species steelworks warcraft watercraft "
    "waterworks works".split()
)
# Singular though they end in an s.
SINGULAR = frozenset(
    "apparatus atlas bus campus canvas canopus circus gas glass grass lens minibus moss omnibus pass terminus "
    "tennis trolleybus".split()
)
# The endings by which a plural doesn't follow the regular rules, or may not: "tomatoes" but "photos", "knives" but
# "roofs", "oases"; and those of plurals, "volcanoes" but "canoes", "leaves" but "caves", "oases" but "bases".
UNSURE = r"(o|fe?|is)$"
UNSURE_PLURAL = r"(oes|ves|(?<!ou)ses)$"
# Spelled out letter by letter: they stay in capitals.
SPELLED = frozenset("atv bmx gps hgv hvac lng lpg mlrs rv suv tv uav ufo".split())
# A vowel letter with a consonant's sound takes "a"; a consonant letter with a vowel's sound takes "an".
CONSONANT_SOUND = r"eu|ewe|one\b|once\b|uav|ufo|uni(?![dmn])|ura|use|usu|uti|u[ -]"
VOWEL_SOUND = r"[aeiou]|heir|honest|hour|[fhlmnrsx]\b|(hgv|hvac|lng|lpg|mlrs|rv|suv)\b"

# Names that a data set gives and a sentence can't use as they are.
MEANINGS = {
    "awning tricycle": "tricycle with an awning",
    "biker": "cyclist",
    "crossroad": "crossroads",
    "golffield": "golf course",
    "golf field": "golf course",
    "groundtrackfield": "ground track field",
    "human": "person",
    "motor": "motorcycle",
    "oiltank": "oil tank",
    "other airplane": "airplane",
    "other ship": "ship",
    "other vehicle": "vehicle",
    "soccer ball field": "soccer field",
    "trainstation": "train station",
}
# Names of ground covers, which are not counted, and their words.
STUFF = {
    "agricultural land": "farmland",
    "agriculture": "farmland",
    "agriculture land": "farmland",
    "asphalt": "asphalt",
    "background vegetation": "vegetation",
    "bare ground": "bare ground",
    "bare land": "bare land",
    "bare soil": "bare soil",
    "bareland": "bare land",
    "barren": "barren land",
    "barren land": "barren land",
    "chaparral": "chaparral",
    "cropland": "cropland",
    "developed space": "built-up land",
    "dirt": "dirt",
    "farmland": "farmland",
    "forest": "forest",
    "forest land": "forest",
    "grass": "grass",
    "grassland": "grassland",
    "gravel": "gravel",
    "herbaceous vegetation": "herbaceous vegetation",
    "ice": "ice",
    "impervious surface": "paved ground",
    "low vegetation": "low vegetation",
    "mangrove": "mangrove forest",
    "mud": "mud",
    "pavement": "pavement",
    "paved area": "paved ground",
    "rangeland": "rangeland",
    "road": "roads",
    "rock": "rock",
    "sand": "sand",
    "scrub": "scrub",
    "sea": "sea",
    "sea ice": "sea ice",
    "shrubland": "shrubland",
    "snow": "snow",
    "soil": "soil",
    "tree cover": "tree canopy",
    "unpaved ground": "unpaved ground",
    "urban land": "built-up land",
    "vegetation": "vegetation",
    "water": "water",
    "waterbody": "water",
    "water body": "water",
    "wetland": "wetland",
}
STUFF_PLURAL = frozenset({"roads"})
# In a mask, what grows together: a patch of touching crowns is no tree.
GROWS_TOGETHER = {"tree": "tree cover", "trees": "tree cover", "high vegetation": "tree cover", "bush": "scrub"}

# Names that say nothing of what there is.
NAMELESS = frozenset(
    "background clutter ignore ignored none other others unknown unlabeled unlabelled unclassified void".split()
) | {"ignored regions", "no data", "nodata"}

# Kinds of land that as a scene are "a … area", and scenes that take no article.
AREAS = frozenset({"agricultural", "commercial", "industrial", "residential"})
SCENES = {"center": "city centre", "parking": "parking lot", "playfields": "playing fields", "residents": "houses"}
