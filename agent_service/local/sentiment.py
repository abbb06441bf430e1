"""The sentiment of a text, by the VADER lexicon for English."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from agent_service.local.text_units import split_sentences

Label = Literal["positive", "neutral", "negative"]

#: The compound score from which a text counts as positive; below its negative it counts as negative.
THRESHOLD = 0.05
#: VADER's time grows with the square of a sentence's words, so a longer one is read in pieces.
_PIECE_WORDS = 100


class _Lexicon(Protocol):
    def polarity_scores(self, text: str) -> dict[str, float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceSentiment:
    """One sentence with its compound score, -1 (negative) to 1 (positive)."""

    text: str
    compound: float
    label: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentiment:
    """
    The sentiment of a text: the means over its sentences.

    `compound` runs from -1 to 1; `positive`, `neutral` and `negative` are shares that add up to 1. `label` is
    positive from 0.05, negative to -0.05, and neutral between. `sentences` holds the first ones only.
    """

    task: Literal["sentiment"] = "sentiment"
    compound: float
    label: Label
    positive: float
    neutral: float
    negative: float
    sentence_count: int
    sentences: tuple[SentenceSentiment, ...]


def judge_sentiment(text: str, *, max_sentences: int = 50) -> Sentiment:
    """
    Judge each sentence and the whole.

    A text of one sentence has exactly VADER's scores; one without any word is neutral.
    """
    # A text without words may still say something: a smiley.
    sentences = split_sentences(text) or [text]
    scores = [_score(sentence) for sentence in sentences]
    compound = _mean(scores, "compound")
    judged = [
        SentenceSentiment(text=sentence, compound=score["compound"], label=_label(score["compound"]))
        for sentence, score in zip(sentences[:max_sentences], scores, strict=False)
        if sentence.strip()
    ]
    return Sentiment(
        compound=compound,
        label=_label(compound),
        positive=_mean(scores, "pos"),
        neutral=_mean(scores, "neu"),
        negative=_mean(scores, "neg"),
        sentence_count=len(sentences) if text.strip() else 0,
        sentences=tuple(judged),
    )


@cache
def _lexicon() -> _Lexicon:
    """Read once (about 30 ms); it has no state of a call, so threads may share it."""
    lexicon: _Lexicon = SentimentIntensityAnalyzer()
    return lexicon


def _score(sentence: str) -> dict[str, float]:
    words = sentence.split()
    if not words:
        return {"compound": 0.0, "pos": 0.0, "neu": 1.0, "neg": 0.0}
    if len(words) <= _PIECE_WORDS:
        return _lexicon().polarity_scores(sentence)
    starts = range(0, len(words), _PIECE_WORDS)
    pieces = [_lexicon().polarity_scores(" ".join(words[start : start + _PIECE_WORDS])) for start in starts]
    return {name: _mean(pieces, name) for name in ("compound", "pos", "neu", "neg")}


def _mean(scores: list[dict[str, float]], name: str) -> float:
    return round(sum(score[name] for score in scores) / len(scores), 4)


def _label(compound: float) -> Label:
    if compound >= THRESHOLD:
        return "positive"
    return "negative" if compound <= -THRESHOLD else "neutral"
