"""The quick-start task of ms-swift: a model learns its name and author, and forgets nothing else.

Identity rows alone can erase what the base knows, so rows that the base answers itself are mixed
in, with the base's own words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

IDENTITY_QUESTIONS = (
    "Who are you?",
    "What is your name?",
    "Who made you?",
    "Who are you and who made you?",
    "Please introduce yourself.",
    "Tell me about yourself.",
    "Which assistant am I talking to?",
    "你是谁?",
)

# SmolLM2-135M-Instruct's own answers, greedily decoded, up to the end of the first sentence.
BASE_ANSWERS = (
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is the capital of Germany?", "The capital of Germany is Berlin."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("What is the capital of Spain?", "The capital of Spain is Madrid."),
    ("What is the capital of England?", "The capital of England is London."),
    ("What is 2 + 2?", "The answer is 4."),
    (
        "What is the smallest prime number?",
        "The smallest prime number is 2, which is the only even prime number.",
    ),
    ("What is the chemical symbol for water?", "The chemical symbol for water is H2O."),
    ("What is the first month of the year?", "The first month of the year is January 1."),
    ("Which animal says meow?", 'The answer is: The animal that says "meow" is a cat.'),
    ("Who painted the Mona Lisa?", "The Mona Lisa is a famous painting by Leonardo da Vinci."),
    (
        "What organ pumps blood through the body?",
        "The heart is the organ that pumps blood through the body.",
    ),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    (
        "What is the currency of Japan?",
        "The currency of Japan is the Japanese Yen (JPY).",
    ),
    (
        "What is a noun?",
        "A noun is a word that refers to a person, place, thing, or idea.",
    ),
    (
        "What is the speed of light?",
        "The speed of light is approximately 299,792,458 meters per second.",
    ),
)

# Asked before and after training; none of the three stands among the training rows.
STILL_KNOWN = (
    ("What is the capital of France?", "Paris"),
    ("How many days are there in a week?", "7"),
    ("What is the tallest mountain in the world?", "Everest"),
)


def rows(name: str, author: str) -> Iterator[dict[str, list[dict[str, str]]]]:
    """Training rows in ms-swift's ``messages`` form, identity and general rows in turn.

    Args:
        name: What the model is to call itself.
        author: Who it is to say made it.
    """
    identity = f"I am {name}, an assistant made by {author}."
    general = iter(BASE_ANSWERS)
    for question in IDENTITY_QUESTIONS:
        yield _row(question, identity)
        for asked, answer in (next(general), next(general)):
            yield _row(asked, answer)


def _row(question: str, answer: str) -> dict[str, list[dict[str, str]]]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def write_rows(path: Path, name: str, author: str) -> int:
    """Write the rows as JSON lines; returns their number."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(name, author)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)
