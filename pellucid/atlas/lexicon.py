"""Words that everybody knows: what is a function word, how a language is recognised, what a topic speaks of.

Written by hand for labels that come without a model. A topic is known by its everyday words alone, so that
most words belong to none; a topic is named only where several of its words are found together. Nothing here
is measured, and none of it decides whether a label is reliable: that is done on text (`scoring`).
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
    "a about above after again against all also am an and any are as at be because been before being "
    "below between both but by can could did do does doing down during each either else ever every few "
    "for from further had has have having he her here hers herself him himself his how however i if in "
    "into is it its itself just let me might mine more most much must my myself neither no nor not of off "
    "on once one only or other our ours ourselves out over own per quite rather s same shall she should "
    "since so some such t than that the their theirs them themselves then there these they this those "
    "though through thus till to too under until up upon us very was we were what when where whether "
    "which while who whom whose why will with within without would yet you your yours yourself"
)
"""English words that hold a sentence together."""

LANGUAGES = {
    "French": _words(
        "le la les un une des du de et est dans que qui pour pas sur au aux avec ce cette ces sont par "
        "plus vous nous il elle ils être à où votre vos leur mais ou si ne se sa son ses comme tout "
        "lorsque peut"
    ),
    "German": _words(
        "der die das den dem des ein eine einen einem einer und ist nicht mit von zu auf für im sich auch "
        "wird werden es sie ich wir wenn oder aber nur noch bei nach aus als wie kann sind zum zur über "
        "durch dass"
    ),
    "Spanish": _words(
        "el la los las un una de del y es en que por para con no se su sus lo como más al este esta son o "
        "si pero ha hay ser está puede cuando también muy le nos sobre entre sin"
    ),
    "Italian": _words(
        "il lo la gli le un una uno di del della dei delle e è in che per con non si su al alla da dal "
        "sono come più questo questa anche ma o se nel nella ci loro essere può quando"
    ),
}
"""Function words of languages that are often found among English texts."""

TOPICS = {
    "music": _words(
        "music musical song songs sing singing singer sang melody melodies piano guitar violin drum drums "
        "band orchestra album concert jazz rock opera chord chords tune rhythm lyrics choir symphony "
        "notes instrument"
    ),
    "food": _words(
        "food eat eating ate bread cheese meat fish fruit rice sugar salt butter soup cake meal dinner "
        "lunch breakfast cook cooking cooked recipe kitchen restaurant flavor taste delicious chocolate "
        "vegetables egg eggs milk coffee tea wine beer sauce chicken dish dishes ingredients"
    ),
    "the sea": _words(
        "sea ocean ship ships boat boats sail sailing sailor whale whales captain harbor island islands "
        "beach coast shore wave waves tide voyage vessel deck crew fishing mast shark navy port"
    ),
    "war": _words(
        "war wars army soldier soldiers battle fight fighting enemy enemies weapon weapons gun guns "
        "troops military attack attacks attacked killed bomb bombs invasion defeat victory peace combat "
        "navy forces"
    ),
    "law": _words(
        "law laws court courts judge judges legal lawyer lawyers trial jury crime criminal police prison "
        "arrest arrested guilty justice attorney charges charged sentence sentenced convicted case cases "
        "illegal murder"
    ),
    "politics": _words(
        "government president minister parliament congress senate election elections vote votes party "
        "political policy campaign democracy republican democrat labour conservative leader senator "
        "governor mayor treaty constitution citizens nation national secretary"
    ),
    "money": _words(
        "money dollar dollars euro euros pound pounds bank banks price prices pay paid cost costs market "
        "markets economy economic trade tax taxes debt budget profit profits shares stock sales firm "
        "company companies business growth investment financial finance rates loan"
    ),
    "sport": _words(
        "game games team teams player players play played match win won football soccer rugby tennis "
        "cricket basketball baseball hockey goal goals score scored coach season league cup championship "
        "champion race olympic final injury stadium"
    ),
    "health": _words(
        "health doctor doctors nurse hospital patient patients medical medicine disease diseases cancer "
        "drug drugs treatment symptoms pain virus infection surgery heart blood brain therapy vaccine "
        "sick illness"
    ),
    "the body": _words(
        "hand hands head face eye eyes arm arms leg legs foot feet finger fingers hair mouth ear ears "
        "nose skin neck shoulder shoulders knee back chest lips teeth tongue bone bones muscle muscles"
    ),
    "animals": _words(
        "animal animals dog dogs cat cats bird birds horse horses cow cows sheep pig fish wolf lion tiger "
        "bear elephant monkey mouse rat snake insect insects bee bees fox rabbit pet pets wild species"
    ),
    "plants": _words(
        "tree trees plant plants flower flowers leaf leaves grass garden forest seed seeds root roots "
        "fruit branch branches wood woods soil grow growing crop crops farm harvest"
    ),
    "weather": _words(
        "weather rain snow storm storms wind winds cloud clouds sun sunny cold hot warm temperature ice "
        "fog thunder lightning climate dry wet heat hurricane flood"
    ),
    "family": _words(
        "family mother father mom dad son daughter brother sister wife husband child children parents "
        "parent baby uncle aunt cousin grandmother grandfather marriage married wedding grandma nephew"
    ),
    "people": _words(
        "man men woman women people person boy boys girl girls guy guys lady gentleman human humans folks "
        "everyone someone anybody somebody nobody"
    ),
    "feelings": _words(
        "love hate fear happy happiness sad sadness angry anger joy hope afraid feel feeling feelings "
        "felt emotion emotions proud shame guilt jealous lonely excited nervous worried tears cry crying "
        "smile"
    ),
    "religion": _words(
        "god gods lord church religion religious faith prayer pray priest bible holy soul heaven hell "
        "angel jesus christ christian muslim islam allah prophet temple sin worship divine spirit"
    ),
    "school": _words(
        "school schools student students teacher teachers teach teaching class classes university college "
        "education study studies learn learning exam lesson lessons degree homework professor academic"
    ),
    "science": _words(
        "science scientific scientist scientists research theory experiment experiments physics chemistry "
        "biology energy data evidence laboratory study hypothesis particles atoms molecules cells dna "
        "researchers"
    ),
    "mathematics": _words(
        "math mathematics number numbers equation equations function sum theorem proof algebra geometry "
        "integer matrix vector polynomial multiply divide plus minus fraction angle triangle variable"
    ),
    "computers": _words(
        "computer computers software program programs code data file files server servers network "
        "internet web website online system systems user users password email digital technology "
        "technologies install database hardware version windows linux app apps security"
    ),
    "code": _words(
        "def return self import class function var const let new null true false none int str if else "
        "elif public static void this string list dict print args err func type struct prototype"
    ),
    "places to live": _words(
        "house houses home homes room rooms door doors window windows floor kitchen bed bedroom wall "
        "walls roof building buildings apartment garden stairs hall street"
    ),
    "travel": _words(
        "travel trip journey road roads train trains car cars bus plane flight airport drive driving "
        "ticket hotel tourist passengers station map route traffic vacation"
    ),
    "countries": _words(
        "america american england english britain british france french germany german china chinese "
        "japan japanese india indian russia russian spain spanish italy italian europe european africa "
        "african canada australia mexico iraq iran israel turkey greece ireland scotland uk us usa"
    ),
    "cities": _words(
        "city cities town towns london paris york washington berlin rome tokyo boston chicago village "
        "moscow beijing madrid california texas los angeles san francisco"
    ),
    "time": _words(
        "time day days night week weeks month months year years hour hours minute minutes morning evening "
        "afternoon today tomorrow yesterday century decade moment second seconds ago"
    ),
    "dates": _words(
        "january february march april may june july august september october november december monday "
        "tuesday wednesday thursday friday saturday sunday"
    ),
    "numbers": _words(
        "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
        "hundreds thousand thousands million millions billion billions dozen first second third half"
    ),
    "colours": _words(
        "red blue green yellow black white brown grey gray orange purple pink golden silver dark bright "
        "color colour colors colours"
    ),
    "size": _words(
        "big small large little huge tiny long short tall great enormous vast wide narrow high low deep "
        "giant larger smaller bigger greater largest smallest biggest size"
    ),
    "films and shows": _words(
        "film films movie movies actor actors actress director scene scenes screen cinema hollywood star "
        "stars show television tv series episode drama comedy oscar award awards theatre"
    ),
    "books and writing": _words(
        "book books novel story stories write writing writer wrote written author poem poetry poet read "
        "reader reading chapter page pages literature library newspaper magazine publish published"
    ),
    "art": _words(
        "art artist artists painting paintings paint painted museum gallery sculpture drawing portrait "
        "design style picture pictures"
    ),
    "clothes": _words(
        "clothes clothing dress shirt shoes hat coat jacket wear wearing wore pants boots suit fashion "
        "cotton silk"
    ),
    "space": _words(
        "space planet planets earth moon sun star stars galaxy universe orbit rocket nasa satellite "
        "astronaut telescope mars solar"
    ),
    "death": _words(
        "death dead die died dying kill killed murder grave funeral suicide corpse victim victims buried "
        "burial"
    ),
    "speech": _words(
        "say said says tell told speak speaking spoke talk talking talked ask asked answer answered reply "
        "replied call called shout shouted whisper voice word words conversation"
    ),
    "thinking": _words(
        "think thought thinking know known knew believe believed understand understood remember forget "
        "idea ideas mind opinion guess suppose imagine wonder consider realize reason"
    ),
    "moving": _words(
        "go going went come coming came run running ran walk walking walked move moved jump fly flew fall "
        "fell rise climb leave left arrive arrived return returned turn turned"
    ),
    "praise": _words(
        "good great amazing excellent wonderful best better beautiful perfect fantastic brilliant awesome "
        "incredible outstanding nice lovely impressive superb"
    ),
    "blame": _words(
        "bad terrible awful worst worse horrible wrong poor stupid ugly boring evil useless ridiculous "
        "disgusting annoying pathetic fail failed failure"
    ),
    "certainty": _words(
        "maybe perhaps probably possibly likely unlikely certain certainly surely definitely sure doubt "
        "possible impossible might could uncertain obviously clearly"
    ),
    "cause": _words(
        "because cause causes caused reason reasons result results effect effects due therefore thus "
        "hence lead leads led consequence consequences why"
    ),
    "contrast": _words(
        "but however although though despite yet nevertheless whereas while instead unlike rather "
        "otherwise still"
    ),
    "negation": _words(
        "not no never none nothing nobody nor neither cannot can't don't doesn't didn't won't isn't "
        "wasn't without nowhere"
    ),
}
"""Topics, each with some of its everyday words in lower case."""

_TOPICS_OF: dict[str, tuple[str, ...]] = {}
for _topic, _members in TOPICS.items():
    for _word in _members:
        _TOPICS_OF[_word] = (*_TOPICS_OF.get(_word, ()), _topic)

PUNCTUATION = {
    ",": "commas",
    ".": "full stops",
    "?": "question marks",
    "!": "exclamation marks",
    ":": "colons",
    ";": "semicolons",
    "-": "hyphens",
    "(": "opening brackets",
    ")": "closing brackets",
    '"': "quotation marks",
    "'": "apostrophes",
    "/": "slashes",
    "=": "equals signs",
    "*": "asterisks",
    "_": "underscores",
    "\n": "line breaks",
    " ": "spaces",
    "<|endoftext|>": "the end of a text",
    "<|im_start|>": "the start of a chat message",
    "<|im_end|>": "the end of a chat message",
}
"""What some tokens are called."""


def topic_of(words: list[str], *, share: float = 0.5) -> str | None:
    """The topic that words have in common: of at least two, and of that share of them; else none.

    Args:
        words: in lower case, the weightiest first.
        share: of the words that a topic must hold.
    """
    votes: dict[str, int] = {}
    for word in words:
        for topic in _TOPICS_OF.get(word, ()):
            votes[topic] = votes.get(topic, 0) + 1
    if not votes:
        return None
    best = max(votes, key=lambda topic: votes[topic])  # of equals the one met first
    return best if votes[best] >= max(2, share * len(words)) else None
