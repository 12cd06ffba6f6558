//! The words of the built-in stories.

/// A kind of hero: what it is called and which pronoun it takes.
#[derive(Clone, Copy)]
pub(super) struct Being {
    pub(super) kind: &'static str,
    she: bool,
}

impl Being {
    pub(super) fn names(self) -> &'static [&'static str] {
        if self.she { SHE_NAMES } else { HE_NAMES }
    }

    pub(super) fn subject(self) -> &'static str {
        if self.she { "she" } else { "he" }
    }

    pub(super) fn object(self) -> &'static str {
        if self.she { "her" } else { "him" }
    }

    pub(super) fn possessive(self) -> &'static str {
        if self.she { "her" } else { "his" }
    }
}

const fn she(kind: &'static str) -> Being {
    Being { kind, she: true }
}

const fn he(kind: &'static str) -> Being {
    Being { kind, she: false }
}

/// Who lives in one sort of country, and where.
#[derive(Clone, Copy)]
pub(super) struct Habitat {
    pub(super) animals: &'static [Being],
    pub(super) helpers: &'static [&'static str],
    pub(super) homes: &'static [&'static str],
    pub(super) places: &'static [&'static str],
}

const SHE_NAMES: &[&str] = &[
    "Lily", "Mia", "Anna", "Rosa", "Ella", "Nora", "Ruby", "Daisy", "Luna", "Hazel", "Ivy", "Clara", "Molly",
    "Zoe", "Pearl", "Maya", "Poppy", "Sara", "Tilly", "Wren", "Olive", "Greta", "Fern", "Amy",
];
const HE_NAMES: &[&str] = &[
    "Tom", "Ben", "Max", "Sam", "Leo", "Finn", "Jack", "Otto", "Hugo", "Oscar", "Tim", "Pip", "Milo",
    "Bruno", "Felix", "Noah", "Theo", "Gus", "Rusty", "Will", "Arlo", "Jasper", "Kit", "Ned",
];

pub(super) const CHILDREN: &[Being] = &[she("girl"), he("boy")];

pub(super) const HABITATS: &[Habitat] = &[
    Habitat {
        animals: &[
            he("fox"),
            she("rabbit"),
            he("bear"),
            she("squirrel"),
            he("hedgehog"),
            she("deer"),
            he("mouse"),
            she("mole"),
            he("badger"),
            she("robin"),
        ],
        helpers: &[
            "the old owl",
            "the kind woodpecker",
            "the wise badger",
            "the busy beetle",
            "the gray wolf",
        ],
        homes: &[
            "a hollow tree",
            "a warm burrow",
            "a small wooden house",
            "a den under the roots",
            "a cozy nest",
        ],
        places: &[
            "the forest",
            "the old oak tree",
            "the dark woods",
            "the blackberry path",
            "the quiet clearing",
        ],
    },
    Habitat {
        animals: &[
            he("crab"),
            she("seal"),
            he("pelican"),
            she("turtle"),
            he("otter"),
            she("gull"),
            he("dolphin"),
            she("starfish"),
            he("octopus"),
            she("clownfish"),
        ],
        helpers: &[
            "the great whale",
            "the old sailor",
            "the lighthouse keeper",
            "the tiny shrimp",
            "the sea anemone",
        ],
        homes: &[
            "a cave by the sea",
            "a blue boat",
            "a house made of shells",
            "a bed of seaweed",
            "a sandy bay",
        ],
        places: &["the beach", "the coral reef", "the harbor", "the rocky island", "the long pier"],
    },
    Habitat {
        animals: &[
            he("dog"),
            she("cat"),
            he("pig"),
            she("cow"),
            he("goat"),
            she("hen"),
            he("pony"),
            she("duck"),
            he("lamb"),
            she("goose"),
        ],
        helpers: &["the farmer", "the old horse", "the farmer's wife", "the clever crow", "the miller"],
        homes: &[
            "a red barn",
            "a little farm",
            "a house on the hill",
            "a stable full of hay",
            "a green meadow",
        ],
        places: &["the village", "the duck pond", "the apple garden", "the wheat field", "the old mill"],
    },
    Habitat {
        animals: &[
            he("lion"),
            she("zebra"),
            he("elephant"),
            she("giraffe"),
            he("monkey"),
            she("parrot"),
            he("camel"),
            she("ostrich"),
            he("lizard"),
            she("gazelle"),
        ],
        helpers: &[
            "the grandmother elephant",
            "the silent snake",
            "the rain bird",
            "the old traveler",
            "the honey bee",
        ],
        homes: &["a tall tree", "a hut of grass", "a tent by the river", "a cool cave", "a nest of leaves"],
        places: &["the wide plain", "the water hole", "the red rocks", "the jungle", "the yellow dunes"],
    },
];

pub(super) const THINGS: &[&str] = &[
    "ball",
    "kite",
    "hat",
    "lantern",
    "drum",
    "scarf",
    "umbrella",
    "basket",
    "whistle",
    "blanket",
    "toy boat",
    "bell",
    "key",
    "book",
    "necklace",
    "wagon",
    "flute",
    "button",
    "mirror",
    "paintbrush",
];
pub(super) const COLORS: &[&str] =
    &["red", "blue", "green", "yellow", "orange", "purple", "white", "golden", "pink", "silver"];
pub(super) const GOOD: &[&str] = &[
    "brave", "kind", "curious", "clever", "gentle", "cheerful", "loyal", "patient", "friendly", "careful",
    "playful", "quick",
];

/// Words drawn anew each time their slot comes up.
pub(super) const FRESH: &[(&str, &[&str])] = &[
    ("size", &["little", "small", "tiny", "young", "big", "tall", "round"]),
    ("glad", &["happy", "glad", "proud", "excited", "delighted", "very happy", "full of joy"]),
    ("sad", &["sad", "worried", "upset", "afraid", "lonely", "unhappy", "scared", "nervous"]),
    ("weather", &["sunny", "windy", "rainy", "cold", "warm", "cloudy", "bright", "foggy", "snowy"]),
    ("time", &["morning", "afternoon", "evening", "day"]),
    ("season", &["spring", "summer", "autumn", "winter"]),
    (
        "food",
        &[
            "apples", "berries", "soup", "honey", "bread", "cake", "nuts", "cheese", "carrots", "pancakes",
            "plums", "cookies", "corn", "pears",
        ],
    ),
    (
        "game",
        &[
            "hide and seek",
            "tag",
            "catch",
            "a singing game",
            "pirates",
            "a guessing game",
            "kings and queens",
        ],
    ),
    (
        "spot",
        &["bush", "big stone", "fence", "log", "gate", "bridge", "tall grass", "pile of leaves", "wall"],
    ),
    (
        "looked",
        &["smiled", "nodded", "laughed", "grinned", "jumped up and down", "clapped", "thought for a while"],
    ),
    ("walked", &["walked", "ran", "hurried", "went", "skipped", "tiptoed", "wandered", "marched"]),
    ("saw", &["saw", "found", "met", "noticed", "spotted"]),
    ("number", &["two", "three", "four", "five", "six", "seven", "ten"]),
    ("nice", &["nice", "wonderful", "lovely", "beautiful", "strange", "funny", "shiny", "pretty"]),
    ("said", &["said", "called", "whispered", "shouted"]),
    ("replied", &["said", "answered", "replied", "cried", "explained"]),
];
