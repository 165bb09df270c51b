"""Goals in a configuration: what they fix, what they leave open, and what is refused."""

from __future__ import annotations

import pytest

from kdcache.errors import ConfigError
from kdcache.extract.goals import Asked, parse_wanted
from kdcache.target import target_spec
from kdcache.types import TargetSpec


def asked(entry, max_kl=None) -> Asked:
    (found,) = parse_wanted([entry], max_kl)
    assert isinstance(found, Asked)
    return found


def test_without_a_goal_targets_are_what_they_were():
    items = ["lattice", {"kind": "encoder_logits", "top_k": 4, "codec": "fp16"}]
    assert parse_wanted(items) == tuple(map(target_spec, items))


def test_a_goal_for_all_is_for_those_that_have_a_divergence():
    items = ["lattice", "hidden", {"kind": "decoder_logits", "max_kl": 0.5}]
    lattice, hidden, decoder = parse_wanted(items, 0.001)
    assert isinstance(hidden, TargetSpec)
    assert (lattice.max_kl, decoder.max_kl) == (0.001, 0.5), "its own goal comes first"


def test_what_is_written_is_fixed():
    entry = {
        "kind": "encoder_logits",
        "name": "frames",
        "max_kl": 0.01,
        "settings": {"top_p": 0.9},
        "top_k": 4,
        "codec": {"name": "root", "tail": None},
    }
    found = asked(entry)
    assert found.name == "frames"
    assert found.settings == {"top_p": 0.9, "top_k": 4}
    assert found.codec == {"name": "root", "tail": None}
    assert found.base == target_spec({k: v for k, v in entry.items() if k != "max_kl"})
    assert asked({"kind": "lattice", "codec": "log8"}, 1).codec == {"name": "log8"}


@pytest.mark.parametrize(
    ("entry", "measure", "band"),
    [
        ("encoder_logits", "kl_full", False),
        ({"kind": "encoder_logits", "samples": 12}, "kl_sampled", False),
        ({"kind": "encoder_logits", "samples": "auto"}, "kl_sampled", False),
        ("lattice", "kl", True),
        ({"kind": "lattice", "top_k": 2}, "kl", True),
        ({"kind": "lattice", "top_k": "auto"}, "kl_full", True),
        ({"kind": "lattice", "settings": {"top_k": "auto", "width": 4}}, "kl_full", False),
        ({"kind": "lattice", "epsilon": None}, "kl", False),
    ],
)
def test_what_counts(entry, measure, band):
    found = asked(entry, 0.1)
    assert (found.measure, found.band) == (measure, band)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"kind": "hidden", "max_kl": 1}, "'hidden' has a max_kl, but keeps vector records"),
        ({"kind": "lattice", "max_kl": 0}, "is 0; expected nats a frame, token or node, above 0"),
        ({"kind": "lattice", "max_kl": True}, "is True; expected nats"),
        ({"kind": "lattice", "max_kl": "small"}, "is 'small'; expected nats"),
        ({"kind": "lattice", "max_kl": float("nan")}, "is nan; expected nats"),
        ({"kind": "latice", "max_kl": 1}, "Did you mean 'lattice'"),
        ({"kind": "lattice", "max_kl": 1, "topk": 2}, "Did you mean 'top_k'"),
        ({"kind": "lattice", "max_kl": 1, "epsilon": 3}, "epsilon is 3"),
        ({"kind": "lattice", "max_kl": 1, "codec": {"bits": 3}}, "a codec needs a name"),
    ],
)
def test_what_is_refused(entry, told):
    with pytest.raises(ConfigError, match=told):
        parse_wanted([entry])


def test_a_goal_for_nobody():
    with pytest.raises(ConfigError, match=r"no target has a divergence \(hidden\)"):
        parse_wanted(["hidden"], 0.1)
