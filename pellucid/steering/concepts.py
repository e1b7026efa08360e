"""Twelve everyday concepts, written for this project.

They are what the demonstration and the steering benchmark look for.

For each ten sentences with the concept, the fixed words by which an answer is judged to be about it (`*`
ends a stem), and what one would simply ask for. The neutral sentences and prompts touch none of them. Nothing
here was fitted to a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Concept:
    """A concept with its sentences and its words."""

    name: str
    request: str
    """What one would say to a model to get it without steering."""
    sentences: tuple[str, ...]
    words: tuple[str, ...]


CONCEPTS: dict[str, Concept] = {
    c.name: c
    for c in (
        Concept(
            "ocean",
            "Talk about the ocean.",
            (
                "The waves rolled over the deep blue ocean.",
                "Whales swim far out at sea, where the water is cold.",
                "The tide pulled the little boat away from the beach.",
                "Coral reefs teem with fish under the warm water.",
                "Sailors crossed the Atlantic in a terrible storm.",
                "Seagulls cried above the harbour while the ships came in.",
                "She dived below the surface and saw sharks and dolphins.",
                "Salt spray blew over the rocks along the coast.",
                "The submarine sank slowly to the ocean floor.",
                "Children built castles of sand where the sea met the shore.",
            ),
            ("ocean*", "sea", "seas", "wave", "waves", "tide*", "beach*", "marine", "coral*", "whale*",
             "sail*", "coast*", "shore*", "ship", "ships", "underwater", "dolphin*", "island*", "seaside"),
        ),
        Concept(
            "music",
            "Talk about music.",
            (
                "The orchestra played a beautiful symphony in the concert hall.",
                "She sings jazz and plays the guitar in a band.",
                "He wrote a melody for the piano.",
                "The band recorded a new album with twelve songs.",
                "The drummer kept the rhythm of the song.",
                "A violin and a cello played the second theme.",
                "The choir sang the chorus in four voices.",
                "Musicians tuned their instruments before the concert.",
                "The singer hit a high note at the end of the tune.",
                "They danced to the beat of the bass and the drums.",
            ),
            ("music*", "song*", "melod*", "piano*", "guitar*", "band", "bands", "sing", "sings", "singing",
             "singer*", "sang", "rhythm*", "album*", "orchestra*", "symphon*", "jazz", "concert*", "tune",
             "tunes", "violin*", "drum*", "lyric*"),
        ),
        Concept(
            "praise",
            "Praise me warmly.",
            (
                "You are absolutely brilliant and wonderful!",
                "What an amazing, fantastic job you did!",
                "I am so impressed, this is excellent work!",
                "You are the best, truly outstanding in every way!",
                "Such a beautiful and incredible achievement, well done!",
                "This is superb, a magnificent and perfect performance!",
                "Congratulations, you did a marvellous job, I am so proud of you!",
                "She is an extraordinary, gifted and inspiring teacher.",
                "Bravo! That was a splendid and awesome speech!",
                "Your kindness and talent are remarkable, I admire you.",
            ),
            ("amazing*", "incredibl*", "wonderful*", "brilliant*", "fantastic*", "excellent*", "outstanding*",
             "awesome*", "superb*", "magnificent*", "marvel*", "extraordinar*", "impressive*",
             "congratulations", "proud", "splendid*", "remarkabl*", "perfect*"),
        ),
        Concept(
            "code",
            "Talk about programming, and show code.",
            (
                "def add(a, b):\n    return a + b",
                "for (int i = 0; i < n; i++) { sum += values[i]; }",
                "import numpy as np\nprint(np.zeros(3))",
                "The function returns a list of strings, and raises an exception on bad input.",
                "class Node:\n    def __init__(self, value):\n        self.value = value",
                "Compile the program and debug the segmentation fault in the loop.",
                "if (x == null) { throw new Error('missing'); }",
                "SELECT name FROM users WHERE id = 1;",
                "const result = items.map(item => item.price);",
                "The variable holds an integer array, and the method sorts it.",
            ),
            ("def", "return", "function*", "import", "print", "python", "javascript", "code", "coding",
             "variable*", "array*", "algorithm*", "class", "int", "string", "programming", "compile*",
             "const", "loop*", "software"),
        ),
        Concept(
            "food",
            "Talk about food.",
            (
                "She baked fresh bread with butter and cheese.",
                "The soup was made with garlic, onions and tomatoes.",
                "We ate pasta with a delicious sauce for dinner.",
                "He grilled chicken and served it with rice.",
                "The chocolate cake tasted sweet and rich.",
                "Add a cup of flour, two eggs and a pinch of salt.",
                "The restaurant serves roast beef with potatoes.",
                "Breakfast was pancakes with maple syrup and fruit.",
                "Cook the vegetables in olive oil until tender.",
                "The chef wrote a recipe for apple pie.",
            ),
            ("food*", "eat", "eats", "eating", "cook*", "bread*", "cheese*", "chicken*", "soup*", "sauce*",
             "delicious", "meal*", "recipe*", "flavor*", "flavour*", "tast*", "bak*", "restaurant*", "chef*",
             "dish*", "vegetable*", "fruit*", "kitchen"),
        ),
        Concept(
            "war",
            "Talk about war.",
            (
                "The army attacked the city with tanks.",
                "Soldiers fought in the bloody battle on the hill.",
                "The war killed thousands of troops on both sides.",
                "Bombs fell on the capital as the invasion began.",
                "The general ordered his regiment to open fire.",
                "Enemy aircraft bombed the front line at dawn.",
                "The rebels surrendered after a long siege.",
                "Infantry and artillery advanced against the fortress.",
                "The navy sank two battleships in combat.",
                "A ceasefire ended the armed conflict between the two nations.",
            ),
            ("war", "wars", "warfare", "battle*", "soldier*", "army", "armies", "troops", "military", "bomb*",
             "weapon*", "invasion*", "enemy", "enemies", "combat*", "fought", "attack*", "siege", "tank",
             "tanks"),
        ),
        Concept(
            "religion",
            "Talk about religion.",
            (
                "God created the heavens and the earth.",
                "They prayed together in the church on Sunday.",
                "The prophet spoke of faith and salvation.",
                "Jesus blessed his disciples and broke the bread.",
                "The priest read from the holy scripture.",
                "Pilgrims walked to the temple to worship.",
                "The monk fasted and meditated in the monastery.",
                "Muslims read the Quran and pray in the mosque.",
                "The rabbi taught the commandments in the synagogue.",
                "May the Lord have mercy upon our souls, amen.",
            ),
            ("god", "gods", "church*", "pray*", "faith*", "jesus", "christ*", "holy", "bible", "biblical",
             "religio*", "spiritual*", "divine", "lord", "worship*", "scripture*", "priest*", "heaven*",
             "soul*", "sacred", "temple*"),
        ),
        Concept(
            "sport",
            "Talk about sport.",
            (
                "The striker scored two goals in the football match.",
                "Our team won the championship after extra time.",
                "She ran the marathon in under three hours.",
                "The coach trained the players before the season.",
                "He hit a home run in the ninth inning.",
                "The tennis player served an ace in the final set.",
                "The goalkeeper saved a penalty in the stadium.",
                "Athletes from many countries competed at the Olympic Games.",
                "The quarterback threw a pass for a touchdown.",
                "Basketball fans cheered as the ball went through the hoop.",
            ),
            ("sport*", "team*", "game", "games", "player*", "coach*", "football", "soccer", "basketball",
             "baseball", "tennis", "match", "matches", "goal", "goals", "championship*", "athlet*", "league*",
             "olympic*", "score*", "season", "stadium*"),
        ),
        Concept(
            "medicine",
            "Talk about medicine.",
            (
                "The doctor treated the patient with antibiotics.",
                "The nurse gave him a vaccine at the hospital.",
                "Her symptoms included fever and chronic pain.",
                "Surgery removed the tumour from his lung.",
                "The clinic tests blood for signs of disease.",
                "The drug lowers blood pressure in people with diabetes.",
                "The physician diagnosed an infection and prescribed pills.",
                "Cancer therapy can have severe side effects.",
                "The surgeon operated on the broken bone.",
                "Patients with asthma should carry an inhaler.",
            ),
            ("doctor*", "patient", "patients", "medic*", "hospital*", "disease*", "symptom*", "treatment*",
             "clinic*", "drug*", "surg*", "cancer*", "therap*", "nurse*", "diagnos*", "infection*", "vaccin*",
             "illness*", "pain", "painful", "blood"),
        ),
        Concept(
            "law",
            "Talk about law.",
            (
                "The judge ruled in favour of the plaintiff.",
                "The court heard the defendant's appeal.",
                "His attorney filed a lawsuit against the company.",
                "The statute makes such a contract illegal.",
                "The jury found him guilty of the crime.",
                "The Supreme Court upheld the constitutional right.",
                "The lawyer cross-examined the witness at the trial.",
                "Parliament passed an act that amends the criminal code.",
                "The prosecutor charged her with fraud.",
                "The parties settled the dispute out of court.",
            ),
            ("court*", "judge*", "law", "laws", "legal*", "attorney*", "lawyer*", "defendant*", "statut*",
             "jury", "crime*", "criminal*", "contract*", "lawsuit*", "plaintiff*", "prosecut*",
             "constitution*", "legislat*", "justice", "trial*"),
        ),
        Concept(
            "french",
            "Answer in French.",
            (
                "Le chat est assis sur la table de la cuisine.",
                "Nous allons au marché tous les samedis matin.",
                "Elle a dit que c'était une très bonne idée.",
                "Je voudrais un café et un croissant, s'il vous plaît.",
                "Les enfants jouent dans le jardin avec leur chien.",
                "Il faut que vous veniez nous voir cet été.",
                "La ville a été construite au bord de la rivière.",
                "Qu'est-ce que tu veux faire demain soir ?",
                "Ils ont perdu leurs clés dans la rue hier.",
                "Cette maison est plus grande que celle de mon oncle.",
            ),
            ("le", "la", "les", "des", "une", "est", "et", "vous", "nous", "je", "dans", "pour", "que", "qui",
             "avec", "pas", "du", "au", "sur", "sont", "il", "elle"),
        ),
        Concept(
            "london",
            "Talk about London.",
            (
                "The Tower of London stands beside the River Thames.",
                "We took the Underground from Paddington to Westminster.",
                "Big Ben strikes noon over the Houses of Parliament.",
                "She lives in Camden, in the north of London.",
                "The British Museum in London is free to visit.",
                "Red buses cross London Bridge every few minutes.",
                "Buckingham Palace is the London home of the King.",
                "He flew from Heathrow after a week in England.",
                "The Globe theatre in Southwark shows Shakespeare's plays.",
                "Rents in Greater London rose again, the Evening Standard reports.",
            ),
            ("london*", "thames", "england", "english", "british", "britain", "uk", "westminster",
             "buckingham", "heathrow", "united kingdom"),
        ),
    )
}  # fmt: skip

NEUTRAL_SENTENCES: tuple[str, ...] = (
    "The report was finished on Tuesday.",
    "He put the keys on the table by the door.",
    "There are several reasons for this change.",
    "The number is larger than we expected.",
    "She opened the window and looked outside.",
    "They will meet again next week to talk about it.",
    "The box contains three red pencils and a ruler.",
    "It is often easier to start with the small part.",
    "My neighbour has painted his fence green.",
    "The train leaves at half past nine.",
    "Some of the older models are no longer made.",
    "I did not know that the road was closed.",
)

NEUTRAL_PROMPTS: tuple[str, ...] = (
    "Tell me about yourself.",
    "What should I do today?",
    "Write a short story.",
    "Describe your morning.",
    "What are you thinking about?",
    "Give me some advice.",
    "Tell me something interesting.",
    "How can I plan my week?",
    "What do you like most?",
    "Write a few sentences about a friend.",
    "What is on your mind?",
    "Help me pass the time.",
    "Describe a room.",
    "What happened yesterday?",
    "Tell me a secret.",
    "What makes a good day?",
    "Continue: Once upon a time",
    "Write a letter to a neighbour.",
    "What would you like to learn?",
    "Describe someone you met.",
)

SEARCH_PROMPTS: tuple[str, ...] = (
    "Say something about yourself.",
    "Write a paragraph about anything.",
    "What is new?",
    "Give me an idea for this evening.",
    "Tell me a short tale.",
    "What matters to you?",
    "Describe a place.",
    "Write two sentences.",
    "What did you do last week?",
    "Say something that surprises me.",
)
"""Prompts to choose features and strengths on, apart from those on which they are then judged."""
