import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from agent_service.local.sentiment import judge_sentiment


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love this wonderful place!", "positive"),
        ("What a horrible, disgusting failure.", "negative"),
        ("The table has four legs.", "neutral"),
        ("not good", "negative"),
        (":)", "positive"),
        ("", "neutral"),
    ],
)
def test_the_label_is_what_a_reader_would_say(text: str, label: str) -> None:
    assert judge_sentiment(text).label == label


def test_one_sentence_has_exactly_the_scores_of_the_lexicon() -> None:
    text = "The food was GREAT, but the service was terrible :("
    expected = SentimentIntensityAnalyzer().polarity_scores(text)
    found = judge_sentiment(text)
    assert (found.compound, found.positive, found.neutral, found.negative) == (
        expected["compound"],
        expected["pos"],
        expected["neu"],
        expected["neg"],
    )


def test_a_longer_text_is_judged_by_sentence_and_lists_only_the_first() -> None:
    found = judge_sentiment("I love it. I hate it. It is. I love it.", max_sentences=2)
    assert found.sentence_count == 4
    assert [sentence.label for sentence in found.sentences] == ["positive", "negative"]
    assert found.compound == pytest.approx((0.6369 - 0.5719 + 0 + 0.6369) / 4, abs=1e-4)


@pytest.mark.timeout(20)
def test_a_sentence_without_end_takes_time_in_proportion() -> None:
    assert judge_sentiment("good " * 50_000).label == "positive"
