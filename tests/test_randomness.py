import numpy as np

from search.base.randomness import derive_seed, epoch_order, initial_normal, input_noise, philox


def test_philox_gives_the_published_known_answers() -> None:
    """The known-answer vectors of Random123 for philox4x32, 10 rounds."""
    ones = 0xFFFFFFFF
    pi = ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))
    expected = {
        ((0, 0, 0, 0), (0, 0)): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ((ones,) * 4, (ones, ones)): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        pi: (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }
    for (counter, key), words in expected.items():
        got = philox(tuple(np.array(c) for c in counter), (np.array(key[0]), np.array(key[1])))
        assert tuple(int(word) for word in got) == words


def test_input_noise_is_standard_normal() -> None:
    noise = input_noise(np.array([7]), 0, 3, (2000, 88)).ravel()
    n = noise.size
    assert abs(noise.mean()) < 5 / n**0.5
    assert abs(noise.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((noise**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 5 / n**0.5


def test_noise_of_a_trial_does_not_depend_on_its_neighbours() -> None:
    together = input_noise(np.array([1, 2, 2**63 - 1]), 5, 9, (7, 3))
    for k, seed in enumerate([1, 2, 2**63 - 1]):
        np.testing.assert_array_equal(together[k], input_noise(np.array([seed]), 5, 9, (7, 3))[0])


def test_noise_differs_between_trials_epochs_and_sequences() -> None:
    draws = [input_noise(np.array([s]), e, q, (4, 3)) for s, e, q in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]]
    assert len({draw.tobytes() for draw in draws}) == 4


def test_epoch_order_is_a_permutation_fixed_by_study_seed_and_epoch() -> None:
    assert sorted(epoch_order(1, 2, 50)) == list(range(50))
    np.testing.assert_array_equal(epoch_order(1, 2, 50), epoch_order(1, 2, 50))
    assert any(epoch_order(1, 2, 50) != epoch_order(1, 3, 50))
    assert any(epoch_order(1, 2, 50) != epoch_order(2, 2, 50))


def test_initial_weights_have_standard_deviation_a_tenth() -> None:
    draw = initial_normal(3, "W_z", (200, 200))
    assert abs(draw.std() - 0.1) < 0.001 and abs(draw.mean()) < 0.0025


def test_seeds_depend_on_every_part_of_their_key() -> None:
    keys = [(0, "jsb", "vanilla", 1), (0, "jsb", "vanilla", 11), (0, "jsb", "vanilla1", 1), (1, "jsb", "vanilla", 1)]
    seeds = {derive_seed(*key) for key in keys}
    assert len(seeds) == 4 and all(0 <= seed < 2**63 for seed in seeds)
