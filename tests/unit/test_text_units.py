import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.local.text_units import count_syllables, split_paragraphs, split_sentences, split_words


def test_words_keep_apostrophes_and_hyphens_and_drop_the_rest() -> None:
    assert split_words("Don’t mother-in-law, café 42 _x_ -- 3.5!") == [
        "Don’t",
        "mother-in-law",
        "café",
        "42",
        "x",
        "3",
        "5",
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Smith paid 3.50 dollars. He left.", ["Mr. Smith paid 3.50 dollars.", "He left."]),
        ('She said "no." Then she left...', ['She said "no."', "Then she left..."]),
        ("A title\n\nA sentence", ["A title", "A sentence"]),
        ("今日は。元気?", ["今日は。", "元気?"]),
        ("Fruit, e.g. J. R. apples, is good.", ["Fruit, e.g. J. R. apples, is good."]),
        ("... !? \n", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_paragraphs_stand_between_blank_lines() -> None:
    assert split_paragraphs("\n a\nb \n \t\n\n c\n") == ["a\nb", "c"]


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        ("cat", 1),
        ("table", 2),
        ("make", 1),
        ("makes", 1),
        ("walked", 1),
        ("wanted", 2),
        ("boxes", 2),
        ("agree", 2),
        ("hmm", 1),
        ("banana", 3),
    ],
)
def test_syllables_of_common_words_are_right(word: str, syllables: int) -> None:
    assert count_syllables(word) == syllables


@given(st.text())
def test_sentences_lose_no_word(text: str) -> None:
    assert [word for sentence in split_sentences(text) for word in split_words(sentence)] == split_words(text)
