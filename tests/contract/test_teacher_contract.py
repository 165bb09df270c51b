"""Every built-in adapter keeps the contract, on tiny models with random weights."""

from __future__ import annotations

import pytest

from kdcache.teacher import Teacher, load_teacher
from kdcache.testing.small_teachers import (
    save_small_ctc,
    save_small_san_m,
    save_small_transducer,
    save_small_wav2vec2,
    save_small_whisper,
)
from kdcache.testing.teacher_contract import TeacherContract

TEXTS = ["one two three", "four five six", "seven eight nine oh"]


class TestTransducer(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
        return load_teacher(save_small_transducer(tmp_path_factory.mktemp("t"), TEXTS))


class TestTransducerWithCtcHead(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
        path = save_small_transducer(tmp_path_factory.mktemp("t"), TEXTS, layers=2, ctc_head=True)
        return load_teacher(path)


class TestTwoPass(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
        path = save_small_transducer(tmp_path_factory.mktemp("t"), TEXTS, rescorer=True)
        return load_teacher(path)


class TestSanM(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
        return load_teacher(save_small_san_m(tmp_path_factory.mktemp("t"), TEXTS, ctc_head=True))


class TestParakeetCtc(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
        return load_teacher(save_small_ctc(tmp_path_factory.mktemp("t"), TEXTS, layers=2))


class TestWav2Vec2Layer(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
        return load_teacher(save_small_wav2vec2(tmp_path_factory.mktemp("t"), TEXTS, layers=2))


class TestWav2Vec2Group(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
        path = tmp_path_factory.mktemp("t")
        return load_teacher(save_small_wav2vec2(path, TEXTS, feat_extract_norm="group"))


class TestWhisper(TeacherContract):
    @pytest.fixture(scope="class", params=[0, 3], ids=["monolingual", "multilingual"])
    @classmethod
    def teacher(
        cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Teacher:
        path = tmp_path_factory.mktemp("t")
        return load_teacher(save_small_whisper(path, TEXTS, seconds=4, languages=request.param))
