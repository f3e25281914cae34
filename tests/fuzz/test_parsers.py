"""A few seconds of the fuzzer of parsers."""

import random

import pytest

from tests.fuzz.parsers import run


# pycocotools' decode is behind numpy's times.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_threat_38_any_answer_is_parsed_as_its_grammar_says() -> None:
    campaign = run(random.SystemRandom().randrange(2**32), count=6000, seconds=60)
    print(campaign.summary("parsers"))
    assert {"objects", "none", "masks", "masks and outlines", "grammars"} <= set(campaign.outcomes)
