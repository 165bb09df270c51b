"""A unit through a teacher, in this process: what is packed, and what is recorded."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcache.corpus.audio import decode_flac, load_audio
from kdcache.errors import ConfigError, TeacherError
from kdcache.extract import decode as decode_module
from kdcache.extract.plan import cut_batches, make_unit
from kdcache.extract.targets import bind_targets
from kdcache.extract.worker import UnitWorker
from kdcache.target import target_spec
from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import save_small_wav2vec2
from kdcache.types import AudioRef
from tests.unit.extract.extract_fakes import (
    FRAME,
    RATE,
    FakeTeacher,
    save_corpus,
    save_fake_teacher,
)

LENGTHS = (4000, 4400, 8000, 8400, 12000, 12400)


@pytest.fixture
def corpus(tmp_path):
    return save_corpus(tmp_path / "wav", LENGTHS)[1]


def make_worker(tmp_path, targets=("lattice",), control=None, **settings):
    teacher = FakeTeacher(save_fake_teacher(tmp_path / "teacher", **(control or {})))
    bound = bind_targets(map(target_spec, targets), teacher.spec)
    return UnitWorker(teacher, bound, **settings), teacher


def unit_of(corpus, batch_seconds=3.1):
    return make_unit("s", cut_batches(corpus, batch_seconds))


def codes(result):
    return {failed.utterance.id: failed.code for failed in result.failed}


def test_every_utterance_is_packed_in_the_order_of_ids(tmp_path, corpus):
    worker, teacher = make_worker(tmp_path)
    result = worker.run(unit_of(corpus))
    assert [packed.utterance for packed in result.packed] == corpus
    assert result.failed == ()
    assert teacher.calls == [2, 2, 2]
    for packed, length in zip(result.packed, LENGTHS, strict=True):
        assert packed.duration == length / RATE
        assert packed.frames == length // FRAME
        assert list(packed.tokens) == teacher.tokenizer.encode(packed.utterance.text)
        assert all(name.startswith("lattice.") for name in packed.columns)
        assert packed.fidelity["lattice.kl_mean"] >= 0
    assert result.audio_seconds == pytest.approx(sum(LENGTHS) / RATE)


def test_what_is_packed_is_what_the_teacher_says(tmp_path, corpus):
    worker, teacher = make_worker(tmp_path, [{"kind": "hidden", "codec": "fp16"}])
    result = worker.run(unit_of(corpus))
    codec = bind_targets([target_spec({"kind": "hidden", "codec": "fp16"})], teacher.spec)[0].codec
    for packed in result.packed:
        samples = load_audio(packed.utterance.audio, RATE)
        (output,) = teacher.forward([samples], [packed.tokens])
        columns = {name.partition(".")[2]: array for name, array in packed.columns.items()}
        decoded = codec.decode(columns).values_TD
        np.testing.assert_allclose(decoded, output.hidden_TD.numpy(), atol=1e-3)


def test_the_same_unit_gives_the_same_bytes(tmp_path, corpus):
    targets = ["lattice", {"kind": "encoder_logits", "top_k": 3}]
    first, second = (
        make_worker(tmp_path, targets, decode_threads=threads)[0].run(unit_of(corpus))
        for threads in (1, 3)
    )
    for one, other in zip(first.packed, second.packed, strict=True):
        assert one.columns.keys() == other.columns.keys()
        assert all(np.array_equal(one.columns[key], other.columns[key]) for key in one.columns)
        assert one.fidelity == other.fidelity


def test_audio_is_kept_where_it_is_asked_for(tmp_path, corpus):
    worker, _ = make_worker(tmp_path, keep_audio=True)
    for packed in worker.run(unit_of(corpus)).packed:
        samples, rate = decode_flac(packed.columns["audio"].tobytes())
        assert rate == RATE
        expected = load_audio(packed.utterance.audio, RATE)
        np.testing.assert_allclose(samples / 32767, expected, atol=1 / 32767)


class TestFailures:
    def test_bad_audio_and_text_are_recorded_and_the_others_go_on(self, tmp_path, corpus):
        (tmp_path / "noise.wav").write_bytes(b"RIFF but no audio")
        bad = list(corpus)
        bad[0] = replace(bad[0], audio=AudioRef(str(tmp_path / "nowhere.wav"), 0.0, 0.5))
        bad[1] = replace(bad[1], audio=AudioRef(str(tmp_path / "noise.wav"), 0.0, 0.5))
        bad[2] = replace(bad[2], text="  ")
        bad[3] = replace(bad[3], text="one ♥")
        result = make_worker(tmp_path)[0].run(unit_of(bad))
        assert codes(result) == {
            "u00": "audio", "u01": "audio", "u02": "transcript", "u03": "transcript"
        }  # fmt: skip
        assert [packed.utterance.id for packed in result.packed] == ["u04", "u05"]
        messages = {failed.utterance.id: failed.message for failed in result.failed}
        assert "nowhere.wav" in messages["u00"]
        assert "no transcript" in messages["u02"]
        assert "♥" in messages["u03"]

    def test_a_batch_that_fails_is_repeated_one_by_one(self, tmp_path, corpus):
        worker, teacher = make_worker(tmp_path, control={"fail": [LENGTHS[2]]})
        result = worker.run(unit_of(corpus))
        assert codes(result) == {"u02": "RuntimeError"}
        assert result.failed[0].message == "RuntimeError: cannot bear 8000 samples"
        assert len(result.packed) == 5
        assert teacher.calls == [2, 2, 1, 1, 2]

    def test_nan_is_refused_for_its_utterance_alone(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, control={"nan": [LENGTHS[4]]})
        result = worker.run(unit_of(corpus))
        assert codes(result) == {"u04": "teacher-output"}
        assert len(result.packed) == 5

    def test_no_frames_are_a_failure(self, tmp_path):
        corpus = save_corpus(tmp_path / "short", [FRAME - 1, FRAME])[1]
        result = make_worker(tmp_path)[0].run(unit_of(corpus))
        assert codes(result) == {"u00": "teacher-output"}
        assert [packed.frames for packed in result.packed] == [1]

    def test_an_answer_short_of_an_utterance_is_not_trusted(self, tmp_path, corpus, monkeypatch):
        worker, teacher = make_worker(tmp_path)
        forward = teacher.forward
        monkeypatch.setattr(
            teacher,
            "forward",
            lambda audio, tokens: forward(audio, tokens)[: max(1, len(audio) - 1)],
        )
        result = worker.run(unit_of(corpus))
        assert len(result.packed) == 6
        assert teacher.calls == [2, 1, 1] * 3

    def test_a_broken_device_is_not_the_utterances_fault(self, tmp_path, corpus, monkeypatch):
        worker, teacher = make_worker(tmp_path)

        def broken(*_):
            raise torch.AcceleratorError("device-side assert triggered")

        monkeypatch.setattr(teacher, "forward", broken)
        with pytest.raises(torch.AcceleratorError):
            worker.run(unit_of(corpus))


def bytes_of(result):
    return {
        packed.utterance.id: {name: array.tobytes() for name, array in packed.columns.items()}
        for packed in result.packed
    }


def twice(length):
    """Padded samples of two such utterances."""
    return 2 * length


class TestMemory:
    def test_a_batch_that_does_not_fit_is_halved_and_later_ones_are_cut(self, tmp_path, caplog):
        corpus = save_corpus(tmp_path / "even", [8000] * 8)[1]
        worker, teacher = make_worker(tmp_path, control={"room": twice(8000)})
        result = worker.run(unit_of(corpus, batch_seconds=4))
        assert teacher.calls == [4, 2, 2, 2, 2]
        assert (len(result.packed), result.failed, result.halvings) == (8, (), 1)
        assert "4 utterances, padded to 4.0 s in all" in caplog.text
        assert "at most 2.0 s go through the teacher at once" in caplog.text
        again = worker.run(unit_of(corpus, batch_seconds=8))
        assert teacher.calls[5:] == [2, 2, 2, 2], "the actor has learnt it"
        assert again.halvings == 0

    def test_it_goes_on_halving_down_to_one(self, tmp_path):
        corpus = save_corpus(tmp_path / "even", [8000] * 4)[1]
        worker, teacher = make_worker(tmp_path, control={"room": 8000})
        result = worker.run(unit_of(corpus, batch_seconds=4))
        assert teacher.calls == [4, 2, 1, 1, 1, 1]
        assert (len(result.packed), result.halvings) == (4, 2)

    def test_an_utterance_that_does_not_fit_alone_is_recorded(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, control={"room": 12000})
        result = worker.run(unit_of(corpus, batch_seconds=2))
        assert codes(result) == {"u05": "memory"}
        assert len(result.packed) == 5
        (failed,) = result.failed
        assert "1.6 s" in failed.message
        assert "allocate memory" in failed.message
        assert result.halvings > 0

    def test_what_was_halved_is_what_fits(self, tmp_path, corpus):
        (small, _), (large, _) = (
            make_worker(tmp_path / name, control=control)
            for name, control in (("s", {"room": 12400}), ("l", {}))
        )
        assert bytes_of(small.run(unit_of(corpus))) == bytes_of(large.run(unit_of(corpus)))

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            torch.AcceleratorError("CUDA error: out of memory"),
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
            MemoryError(),
        ],
    )
    def test_all_that_speaks_of_memory_is_halved(self, tmp_path, corpus, monkeypatch, error):
        worker, teacher = make_worker(tmp_path)
        forward = teacher.forward

        def short(audio, tokens):
            if len(audio) > 1:
                raise error
            return forward(audio, tokens)

        monkeypatch.setattr(teacher, "forward", short)
        result = worker.run(unit_of(corpus))
        assert (len(result.packed), result.failed) == (6, ())
        assert result.halvings >= 1

    def test_packing_gets_the_memory_for_itself_once(self, tmp_path, corpus, monkeypatch):
        worker, _ = make_worker(tmp_path)
        pack, too_large = worker._pack, {"u01", "u03"}
        threads = []

        def short(heard, output):
            threads.append(threading.current_thread().name)
            if heard.utterance.id in too_large:
                too_large.remove(heard.utterance.id)
                raise MemoryError
            return pack(heard, output)

        monkeypatch.setattr(worker, "_pack", short)
        assert worker.run(unit_of(corpus)).failed == ()
        assert sum(name.startswith("teacher") for name in threads) == 2

        monkeypatch.setattr(worker, "_pack", lambda *_: (_ for _ in ()).throw(MemoryError()))
        assert set(codes(worker.run(unit_of(corpus))).values()) == {"memory"}


class TestFlow:
    """What goes on at the same time; waits are for events, and end in a failure where one that
    must come does not."""

    def test_a_batch_is_packed_while_the_teacher_hears_the_next(
        self, tmp_path, corpus, monkeypatch
    ):
        worker, teacher = make_worker(tmp_path)
        pack = worker._pack

        def patient(heard, output):
            if len(teacher.calls) < 2 and heard.utterance.id == "u05":
                assert wait_until(lambda: len(teacher.calls) >= 2)
            return pack(heard, output)

        monkeypatch.setattr(worker, "_pack", patient)
        assert worker.run(unit_of(corpus)).failed == ()

    def test_no_stage_runs_away(self, tmp_path, monkeypatch):
        corpus = save_corpus(tmp_path / "many", [4000] * 20)[1]
        worker, teacher = make_worker(tmp_path, decode_threads=4)
        decoded, packing, go_on = [], threading.Event(), threading.Event()
        pack, load = worker._pack, decode_module.load_audio

        def slow(heard, output):
            packing.set()
            go_on.wait(20)
            return pack(heard, output)

        def counted(*arguments):
            decoded.append(arguments)
            return load(*arguments)

        monkeypatch.setattr(worker, "_pack", slow)
        monkeypatch.setattr(decode_module, "load_audio", counted)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(worker.run, unit_of(corpus, batch_seconds=0.5))
            assert packing.wait(20)
            time.sleep(0.2)
            assert len(teacher.calls) <= 3, "the teacher is ahead of packing"
            assert len(decoded) <= 7, "decoding is ahead of the teacher"
            go_on.set()
            assert len(run.result(30).packed) == 20

    def test_the_next_unit_is_decoded_meanwhile_and_waits_for_its_turn(
        self, tmp_path, corpus, monkeypatch
    ):
        worker, teacher = make_worker(tmp_path)
        heard, decoded = [], set()
        forward, load = teacher.forward, decode_module.load_audio

        def slow(audio, tokens):
            heard.append(sorted(map(len, audio)))
            assert wait_until(lambda: corpus[1].audio.path in decoded)
            return forward(audio, tokens)

        def noted(audio, rate):
            decoded.add(audio.path)
            return load(audio, rate)

        monkeypatch.setattr(teacher, "forward", slow)
        monkeypatch.setattr(decode_module, "load_audio", noted)
        first, second = unit_of(corpus[2:], 1.1), unit_of(corpus[:2], 0.6)
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(worker.run, first)
            assert wait_until(lambda: len(heard) == 1)
            other = pool.submit(worker.run, second)
            assert (len(one.result(30).packed), len(other.result(30).packed)) == (4, 2)
        assert heard == [[12400], [12000], [8400], [8000], [4400], [4000]]

    def test_units_side_by_side_give_what_they_give_alone(self, tmp_path):
        corpus = save_corpus(tmp_path / "many", [4000 + 200 * i for i in range(24)])[1]
        worker, _ = make_worker(tmp_path, ["lattice", {"kind": "encoder_logits", "top_k": 3}])
        units = [unit_of(corpus[start : start + 6], 2) for start in range(0, 24, 6)]
        alone = [bytes_of(worker.run(unit)) for unit in units]
        with ThreadPoolExecutor(2) as pool:
            assert [bytes_of(result) for result in pool.map(worker.run, units)] == alone

    def test_a_broken_device_ends_the_turn(self, tmp_path, corpus, monkeypatch):
        worker, teacher = make_worker(tmp_path)
        forward = teacher.forward
        errors = [torch.AcceleratorError("device-side assert triggered")]

        def broken(audio, tokens):
            if errors and len(teacher.calls) == 1:
                raise errors.pop()
            return forward(audio, tokens)

        monkeypatch.setattr(teacher, "forward", broken)
        with pytest.raises(torch.AcceleratorError):
            worker.run(unit_of(corpus))
        assert worker._turn.acquire(timeout=10), "the next unit would wait for ever"

    def test_seconds_are_counted_by_stage(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, control={"sleep": 0.02})
        stages = worker.run(unit_of(corpus)).stages
        assert stages.teacher >= 3 * 0.02
        assert stages.decode > 0
        assert stages.encode > 0
        assert stages.write == 0
        assert sum(stages.shares().values()) == pytest.approx(1)


def wait_until(true, seconds=20.0):
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not (now := true()) and time.monotonic() < end:
        time.sleep(0.001)
    return now


class TestCTC:
    def test_text_is_not_needed(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, ["encoder_logits"], {"kind": "ctc"})
        silent = [replace(corpus[0], text=""), *corpus[1:]]
        result = worker.run(unit_of(silent))
        assert result.failed == ()
        assert [bool(packed.tokens) for packed in result.packed] == [False] + [True] * 5

    def test_text_that_is_given_must_be_spelt(self, tmp_path, corpus):
        worker, _ = make_worker(tmp_path, ["encoder_logits"], {"kind": "ctc"})
        result = worker.run(unit_of([replace(corpus[0], text="♥"), *corpus[1:]]))
        assert codes(result) == {"u00": "transcript"}


class TestRehearsal:
    def test_a_sound_teacher_passes(self, tmp_path):
        worker, teacher = make_worker(tmp_path)
        worker.rehearse()
        assert teacher.calls == [1]

    def test_a_setting_that_cannot_be_followed_is_told_as_such(self, tmp_path, monkeypatch):
        worker, teacher = make_worker(tmp_path)
        error = ConfigError("torch.compile cannot do it here")
        monkeypatch.setattr(teacher, "forward", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(ConfigError, match="cannot do it here"):
            worker.rehearse()

    @pytest.mark.parametrize("fault", ["fail", "nan"])
    def test_what_fails_for_all_is_found_before_the_first(self, tmp_path, fault):
        worker, _ = make_worker(tmp_path, control={fault: [RATE]})
        with pytest.raises(TeacherError, match="one second of noise"):
            worker.rehearse()


def test_layers_are_asked_for_where_a_target_is_made_of_them(tmp_path, corpus):
    teacher_path = save_small_wav2vec2(tmp_path / "w2v", [u.text for u in corpus], layers=3)
    teacher = load_teacher(teacher_path)
    wanted = ["encoder_logits", {"kind": "hidden", "name": "h2", "layer": 2}]
    bound = bind_targets(map(target_spec, wanted), teacher.spec)
    worker = UnitWorker(teacher, bound)
    assert teacher.kept_layers == (2,)
    worker.rehearse()
    result = worker.run(unit_of(corpus))
    assert result.failed == ()
    for packed in result.packed:
        decoded = bound[1].codec.decode(
            {k[3:]: v for k, v in packed.columns.items() if k.startswith("h2.")}
        )
        samples = load_audio(packed.utterance.audio, teacher.spec.sample_rate)
        (output,) = teacher.forward([samples], [()])
        np.testing.assert_allclose(decoded.values_TD, output.layers[2], rtol=2e-3, atol=2e-3)
        assert not np.allclose(output.layers[2], output.hidden_TD, atol=1e-2)


@pytest.mark.parametrize("layer", [9])
def test_a_layer_that_the_teacher_lacks_stops_before_the_first_utterance(tmp_path, corpus, layer):
    teacher = load_teacher(save_small_wav2vec2(tmp_path / "w2v", [u.text for u in corpus]))
    wanted = [{"kind": "hidden", "name": "far", "layer": layer}]
    worker = UnitWorker(teacher, bind_targets(map(target_spec, wanted), teacher.spec))
    with pytest.raises(TeacherError, match="does not give layer 9"):
        worker.rehearse()
    fake, _ = make_worker(tmp_path, wanted)
    with pytest.raises(TeacherError, match="does not give layer 9"):
        fake.rehearse()
