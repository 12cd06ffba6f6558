//! The sentences of the built-in stories.

/// A plot is a list of beats; for each beat one of its sentences is told.
pub(super) type Beat = &'static [&'static str];

pub(super) const OPENINGS: Beat = &[
    "Once upon a time, there was {a size} {kind} named {hero}. {They} lived in {home} near {place}.",
    "Once there was {a good} {kind} called {hero}. {Their} home was {home}, not far from {place}.",
    "{Hero} was {a size} {kind} who lived in {home}. {They} liked {food} and {they} loved to play {game}.",
    "Long ago, {a size} and {good} {kind} lived in {home}. {Their} name was {hero}.",
    "In {home} near {place} lived {a good} {kind}. Everyone called {them} {hero}.",
    "There once was {a kind} named {hero} who had {a color} {thing}. {They} took it everywhere, even to {place}.",
    "Every {season}, {a size} {kind} named {hero} went to {place}. {They} was {a good} {kind}.",
];

pub(super) const PLOTS: &[&[Beat]] = &[
    // Something is lost and found.
    &[
        &[
            "One {weather} {time}, {hero} could not find {their} {color} {thing}.",
            "One {time}, {hero} woke up and saw that {their} {thing} was gone.",
            "On a {weather} {time}, {hero} lost {their} {color} {thing} near {place}.",
        ],
        &[
            "{They} looked behind the {spot}, but it was not there. {Hero} felt {sad}.",
            "{They} looked under the {spot} and behind the {spot}. No {thing} at all! {They} was {sad}.",
            "{They} searched for {number} hours, and then {they} sat down on the {spot} and was {sad}.",
        ],
        &[
            "Then {friend} the {friend_kind} came by. \"Why are you {sad}?\" {friend_they} asked.",
            "\"What is wrong?\" {said} {friend}, {a size} {friend_kind}.",
            "Just then {they} {saw} {friend} the {friend_kind}, who was eating {food}.",
        ],
        &[
            "\"I lost my {thing},\" {replied} {hero}. \"It is {color} and {nice}.\"",
            "\"My {thing} is gone,\" {hero} {replied}. \"Will you help me?\"",
        ],
        &[
            "\"Let us ask {helper},\" {replied} {friend}. So they {walked} to {place} together.",
            "{Friend} {looked}. \"I saw something {color} near {place},\" {friend_they} {replied}.",
            "\"Two can look better than one,\" {replied} {friend}, and they {walked} past the {spot}.",
        ],
        &[
            "There, beside the {spot}, was the {thing}! {Hero} was {glad}.",
            "After {number} minutes, {friend} found the {thing} in the {spot}. \"Thank you!\" {replied} {hero}.",
            "{Helper} had kept the {thing} safe all along. {Hero} {looked} and was {glad}.",
        ],
    ],
    // A new friend.
    &[
        &[
            "{Hero} had nobody to play {game} with, and {they} was often {sad}.",
            "One {time}, {hero} {walked} to {place} all alone.",
            "On {a weather} {time} in {season}, {hero} wanted to play {game}, but everyone was busy.",
        ],
        &[
            "Near the {spot} {they} {saw} {a size} {friend_kind}. \"Hello, I am {friend},\" {replied} the {friend_kind}.",
            "There {they} {saw} {friend}, {a friend_kind} with {a color} {thing}.",
            "Behind the {spot}, {a size} {friend_kind} named {friend} was crying.",
        ],
        &[
            "\"Do you want to play {game}?\" {said} {hero}.",
            "\"I have some {food},\" {replied} {hero}. \"Would you like to share?\"",
            "\"Please do not be {sad},\" {said} {hero}. \"You can play with my {thing}.\"",
        ],
        &[
            "{Friend} was shy at first, but then {friend_they} {looked}.",
            "\"I would love that!\" {replied} {friend}, and {friend_they} {looked}.",
            "{Friend} {looked}. \"Nobody ever asked me before,\" {friend_they} {replied}.",
        ],
        &[
            "They played {game} until the sun went down, and they ate {food} and {food}.",
            "They {walked} all around {place} and {saw} {number} {nice} stones.",
            "They built {a nice} house of sticks beside the {spot} and told each other stories.",
        ],
        &[
            "From then on, {hero} and {friend} met every {time}.",
            "\"Will you come back tomorrow?\" {said} {friend}. \"Of course,\" {replied} {hero}.",
            "Now {hero} was never {sad} again, because {they} had a friend.",
        ],
    ],
    // A storm, and shelter.
    &[
        &[
            "One {time}, the sky above {place} turned dark and the wind began to blow.",
            "It was {a weather} {time} when {hero} {walked} to {place}. Suddenly it began to rain.",
            "In {season} there came a great storm. The wind blew over the {spot} and the {spot}.",
        ],
        &[
            "{Hero} was {sad}, but {they} was also {good}. \"I must get home,\" {they} thought.",
            "The thunder was loud. {Hero} hid under the {spot} and held {their} {thing}.",
            "{Hero} {walked} as fast as {they} could, but the water rose higher and higher.",
        ],
        &[
            "Then {they} heard a small voice. It was {friend} the {friend_kind}, who was {sad} too.",
            "\"Help!\" {said} {friend}, {a size} {friend_kind} who was stuck near the {spot}.",
            "Not far away, {they} {saw} {friend} the {friend_kind}, wet and {sad}.",
        ],
        &[
            "\"Hold on to my {thing}!\" {replied} {hero}, and {they} pulled with all {their} strength.",
            "\"Come with me,\" {replied} {hero}. \"My home is {home}, and it is warm and dry.\"",
            "{Hero} gave {friend} {their} {color} {thing} and took {friend_their} hand.",
        ],
        &[
            "Together they {walked} through the rain until they saw the light of {helper}.",
            "They sat close together, ate {food}, and waited for {number} hours.",
            "In the end they came to {home}, where there was a fire and hot {food}.",
        ],
        &[
            "When the storm was over, a rainbow stood above {place}. It was {nice}.",
            "At last the sun came out. \"You are so {good}, {hero},\" {replied} {friend}.",
            "The next {time} was {weather} and quiet, and both of them were {glad}.",
        ],
    ],
    // A feast or a present is made.
    &[
        &[
            "It was almost the birthday of {friend} the {friend_kind}, and {hero} wanted to bake a cake.",
            "One {weather} {time}, {hero} wanted to cook {food} for {friend} the {friend_kind}.",
            "{Hero} wanted to make {a nice} present for {friend}, {a size} {friend_kind} who lived near {place}.",
        ],
        &[
            "{They} needed {number} {food}, but {they} only had {a thing}.",
            "First {they} {walked} to {place} to get {food}. Then {they} needed some {color} flowers.",
            "{They} tried and tried, but everything fell on the floor. {Hero} was {sad}.",
        ],
        &[
            "\"May I have some {food}?\" {hero} asked {helper}. \"It is for a friend.\"",
            "\"What should I do?\" {said} {hero}. Then {helper} came to the door.",
            "{Hero} {walked} to {helper}. \"Can you show me how?\" {they} asked.",
        ],
        &[
            "\"Take your time and mix it slowly,\" {replied} {helper}.",
            "\"You may have {number} of mine,\" {replied} {helper}, \"if you bring me some cake.\"",
            "{Helper} {looked}. \"The best gifts are made with love,\" came the answer.",
        ],
        &[
            "So {hero} worked all {time} and put it on {a color} plate.",
            "{Hero} was {good}, and when the sun went down, the work was done.",
            "{They} put {a color} ribbon around it and {walked} to the home of {friend}.",
        ],
        &[
            "\"For me?\" {said} {friend}. \"This is the best {time} of my life!\"",
            "{Friend} {looked} and was {glad}. They ate {food} and played {game}.",
            "{Friend} took one bite and {looked}. \"It is {nice}!\" {friend_they} {replied}.",
        ],
    ],
    // A race or a contest.
    &[
        &[
            "Every {season} there was a great race from {place} to the {spot}.",
            "\"I am the fastest {friend_kind} in the land,\" {replied} {friend} one {time}. \"Nobody can beat me!\"",
            "One {time}, {helper} asked everyone to come to {place} for a contest.",
        ],
        &[
            "{Hero} was not fast, but {they} was {good}. \"I will try,\" {they} {replied}.",
            "\"I want to race too,\" {replied} {hero}, and the others laughed.",
            "{Hero} practiced for {number} days. {They} ate {food} and slept well.",
        ],
        &[
            "\"Ready, set, go!\" {said} {helper}. {Friend} the {friend_kind} was far ahead.",
            "When the race began, {friend} the {friend_kind} {walked} ahead and did not look back.",
            "The {time} was {weather}. {Hero} and {friend} the {friend_kind} started side by side.",
        ],
        &[
            "But then {friend} fell over {a thing} and hurt {friend_their} foot.",
            "But {friend} stopped to eat {food} and fell asleep behind the {spot}.",
            "In the middle of the way, {friend} got lost near the {spot} and was {sad}.",
        ],
        &[
            "{Hero} could have won, but {they} stopped. \"Are you hurt?\" {they} asked.",
            "{Hero} turned around and helped {friend} to get up.",
            "\"Come, we will finish together,\" {replied} {hero}.",
        ],
        &[
            "They came in last, but everyone clapped. {Helper} gave them {a color} {thing}.",
            "\"You are the real winner,\" {replied} {friend}, and {friend_they} was {glad}.",
            "In the end they crossed the line at the same time, and both were {glad}.",
        ],
    ],
    // Something strange is discovered.
    &[
        &[
            "One {weather} {time}, {hero} {saw} {a nice} {thing} near {place}.",
            "While {hero} was playing {game}, {they} {saw} a small {color} door in the {spot}.",
            "Deep in {place}, {hero} {saw} {a color} light. {They} wanted to know what it was.",
        ],
        &[
            "\"What could it be?\" {they} thought, and {they} called {friend} the {friend_kind}.",
            "\"Look at that!\" {said} {friend}, {a size} {friend_kind} who had come along.",
            "{Hero} was too {sad} to go alone, so {they} asked {friend} the {friend_kind} to come.",
        ],
        &[
            "\"Maybe it is magic,\" {replied} {friend}. \"Do not touch it!\"",
            "\"It must belong to someone,\" {replied} {friend}. \"We should ask {helper}.\"",
            "\"I am not afraid,\" {replied} {hero}, but {their} knees were shaking.",
        ],
        &[
            "Inside they {saw} {number} {color} stones and {a thing}.",
            "Very slowly they {walked} closer. It made {a nice} sound, like a song.",
            "They pushed the {spot} away, and there was a map with {a color} cross on it.",
        ],
        &[
            "It belonged to {helper}, who had looked for it since {season}.",
            "\"You found it!\" {said} {helper}. \"I lost it {number} years ago.\"",
            "In the end it was only {helper}, who wanted to surprise them with {food}.",
        ],
        &[
            "{Hero} gave it back at once, because {they} was {good}.",
            "As a thank you, they got {a nice} {thing} and a basket of {food}.",
            "They laughed and laughed, and {hero} was {glad}.",
        ],
    ],
    // A quarrel and peace.
    &[
        &[
            "{Hero} and {friend} the {friend_kind} both wanted the same {color} {thing}.",
            "One {time}, {hero} broke the {thing} of {friend} the {friend_kind}.",
            "{Hero} would not share {their} {food} with {friend} the {friend_kind}.",
        ],
        &[
            "\"It is mine!\" {said} {friend}. \"No, it is mine!\" {replied} {hero}.",
            "\"That is not fair,\" {replied} {friend}, and {friend_they} {walked} away.",
            "They shouted so loud that even {helper} came out to see.",
        ],
        &[
            "All {time} {hero} sat behind the {spot} and was {sad}.",
            "At home, {hero} could not sleep. {They} thought about {friend}.",
            "{Hero} tried to play {game} alone, but it was no fun without {friend}.",
        ],
        &[
            "\"A friend is worth more than {a thing},\" {replied} {helper}.",
            "\"Have you said that you are sorry?\" asked {helper}.",
            "\"When I was young, I had a friend like that,\" {replied} {helper}.",
        ],
        &[
            "So {hero} {walked} to {place} with a basket of {food}. \"I am sorry,\" {they} {replied}.",
            "The next {time}, {hero} went to {friend}. \"You can have the {thing},\" {they} {replied}.",
            "{Hero} took {a color} flower and {walked} to {friend}. \"Please forgive me,\" {they} {replied}.",
        ],
        &[
            "{Friend} {looked}. \"I am sorry too,\" {friend_they} {replied}.",
            "\"We can take turns,\" {replied} {friend}, and they were both {glad}.",
            "They shared the {food}, and soon they played {game} as before.",
        ],
    ],
    // A garden grows.
    &[
        &[
            "In {season}, {helper} gave {hero} {number} seeds.",
            "{Hero} found {a nice} seed beside the {spot} and put it into the ground.",
            "{Hero} wanted to have a garden with {color} flowers near {place}.",
        ],
        &[
            "Every {time} {they} gave it water, but nothing grew. {Hero} was {sad}.",
            "{They} waited for {number} days. The weather was {weather} and nothing happened.",
            "\"Grow, please grow!\" {said} {hero} to the ground.",
        ],
        &[
            "\"You must wait,\" {replied} {friend} the {friend_kind}. \"Good things take time.\"",
            "\"That will never grow,\" {replied} {friend} the {friend_kind}, and {friend_they} laughed.",
            "{Friend} the {friend_kind} {looked}. \"I will help you,\" {friend_they} {replied}.",
        ],
        &[
            "Together they carried water from {place} and sang {a nice} song.",
            "{Hero} was {good} and came back every {time}, even when it was {weather}.",
            "They put a fence around it, so that nobody would step on it.",
        ],
        &[
            "Then one {weather} {time} there was {a size} green leaf.",
            "After {number} weeks, a flower opened. It was {color} and {nice}.",
            "When {season} came, the plant was as tall as the {spot}.",
        ],
        &[
            "\"Look what we made!\" {said} {hero}, and {they} was {glad}.",
            "Soon there were enough {food} for everyone in {place}.",
            "{Hero} gave the first flower to {helper} and the second one to {friend}.",
        ],
    ],
];

pub(super) const ENDINGS: Beat = &[
    "That night, {hero} slept well and dreamed of {food}.",
    "And so {hero} learned that it is good to be {good}.",
    "They lived happily ever after.",
    "\"What a {nice} {time}!\" {replied} {hero}, and {they} {walked} home.",
    "Since then, everyone in {place} knows how {good} {hero} is.",
    "At home, {hero} told the whole story, and everybody {looked}.",
    "And if you go to {place}, you may still see {hero} and {friend} there.",
    "The moon rose over {place}, and all was well.",
    "{Hero} never forgot that {time}.",
    "\"Good night, {friend},\" {replied} {hero}. \"Good night, {hero},\" {replied} {friend}.",
];
