from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcache.teacher import fingerprint, load_teacher
from kdcache.teacher.directory import CTC_HEAD
from kdcache.testing.small_teachers import save_small_ctc, save_small_transducer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _of(path: Path, **options: str) -> str:
    return load_teacher(path, **options).spec.fingerprint


def test_a_copy_is_the_same_teacher(saved: dict[str, Path], copy: Callable[[str], Path]) -> None:
    assert _of(saved["transducer"]) == _of(copy("transducer"))


def test_saved_again_from_the_same_seed(
    saved: dict[str, Path], tmp_path: Path, texts: list[str]
) -> None:
    assert _of(save_small_ctc(tmp_path / "again", texts)) == _of(saved["ctc"])
    assert _of(save_small_ctc(tmp_path / "other", texts, seed=1)) != _of(saved["ctc"])


def test_small_teachers_leave_the_random_state_alone(tmp_path: Path, texts: list[str]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    save_small_transducer(tmp_path, texts, ctc_head=True)
    assert torch.equal(torch.rand(2), expected)


def test_one_changed_weight(saved: dict[str, Path], copy: Callable[[str], Path]) -> None:
    path = copy("transducer")
    weights = load_file(path / "model.safetensors")
    weights["joint.head.bias"][0] += 1e-3
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    assert _of(path) != _of(saved["transducer"])


def test_a_changed_setting(saved: dict[str, Path], copy: Callable[[str], Path]) -> None:
    path = copy("transducer")
    file = path / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "preemphasis": 0.9}))
    assert _of(path) != _of(saved["transducer"])


def test_a_changed_head(saved: dict[str, Path], copy: Callable[[str], Path]) -> None:
    path = copy("head")
    head = load_file(path / CTC_HEAD)
    head["bias"][0] += 1.0
    save_file(head, path / CTC_HEAD)
    assert _of(path) != _of(saved["head"])


def test_another_tokenizer_of_the_same_size(
    saved: dict[str, Path], copy: Callable[[str], Path], tmp_path: Path, texts: list[str]
) -> None:
    path = copy("ctc")
    other = [text.replace("o", "a") for text in texts]
    shutil.copy(save_small_ctc(tmp_path / "other", other) / "tokenizer.model", path)
    teacher = load_teacher(path)
    assert teacher.spec.fingerprint != _of(saved["ctc"])
    assert teacher.spec.tokenizer == teacher.tokenizer.fingerprint


def test_another_dtype(saved: dict[str, Path]) -> None:
    assert _of(saved["ctc"], dtype="bfloat16") != _of(saved["ctc"])


def test_another_adapter_version(
    saved: dict[str, Path], loaded: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loaded("ctc").spec.fingerprint
    monkeypatch.setattr(type(loaded("ctc")), "version", "2")
    assert _of(saved["ctc"]) != before


@pytest.mark.parametrize(
    ("versions", "same"),
    [
        ({"torch": "2.13.0+cpu", "transformers": "5.23.1"}, True),
        ({"torch": "2.13.1", "transformers": "5.23.0"}, True),
        ({"torch": "2.14.0", "transformers": "5.23.0"}, False),
        ({"torch": "2.13.0", "transformers": "5.24.0"}, False),
    ],
)
def test_library_versions_count_to_the_minor(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], same: bool
) -> None:
    base = {"torch": "2.13.0", "transformers": "5.23.0"}
    monkeypatch.setattr(fingerprint, "version", base.__getitem__)
    before = _of(saved["ctc"])
    monkeypatch.setattr(fingerprint, "version", versions.__getitem__)
    assert (_of(saved["ctc"]) == before) is same


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert fingerprint.file_digest(tmp_path / "file") == hashlib.sha256(data).hexdigest()
