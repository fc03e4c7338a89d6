"""The permutation Keccak-f[1600] (FIPS 202 3.3), which TUAK is built on. Standard libraries hide it inside SHA-3,
and TUAK with two or more iterations needs all of its state.

The state is 25 lanes of 64 bits, lane x + 5y, little-endian octets.
"""

from __future__ import annotations

STATE_LENGTH = 200

_MASK = (1 << 64) - 1
_ROUNDS = 24


def _round_constants() -> tuple[int, ...]:
    """FIPS 202 3.2.5: bits of a linear feedback shift register over x^8 + x^6 + x^5 + x^4 + 1."""
    constants = []
    register = 1
    for _ in range(_ROUNDS):
        constant = 0
        for j in range(7):
            if register & 1:
                constant |= 1 << ((1 << j) - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return tuple(constants)


def _rho_pi() -> tuple[tuple[int, int, int], ...]:
    """FIPS 202 3.2.2 and 3.2.3 together: (from lane, to lane, rotation to the left)."""
    moves = [(0, 0, 0)]
    x, y = 1, 0
    for t in range(24):
        moves.append((x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5), (t + 1) * (t + 2) // 2 % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return tuple(moves)


_CONSTANTS = _round_constants()
_MOVES = _rho_pi()


def keccak_f1600(state: bytes) -> bytes:
    """One application of the permutation. state: 200 octets, and so is what comes back."""
    lanes = [int.from_bytes(state[i : i + 8], "little") for i in range(0, STATE_LENGTH, 8)]
    moved = [0] * 25
    for constant in _CONSTANTS:
        # θ: every lane takes in the parity of two columns.
        parity = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        for x in range(5):
            right = parity[(x + 1) % 5]
            change = parity[x - 1] ^ (right << 1 & _MASK | right >> 63)
            for lane in range(x, 25, 5):
                lanes[lane] ^= change
        # ρ and π: lanes turn and trade places.
        for source, target, turn in _MOVES:
            lane = lanes[source]
            moved[target] = lane << turn & _MASK | lane >> (64 - turn)
        # χ: the only step that is not linear; rows at a time.
        for row in range(0, 25, 5):
            a, b, c, d, e = moved[row : row + 5]
            lanes[row : row + 5] = (a ^ (~b & c), b ^ (~c & d), c ^ (~d & e), d ^ (~e & a), e ^ (~a & b))
        # ι
        lanes[0] ^= constant
    return b"".join(lane.to_bytes(8, "little") for lane in lanes)
