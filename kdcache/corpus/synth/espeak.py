"""Speech from espeak-ng, bit for bit the same whenever the same is asked for.

espeak-ng keeps much state between two utterances in the library's static variables (phases,
flutter, echo, random numbers), and no call resets it all: the same sentence differs in
length and samples from one time to the next. So the library is loaded afresh for every
utterance and unloaded after it, which takes some milliseconds and makes every utterance the
first one. Its random seed is set as well, and C's, which its breath noise draws from.

The library and its voices come from the ``espeakng-loader`` package (GPL-3, an optional
extra); nothing else of kdcache needs it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError, KdcacheError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 22_050
"""Hz of the samples that espeak-ng's English voices give."""

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback before Synth returns
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3
_CHARS_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def speak(text: str, voice: str, rate: int, pitch: int, seed: int) -> np.ndarray:
    """Synthesise a text.

    Args:
        text: what to say.
        voice: espeak-ng's name of it, such as ``en-us+f2``.
        rate: words a minute, 80 to 450.
        pitch: 0 to 99, the voice's own at 50.
        seed: of the voice's jitter and noise, 0 to 2³¹ − 1.

    Returns:
        int16 samples, shape (N,), at ``RATE``.

    Raises:
        MissingDependencyError: espeakng-loader is not installed.
        ConfigError: there is no such voice.
        KdcacheError: the library failed.
    """
    blocks: list[bytes] = []

    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            blocks.append(ctypes.string_at(samples, count * 2))
        return 0

    callback = _CALLBACK(collect)  # kept in a name: the library holds no reference
    with _fresh_library() as library:
        library.espeak_SetSynthCallback(callback)
        _set_voice(library, voice, rate, pitch, seed)
        _say(library, text)
    return np.frombuffer(b"".join(blocks), np.int16)


def require_espeak() -> str:
    """Version of the espeak-ng that is installed.

    Raises:
        MissingDependencyError: espeakng-loader is not installed.
    """
    with _fresh_library() as library:
        library.espeak_Info.restype = ctypes.c_char_p
        library.espeak_Info.argtypes = [ctypes.c_void_p]
        return str(library.espeak_Info(None).decode())


@contextmanager
def _fresh_library() -> Iterator[ctypes.CDLL]:
    """The library as if nothing had been said before, initialised; unloaded at the end."""
    path, data = _paths()
    _refuse_loaded(path)
    library = ctypes.CDLL(path)
    try:
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), 0)
        if rate != RATE:
            raise KdcacheError(f"espeak-ng could not start with {data}: it answered {rate}.")
        yield library
        library.espeak_Terminate()
    finally:
        _unload(library)


def _paths() -> tuple[str, str]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingDependencyError(
            "Synthesised speech needs espeak-ng: pip install 'kdcache[demo]'."
        ) from error
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _refuse_loaded(path: str) -> None:
    """A second user in this process would keep the old state alive, and samples would vary."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return
    _unload(library)
    raise KdcacheError(
        "espeak-ng is already in use in this process, so that samples would not be "
        "reproducible; synthesise in a process of its own."
    )


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes

    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def _set_voice(library: ctypes.CDLL, voice: str, rate: int, pitch: int, seed: int) -> None:
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ConfigError(f"espeak-ng has no voice {voice!r}; one that it has is 'en-us+f2'.")
    library.espeak_SetParameter(_PARAMETER_RATE, rate, 0)
    library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_ng_SetRandSeed(seed)
    if sys.platform != "win32":
        ctypes.CDLL(None).srand(seed)


def _say(library: ctypes.CDLL, text: str) -> None:
    encoded = text.encode()
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
        ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    if status != 0:
        raise KdcacheError(f"espeak-ng could not say {text!r}: it answered {status}.")
