"""What is chosen for a goal is chosen once, kept in the cache, and found there again."""

from __future__ import annotations

import numpy as np
import pytest

from kdcache.errors import ConfigError, NotACacheError, SpecMismatchError, TeacherError
from kdcache.extract import ExtractConfig, prepare, run_repair
from kdcache.inspect.summary import summarise
from kdcache.inspect.text import summary_lines
from kdcache.store import convert, find_damage, open_cache
from kdcache.store.places import open_storage
from kdcache.testing.store_contract import flip_bit
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

FRAMES = {
    "kind": "encoder_logits",
    "min_p": 0.001,
    "codec": {"name": "root", "tail": None},
}
"""Of which the bits are open."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Teacher, corpus, and a cache that was begun with a goal."""
    folder = tmp_path_factory.mktemp("goal")
    save_fake_teacher(folder / "teacher")
    save_corpus(folder / "wav", [4000 + 800 * i for i in range(6)])
    extract_here(config(folder))
    return folder


def config(place, cache="cache", **changes):
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / cache)},
        "targets": [FRAMES, "hidden"],
        "max_kl": 0.01,
        "unit_utterances": 4,
    }
    return ExtractConfig.model_validate({**settings, **changes})


@pytest.fixture
def nobody(monkeypatch):
    """Nobody may be heard."""
    monkeypatch.setattr("kdcache.extract.settle.scout_here", lambda *_: pytest.fail("chosen again"))


def test_the_catalogue_holds_to_the_goal(made):
    cache = open_cache(made / "cache")
    lost = cache.catalogue["fidelity.encoder_logits.kl_full_mean"].to_numpy()
    weights = cache.catalogue["frames"].to_numpy()
    assert 0 < np.average(lost, weights=weights) <= 0.01
    assert "fidelity.hidden.error_mean" in cache.catalogue.column_names


def test_the_cache_says_what_was_chosen(made):
    cache = open_cache(made / "cache")
    (choice,) = cache.choices.values()
    spec = cache.spec.target("encoder_logits")
    assert (choice.target, choice.max_kl, choice.utterances) == ("encoder_logits", 0.01, 6)
    assert choice.picked.codec == spec.codec
    assert choice.picked.settings == spec.settings
    assert choice.candidates == 11
    lines = summary_lines(summarise(cache))
    assert any(line.startswith("  chosen        for KL ≤ 0.01 among 11 settings") for line in lines)
    assert summarise(cache).to_dict()["targets"][0]["choice"]["picked"]["mean"] > 0
    assert summarise(cache).to_dict()["targets"][1]["choice"] is None


@pytest.mark.usefixtures("nobody")
def test_the_same_command_takes_what_the_cache_says(made):
    cache = open_cache(made / "cache")
    ready = prepare(config(made, sample_utterances=2))
    assert ready.plan.present == 6
    assert ready.spec.spec_hash == cache.spec.spec_hash
    assert ready.choices == tuple(cache.choices.values())


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_kl": 0.1}, "was chosen for max_kl 0.01, 0.1 was asked for; give this goal again"),
        ({"max_kl": None}, "'encoder_logits' was chosen for max_kl 0.01; give this goal again"),
        ({"targets": [{**FRAMES, "min_p": 0.01}, "hidden"]}, "'min_p': 0.001.*'min_p': 0.01"),
        (
            {"targets": ["lattice", "hidden"]},
            "was begun without max_kl for a target 'lattice'; leave it out",
        ),
    ],
)
def test_another_goal_is_refused(made, changes, told):
    with pytest.raises(SpecMismatchError, match=told):
        prepare(config(made, **changes))


@pytest.mark.usefixtures("nobody")
def test_a_goal_for_a_cache_that_was_begun_without_one_is_refused(made):
    spec = open_cache(made / "cache").spec.target("encoder_logits")
    plain = {"kind": spec.kind, "settings": spec.settings, "codec": spec.codec}
    extract_here(config(made, "plain", targets=[plain, "hidden"], max_kl=None))
    with pytest.raises(SpecMismatchError, match="was begun without max_kl"):
        prepare(config(made, "plain"))


@pytest.mark.usefixtures("nobody")
def test_written_by_hand_it_is_the_same_cache(made):
    """A choice is no part of the spec."""
    cache = open_cache(made / "cache")
    spec = cache.spec.target("encoder_logits")
    plain = {"kind": spec.kind, "settings": spec.settings, "codec": spec.codec}
    by_hand = config(made, "by-hand", targets=[plain, "hidden"], max_kl=None)
    assert extract_here(by_hand).content_digest() == cache.content_digest()
    assert open_cache(made / "by-hand").choices == {}
    resumed = prepare(config(made, targets=[plain, "hidden"], max_kl=None))
    assert resumed.plan.missing == 0


def test_the_same_corpus_gives_the_same_choice_in_any_order(made):
    manifest = made / "wav" / "manifest.jsonl"
    other = made / "wav" / "backwards.jsonl"
    other.write_text("".join(reversed(manifest.read_text().splitlines(keepends=True))))
    ready = prepare(config(made, "backwards", corpus=other))
    assert ready.choices == tuple(open_cache(made / "cache").choices.values())


def test_progress_and_choice_are_told(made):
    seen = []
    ready = prepare(config(made, "told"), seen.append)
    labels = list(dict.fromkeys(told.label for told in seen))
    assert labels == [
        "hearing a sample",
        "choosing settings of encoder_logits",
        "choosing settings",
    ]
    assert (seen[0].done, seen[0].total, seen[0].unit) == (6, 6, "utterances")
    assert seen[-1].choices == ready.choices
    assert not any(told.choices for told in seen[:-1])


def test_a_conversion_tells_it_too_unless_it_packs_anew(made):
    source = open_cache(made / "cache")
    convert(made / "cache", made / "copy", "webdataset")
    assert open_cache(made / "copy").choices == source.choices
    codecs = {"encoder_logits": {"name": "root", "bits": 12}}
    convert(made / "cache", made / "anew", codecs=codecs)
    assert open_cache(made / "anew").choices == {}
    convert(made / "cache", made / "other", codecs={"hidden": {"name": "int8"}})
    assert open_cache(made / "other").choices == source.choices


def test_a_lost_header_is_written_again_with_what_was_chosen(made, monkeypatch):
    monkeypatch.setattr("kdcache.extract.repair.ray_scout", lambda *_: None)
    convert(made / "cache", made / "broken")
    before = open_cache(made / "broken")
    digest, choices = before.content_digest(), before.choices
    flip_bit(open_storage(made / "broken"), "kdcache.json", 8 * 300)
    report = run_repair(str(made / "broken"), find_damage(made / "broken"), config(made, "broken"))
    assert report.whole
    after = open_cache(made / "broken")
    assert (after.content_digest(), after.choices) == (digest, choices)


def test_nothing_is_written_where_a_goal_cannot_be_reached(made):
    with pytest.raises(ConfigError, match="No setting of target 'encoder_logits' is within"):
        prepare(config(made, "none", max_kl=1e-12))
    assert not (made / "none").exists()


@pytest.mark.usefixtures("nobody")
def test_mistakes_are_found_before_anybody_is_heard(made):
    with pytest.raises(ConfigError, match="two targets"):
        prepare(config(made, "none", targets=[FRAMES, {**FRAMES, "name": "encoder_logits"}]))
    with pytest.raises(ConfigError, match="above 0, such as"):
        prepare(config(made, "none", targets=[{**FRAMES, "max_kl": -1}]))
    with pytest.raises(NotACacheError, match="holds other files"):
        prepare(config(made, "wav"))


def test_a_teacher_that_fails_on_all_of_it(made):
    save_fake_teacher(made / "failing", fail=[4000 + 800 * i for i in range(6)])
    failing = {"path": made / "failing", "adapter": ADAPTER}
    with pytest.raises(TeacherError, match="fails on all 6 utterances of the sample .* cannot"):
        prepare(config(made, "none", teacher=failing))


def test_answers_that_do_not_fit_are_left_out(made, monkeypatch):
    """The first is kept whatever it takes; the choice says of how many it is."""
    monkeypatch.setattr("kdcache.extract.survey.KEPT_BYTES", 1)
    (choice,) = prepare(config(made, "few")).choices
    assert choice.utterances == 1


def test_goals_and_models_of_the_rest_side_by_side(made):
    modelled = {
        "kind": "encoder_logits",
        "name": "modelled",
        "top_k": 2,
        "codec": {"name": "root", "tail": "prior"},
    }
    targets = [{**FRAMES, "max_kl": 0.01}, modelled]
    ready = prepare(config(made, "both", targets=targets, max_kl=None))
    assert [choice.target for choice in ready.choices] == ["encoder_logits"]
    assert ready.spec.target("modelled").codec["tail"]["kind"] == "prior"
    again = prepare(config(made, "both", targets=targets, max_kl=None))
    assert again.spec == ready.spec


def test_lattices_have_goals_too(made):
    targets = [{"kind": "lattice", "width": 3, "max_kl": 0.001}]
    cache = extract_here(config(made, "lattice", targets=targets, max_kl=None))
    assert cache.spec.targets[0].settings == {"top_k": 0, "width": 3}
    assert cache.choices["lattice"].measure == "kl"
    assert np.max(cache.catalogue["fidelity.lattice.kl_mean"].to_numpy()) <= 0.001
