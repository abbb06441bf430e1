import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.local.text_statistics import STOP_WORDS, Term, describe_text

TEXT = "The cat sat. The cat ate fish!\n\nA dog, it seems, ate the cat’s cake."


def test_counts_and_terms_are_those_of_the_text() -> None:
    found = describe_text(TEXT, terms=3)
    assert (found.characters, found.characters_without_spaces) == (len(TEXT), 53)
    assert (found.words, found.unique_words, found.sentences, found.paragraphs) == (15, 11, 3, 2)
    assert found.average_sentence_words == 5
    assert found.frequent_terms == (
        Term(term="ate", count=2),
        Term(term="cat", count=2),
        Term(term="cake", count=1),
    )


def test_readability_follows_the_formulas_of_flesch_and_kincaid() -> None:
    found = describe_text("The cat sat on the table.")
    assert found.syllables == 7
    assert found.flesch_reading_ease == pytest.approx(206.835 - 1.015 * 6 - 84.6 * 7 / 6, abs=0.01)
    assert found.flesch_kincaid_grade == pytest.approx(0.39 * 6 + 11.8 * 7 / 6 - 15.59, abs=0.01)


def test_reading_time_is_that_of_238_words_a_minute() -> None:
    assert describe_text("word " * 238).reading_time_seconds == 60


def test_a_text_without_words_has_no_averages() -> None:
    found = describe_text(" \n ... ")
    assert (found.words, found.sentences, found.frequent_terms) == (0, 0, ())
    assert (found.average_word_length, found.flesch_reading_ease, found.flesch_kincaid_grade) == (None,) * 3


@given(st.text())
def test_any_text_has_statistics_that_fit_together(text: str) -> None:
    found = describe_text(text)
    assert found.unique_words <= found.words <= found.characters
    assert (found.words > 0) == (found.sentences > 0) == (found.flesch_reading_ease is not None)
    assert not any(term.term in STOP_WORDS for term in found.frequent_terms)
