"""The model of the rest as a codec's setting: through JSON, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from kdcache.codec import PosteriorRecord, TailModel, make_codec
from kdcache.errors import ConfigError
from kdcache.testing.records import random_posterior

WEIGHTS = np.random.default_rng(0).random((3, 10))
MODEL = TailModel.from_weights(WEIGHTS, np.arange(10) % 3)


def test_it_comes_back_through_json() -> None:
    again = TailModel.from_dict(json.loads(json.dumps(MODEL.to_dict())))
    assert np.array_equal(again.log_weights, MODEL.log_weights)
    assert np.array_equal(again.row_V, MODEL.row_V)
    assert again.vocabulary == 10


def test_a_codec_hands_it_to_the_records_that_it_decodes() -> None:
    codec = make_codec("posterior", {"name": "root", "tail": MODEL.to_dict()})
    record = random_posterior(np.random.default_rng(0), 5, 3, vocab=10)
    decoded = codec.decode(codec.encode(record))
    assert isinstance(decoded, PosteriorRecord)
    assert decoded.tail is not None
    assert np.array_equal(decoded.tail.log_weights, MODEL.log_weights)
    plain = make_codec("posterior", {"name": "root"})
    assert np.array_equal(plain.encode(record)["packed"], codec.encode(record)["packed"])
    assert plain.to_dict() == {"name": "root", "bits": 7}
    assert make_codec("posterior", codec.to_dict()).to_dict() == codec.to_dict()


def test_one_that_is_still_to_be_estimated_packs_nothing() -> None:
    codec = make_codec("posterior", {"name": "root", "tail": "prior"})
    assert codec.to_dict()["tail"] == "prior"
    with pytest.raises(ConfigError, match="to be estimated from a teacher first"):
        codec.encode(random_posterior(np.random.default_rng(0), 5, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": "*"}, "no table of weights"),
        ({"codes": ""}, "no table of weights"),
        ({"rows": 2}, "no table of weights"),
        ({"rows": 0, "codes": ""}, "rows of weights that it does not have"),
        ({"row_of": None}, "no table of weights"),
        ({"vocabulary": 9}, "no table of weights"),
    ],
)
def test_what_is_no_table_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TailModel.from_dict({**MODEL.to_dict(), **changes})


def test_rows_that_are_not_there() -> None:
    short = TailModel(MODEL.codes_RV[:2], MODEL.row_V)
    with pytest.raises(ConfigError, match="rows of weights that it does not have"):
        TailModel.from_dict(short.to_dict())


@pytest.mark.parametrize("tail", ["likely", 3, ["prior"]])
def test_another_setting_is_refused(tail: Any) -> None:
    with pytest.raises(ConfigError, match="expected one of prior, top"):
        make_codec("posterior", {"name": "root", "tail": tail})
