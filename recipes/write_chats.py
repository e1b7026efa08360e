"""Chats that a model writes itself: questions of ours on everyday subjects, answers sampled from the model.

They show what features do while the model writes, and they are text that may be kept in this repository: the
shipped atlas points into them. One JSON line per chat, with `messages`; the same command writes the same file
on the same machine. It goes on where it stopped.

    python recipes/write_chats.py recipes/chats.jsonl --chats 768
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.models.model import load

SUBJECTS = (
    "the ocean", "whales", "a storm at sea", "beaches", "a lighthouse", "fishing", "coral reefs", "rivers",
    "mountains", "deserts", "forests", "the weather", "snow", "gardens", "birds", "horses", "cats and dogs",
    "insects", "dinosaurs", "the moon", "the planets", "space travel", "volcanoes", "earthquakes", "maps",
    "bread", "cheese", "soup", "a birthday cake", "coffee", "cooking for friends", "a restaurant", "spices",
    "fruit", "breakfast", "the piano", "jazz", "an orchestra", "a rock band", "writing a song", "dancing",
    "opera", "painting", "photography", "film", "the theatre", "poetry", "novels", "fairy tales", "football",
    "tennis", "swimming", "the Olympic Games", "running a marathon", "chess", "basketball", "cycling",
    "climbing", "doctors", "a hospital", "vaccines", "the heart", "sleep", "a broken leg", "allergies",
    "cancer research", "teeth", "mental health", "a court case", "lawyers", "a contract", "human rights",
    "elections", "a constitution", "taxes", "the police", "prisons", "soldiers", "the Second World War",
    "a battle", "peace treaties", "castles", "the Roman Empire", "ancient Egypt", "pirates",
    "kings and queens", "a revolution", "God", "prayer", "Buddhism", "Islam", "Christmas", "a temple",
    "angels", "philosophy", "Python code that sorts a list", "a JavaScript function that adds two numbers",
    "an SQL query", "a C program that prints primes", "HTML for a small page", "debugging", "databases",
    "computer networks", "artificial intelligence", "robots", "cybersecurity", "algebra", "geometry",
    "probability", "prime numbers", "calculus", "physics", "electricity", "magnets", "light", "atoms",
    "chemistry", "water", "genetics", "evolution", "cells", "bacteria", "plants", "London", "Paris",
    "New York", "Tokyo", "Rome", "San Francisco", "a small village", "trains", "aeroplanes", "cars", "ships",
    "a bicycle trip", "hotels", "learning French", "a letter in French", "a dialogue in Spanish",
    "German grammar", "Italian food", "translation", "school", "a good teacher", "homework", "university",
    "a job interview", "an office", "money", "banks", "a small company", "the stock market", "shopping",
    "fashion", "a wedding", "grandparents", "a baby", "friendship", "love", "anger", "fear", "happiness",
    "grief", "courage", "a compliment for a colleague", "a thank-you note", "an apology", "a complaint",
    "a joke", "a riddle", "a secret", "a dream", "ghosts", "magic", "dragons", "a detective", "time travel",
    "aliens", "superheroes", "a treasure hunt", "houses", "furniture", "cleaning", "gardening tools",
    "clocks", "toys", "video games", "television", "newspapers", "the internet", "telephones",
)  # fmt: skip
FORMS = (
    "Tell me about {}.",
    "Write a short story about {}.",
    "What should everybody know about {}?",
    "Explain {} to a child.",
    "Write a few lines of advice on {}.",
    "What are the good and the bad sides of {}?",
    "Write a dialogue about {}.",
    "Give me five facts about {}.",
)
_AT_ONCE = 96


def main() -> None:
    """Write chats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chats", type=int, default=768)
    parser.add_argument("--tokens", type=int, default=96, help="at most so many per answer")
    parser.add_argument("--model", default="smollm2")
    given = parser.parse_args()
    questions = [form.format(subject) for form in FORMS for subject in SUBJECTS]
    random.Random(0).shuffle(questions)
    done = given.out.read_text(encoding="utf-8").count("\n") if given.out.exists() else 0
    model = load(given.model)
    for at in range(done, min(given.chats, len(questions)), _AT_ONCE):
        batch = questions[at : min(at + _AT_ONCE, given.chats)]
        prompts = model.encode_prompts(batch)
        sampling = Sampling(max_tokens=given.tokens, temperature=0.8, top_p=0.95, seed=at)
        answers = generation.answers(Generator(model, prompts, sampling))
        lines = []
        for question, answer in zip(batch, answers, strict=True):
            said = {"role": "assistant", "content": model.decode(answer.token_ids).strip()}
            asked = {"role": "user", "content": question}
            lines.append(json.dumps({"messages": [asked, said]}, ensure_ascii=False))
        with given.out.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        print(f"{at + len(batch)} of {given.chats} chats", flush=True)


if __name__ == "__main__":
    main()
