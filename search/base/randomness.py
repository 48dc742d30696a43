"""Every random number of a study, as a function of what it is for.

Nothing here has a state: a trial's numbers are the same alone or in a population, before or after
an interruption, and on every engine. Input noise, of which there is much, comes from Philox4x32-10
(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") through the Box-Muller transform,
so that compiled engines can make the same numbers inside their kernels.
"""

import hashlib
import zlib

import numpy as np

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def derive_seed(*key: object) -> int:
    """A 63-bit seed that depends on `key` alone (by the `str` of its parts)."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def epoch_order(study_seed: int, epoch: int, n_sequences: int) -> np.ndarray:
    """Order of the training sequences in an epoch (counted from 0), common to all trials of a study. [n_sequences]"""
    return np.random.default_rng([study_seed, epoch]).permutation(n_sequences).astype(np.int32)


def initial_normal(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws from N(0, 0.1), standard deviation 0.1, for parameter `name` of the trial with this seed."""
    return 0.1 * np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)


def philox(counter: tuple[np.ndarray, ...], key: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Philox4x32-10: four 32-bit words for each counter of four and key of two 32-bit words (arrays that broadcast)."""
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = (np.asarray(word, np.uint64) for word in key)
    m0, m1 = (np.uint64(m) for m in PHILOX_MULTIPLIERS)
    for _ in range(PHILOX_ROUNDS):
        p0, p1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + np.uint64(PHILOX_WEYL[0])) & _LOW, (k1 + np.uint64(PHILOX_WEYL[1])) & _LOW
    return c0, c1, c2, c3


def input_noise(seeds: np.ndarray, epoch: int, sequence: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise for one presentation of one training sequence.

    Block b of the sequence is Philox with key (seed low, seed high) and counter (b, sequence, epoch, 0). Its four
    words w give, by Box-Muller with 24-bit uniforms u = ((w0 >> 8) + 1) / 2**24 and v = (w1 >> 8) / 2**24, the
    numbers sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v), and two more from (w2, w3). Number j of block b is
    element j * n_blocks + b of the flattened sequence, n_blocks = ceil(size / 4), so that vector code stores in order.

    Args:
        seeds: trial seeds [K].
        epoch: counted from 0.
        sequence: index of the sequence in the training set.
        shape: (T, M).

    Returns:
        float64 [K, T, M]
    """
    seeds = np.asarray(seeds, np.uint64)[:, None]
    size = int(np.prod(shape))
    blocks = np.arange(-(-size // 4), dtype=np.uint64)
    place = (np.array(word, np.uint64) for word in (sequence, epoch, 0))
    words = philox((blocks, *place), (seeds & _LOW, seeds >> _SHIFT))
    u, v, u2, v2 = (word >> np.uint64(8) for word in words)
    planes = []
    for radius, angle in ((u, v), (u2, v2)):
        r = np.sqrt(-2.0 * np.log((radius + np.uint64(1)) * 2.0**-24))
        theta = angle * (2.0 * np.pi * 2.0**-24)
        planes += [r * np.cos(theta), r * np.sin(theta)]
    return np.concatenate(planes, axis=1)[:, :size].reshape(len(seeds), *shape)
