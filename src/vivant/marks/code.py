"""32 bits that survive errors: a 16-bit checksum, then a convolutional code, decoded by soft Viterbi.

payload (32) + CRC-16 (16) + tail (6) --rate 1/2, K = 7, octal 171 133--> 108 signs
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

PAYLOAD_BITS, CHECK_BITS = 32, 16
_MEMORY = 6
_GENERATORS = (0o171, 0o133)
NUM_SIGNS = (PAYLOAD_BITS + CHECK_BITS + _MEMORY) * 2


def encode(payload: int) -> np.ndarray:
    """A number below 2**32 as float32 (108,) of -1 and 1."""
    if not 0 <= payload < 2**PAYLOAD_BITS:
        raise ValueError(f"a payload has {PAYLOAD_BITS} bits, got {payload}")
    word = payload << CHECK_BITS | _checksum(payload)
    bits = [word >> place & 1 for place in reversed(range(PAYLOAD_BITS + CHECK_BITS))] + [0] * _MEMORY
    outputs, following = _trellis()
    state, signs = 0, []
    for bit in bits:
        signs.append(outputs[state, bit])
        state = following[state, bit]
    return np.concatenate(signs).astype(np.float32)


def decode(soft: np.ndarray) -> int | None:
    """The payload of noisy signs (108,), any scale; None where the checksum says that it is none."""
    outputs, following = _trellis()
    num_states = 1 << _MEMORY
    scores = np.full(num_states, -np.inf)
    scores[0] = 0.0
    before = np.zeros((NUM_SIGNS // 2, num_states), np.int64)
    bits = np.zeros((NUM_SIGNS // 2, num_states), np.int64)
    for step, pair in enumerate(soft.reshape(-1, 2).astype(np.float64)):
        candidates = scores[:, None] + outputs @ pair
        best = np.full(num_states, -np.inf)
        for bit in (0, 1):  # two states lead to each state, both by the same bit
            for state in range(num_states):
                to = following[state, bit]
                if candidates[state, bit] > best[to]:
                    best[to] = candidates[state, bit]
                    before[step, to], bits[step, to] = state, bit
        scores = best
    word, state = 0, 0
    decoded = []
    for step in reversed(range(NUM_SIGNS // 2)):
        decoded.append(int(bits[step, state]))
        state = int(before[step, state])
    for bit in reversed(decoded[_MEMORY:]):
        word = word << 1 | bit
    payload, check = word >> CHECK_BITS, word & (1 << CHECK_BITS) - 1
    return payload if check == _checksum(payload) else None


def _checksum(payload: int) -> int:
    """CRC-16/CCITT-FALSE of the four bytes."""
    value = 0xFFFF
    for byte in payload.to_bytes(PAYLOAD_BITS // 8, "big"):
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


@lru_cache(maxsize=1)
def _trellis() -> tuple[np.ndarray, np.ndarray]:
    """Signs (64, 2, 2) given for each state and bit, and the next state (64, 2)."""
    outputs = np.zeros((1 << _MEMORY, 2, 2))
    following = np.zeros((1 << _MEMORY, 2), np.int64)
    for state in range(1 << _MEMORY):
        for bit in (0, 1):
            register = bit << _MEMORY | state
            outputs[state, bit] = [1 - 2 * ((register & taps).bit_count() & 1) for taps in _GENERATORS]
            following[state, bit] = register >> 1
    return outputs, following
