"""A model of the rest is estimated once, before a cache is begun, and then kept."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest
import yaml

from kdcache.codec import TailModel
from kdcache.errors import ConfigError, SpecMismatchError, TeacherError
from kdcache.extract import ExtractConfig, prepare
from kdcache.target import target_spec
from kdcache.target.draw import generator_for
from tests.unit.extract.extract_fakes import (
    ADAPTER,
    extract_here,
    save_corpus,
    save_fake_teacher,
)


@pytest.fixture
def place(tmp_path):
    save_fake_teacher(tmp_path / "teacher")
    save_corpus(tmp_path / "wav", [4000, 8000, 12000, 6000])
    return tmp_path


def config(place, tail="prior", cache="cache", **changes):
    codec = {"name": "root", "bits": 6, **({} if tail is None else {"tail": tail})}
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / cache)},
        "targets": [{"kind": "encoder_logits", "top_k": 1, "codec": codec}],
        "unit_utterances": 2,
    }
    return ExtractConfig.model_validate({**settings, **changes})


def tail_of(ready):
    return ready.spec.targets[0].codec["tail"]


def test_the_table_is_in_the_spec_and_makes_the_loss_smaller(place):
    cache, plain = extract_here(config(place)), extract_here(config(place, None, "plain"))
    record = cache["u01"]["encoder_logits"]
    assert record.tail.kind == "prior"
    assert record.tail.vocabulary == cache.spec.teacher.vocab_size
    assert np.array_equal(record.ids_NK, plain["u01"]["encoder_logits"].ids_NK)
    name = "fidelity.encoder_logits.kl_full_mean"
    modelled, even = (np.mean(c.catalogue[name].to_numpy()) for c in (cache, plain))
    assert modelled < even
    assert np.mean(cache.catalogue["fidelity.encoder_logits.kl_mean"]) == pytest.approx(
        np.mean(plain.catalogue["fidelity.encoder_logits.kl_mean"])
    )


def test_the_same_corpus_gives_the_same_table(place):
    first, second = prepare(config(place)), prepare(config(place, cache="other"))
    assert first.spec.spec_hash == second.spec.spec_hash


def test_a_cache_that_is_there_is_asked_not_the_teacher(place, monkeypatch):
    cache = extract_here(config(place))
    monkeypatch.setattr(
        "kdcache.extract.settle.scout_here", lambda *_: pytest.fail("estimated again")
    )
    ready = prepare(config(place, sample_utterances=1))
    assert ready.plan.present == 4
    assert ready.spec.spec_hash == cache.spec.spec_hash


def test_another_kind_than_the_caches_is_refused(place):
    prepare(config(place))
    prepare(config(place, None, "plain"))
    with pytest.raises(SpecMismatchError, match="has tail 'prior' in the cache, 'top' was asked"):
        prepare(config(place, "top"))
    with pytest.raises(SpecMismatchError, match="has tail None in the cache, 'top' was asked"):
        prepare(config(place, "top", "plain"))


def test_a_table_can_be_given(place):
    vocabulary = prepare(config(place)).spec.teacher.vocab_size
    table = TailModel.from_weights(np.ones((1, vocabulary)), np.zeros(vocabulary, int)).to_dict()
    assert tail_of(prepare(config(place, table, "given"))) == table


def test_a_teacher_that_fails_on_all_of_the_sample(place):
    save_fake_teacher(place / "teacher", fail=[4000, 8000, 12000, 6000])
    with pytest.raises(TeacherError, match="fails on all 4 utterances .* cannot bear"):
        prepare(config(place))


def test_one_failure_in_the_sample_is_no_matter(place):
    save_fake_teacher(place / "teacher", fail=[8000])
    assert tail_of(prepare(config(place)))["kind"] == "prior"


def test_a_target_without_posteriors_has_no_tail(place):
    codec = {"name": "root", "tail": "prior"}
    with pytest.raises(ConfigError):
        prepare(config(place, targets=[{"kind": "hidden", "codec": codec}]))


def test_the_examples_target_is_one():
    """What the commented lines of the example show can be asked for."""
    text = (files("kdcache.extract") / "example.yaml").read_text()
    block = text[text.index("  # - kind: encoder_logits") :].split("\n\n")[0]
    (entry,) = yaml.safe_load(re.sub(r"^  # ", "", block, flags=re.MULTILINE))
    spec = target_spec(entry)
    assert spec.settings == {"top_k": "all", "min_p": 5e-5}
    assert spec.codec == {"name": "root", "bits": 7, "tail": "prior"}


def test_draws_are_seeded_by_the_utterance(place, monkeypatch):
    """And so they do not depend on what else is in the corpus or the batch."""
    seeded = []
    monkeypatch.setattr(
        "kdcache.target.posterior.generator_for",
        lambda *names: seeded.append(names) or generator_for(*names),
    )
    draws = {"targets": [{"kind": "encoder_logits", "samples": 12}]}
    cache = extract_here(config(place, **draws))
    alone = extract_here(config(place, cache="alone", unit_utterances=1, **draws))
    assert cache.spec.targets[0].codec == {"name": "count", "samples": 12}
    assert cache.content_digest() == alone.content_digest()
    record = cache["u02"]["encoder_logits"]
    counts = np.exp(record.logp_NC) * 12
    assert np.abs(counts - np.rint(counts)).max() < 1e-4
    assert {kind for kind, _ in seeded} == {"encoder_logits"}
    assert sorted(name for _, name in seeded) == sorted([*cache.ids, *alone.ids])
