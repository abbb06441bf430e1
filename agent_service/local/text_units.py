"""The units that text is made of: words, sentences, paragraphs, and the syllables of English words."""

import re

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_PARAGRAPH_BREAK = re.compile(r"\n[^\S\n]*\n\s*")
# An end mark, closing quotes or brackets, and then white space; the marks of Chinese and Japanese need none.
# Marks that none follows are looked at once, not once from each of them.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s)|[。！？]+[」』]*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|no|fig|approx|[a-z])\.$", re.IGNORECASE
)
_VOWELS = re.compile(r"[aeiouy]+")
_LONGEST_ABBREVIATION = 8


def split_words(text: str) -> list[str]:
    """The words in order: letters and digits, with apostrophes and hyphens inside."""
    return _WORD.findall(text)


def split_paragraphs(text: str) -> list[str]:
    """What stands between blank lines."""
    return [part.strip() for part in _PARAGRAPH_BREAK.split(text) if part.strip()]


def split_sentences(text: str) -> list[str]:
    """
    The sentences that hold a word, in order.

    A sentence ends at an end mark before white space, unless that belongs to a common abbreviation or an
    initial, and at the end of its paragraph.
    """
    sentences = []
    for paragraph in split_paragraphs(text):
        start = 0
        for end in _SENTENCE_END.finditer(paragraph):
            before = paragraph[max(start, end.end() - _LONGEST_ABBREVIATION) : end.end()]
            if _ABBREVIATION.search(before):
                continue
            sentences.append(paragraph[start : end.end()].strip())
            start = end.end()
        sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if _WORD.search(sentence)]


def count_syllables(word: str) -> int:
    """
    The syllables of an English word, estimated: groups of vowels, without a silent e at the end; at least 1.

    Right for most words, and for the sums that readability formulas are made for.
    """
    lowered = word.lower()
    count = len(_VOWELS.findall(lowered))
    if lowered.endswith("e") and not lowered.endswith(("le", "ee", "ye", "oe", "ue")):
        count -= 1
    if lowered.endswith("es") and not lowered.endswith(
        ("ses", "zes", "xes", "ches", "shes", "ges", "ces", "ees", "ies")
    ):
        count -= 1
    if lowered.endswith("ed") and not lowered.endswith(("ted", "ded", "eed", "ied")):
        count -= 1
    return max(count, 1)
