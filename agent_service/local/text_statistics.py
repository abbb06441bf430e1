"""Counts, readability and most frequent terms of a text."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from agent_service.local.text_units import count_syllables, split_paragraphs, split_sentences, split_words

#: The speed of silent reading that the reading time is computed with.
WORDS_PER_MINUTE = 238

#: Words that say little about what an English text is about.
STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are aren't as at be because been before
    being below between both but by can can't cannot could couldn't did didn't do does doesn't doing
    don't down during each few for from further had hadn't has hasn't have haven't having he her here
    hers herself him himself his how i i'm i've if in into is isn't it it's its itself just let's may me
    might more most must my myself no nor not of off on once one only or other our ours ourselves out
    over own same shall she should shouldn't so some such than that that's the their theirs them
    themselves then there there's these they they're this those through to too under until up upon us
    very was wasn't we we're were weren't what when where which while who whom why will with won't would
    wouldn't you you're your yours yourself yourselves
    """.split()  # noqa: SIM905 - a list literal would be one word a line
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word in lower case, and how often it stands in the text."""

    term: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStatistics:
    """
    The statistics of one text.

    With w words, s sentences and y syllables (estimated, for English): `flesch_reading_ease` is
    206.835 - 1.015 w/s - 84.6 y/w (100 is very easy, below 30 is academic), and `flesch_kincaid_grade` is
    0.39 w/s + 11.8 y/w - 15.59 (years of school). Averages and readability are null when there is no word.
    """

    task: Literal["text_statistics"] = "text_statistics"
    characters: int
    characters_without_spaces: int
    words: int
    unique_words: int
    sentences: int
    paragraphs: int
    syllables: int
    average_word_length: float | None
    average_sentence_words: float | None
    flesch_reading_ease: float | None
    flesch_kincaid_grade: float | None
    reading_time_seconds: float
    frequent_terms: tuple[Term, ...]


def describe_text(text: str, *, terms: int = 10) -> TextStatistics:
    """Compute the statistics, with at most `terms` frequent terms: no stop words, no single letters."""
    words = split_words(text)
    lowered = [word.lower().replace("’", "'") for word in words]
    counts = Counter(lowered)
    # Each different word is looked at once: long texts repeat themselves.
    syllables = sum(count_syllables(word) * count for word, count in counts.items())
    sentences = len(split_sentences(text))
    words_per_sentence = len(words) / sentences if words else None
    syllables_per_word = syllables / len(words) if words else None
    return TextStatistics(
        characters=len(text),
        characters_without_spaces=sum(map(len, text.split())),
        words=len(words),
        unique_words=len(counts),
        sentences=sentences,
        paragraphs=len(split_paragraphs(text)),
        syllables=syllables,
        average_word_length=_rounded(sum(map(len, words)) / len(words)) if words else None,
        average_sentence_words=_rounded(words_per_sentence),
        flesch_reading_ease=_linear(206.835, -1.015, words_per_sentence, -84.6, syllables_per_word),
        flesch_kincaid_grade=_linear(-15.59, 0.39, words_per_sentence, 11.8, syllables_per_word),
        reading_time_seconds=round(len(words) * 60 / WORDS_PER_MINUTE, 1),
        frequent_terms=_frequent_terms(counts, terms),
    )


def _frequent_terms(counts: Counter[str], limit: int) -> tuple[Term, ...]:
    """The most frequent first; equally frequent ones in alphabetical order."""
    telling = [(word, count) for word, count in counts.items() if len(word) > 1 and word not in STOP_WORDS]
    telling.sort(key=lambda pair: (-pair[1], pair[0]))
    return tuple(Term(term=word, count=count) for word, count in telling[:limit])


def _linear(
    constant: float, per_sentence: float, words: float | None, per_word: float, syllables: float | None
) -> float | None:
    if words is None or syllables is None:
        return None
    return _rounded(constant + per_sentence * words + per_word * syllables)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
