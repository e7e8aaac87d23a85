import sys

import numpy as np
import pytest

from runners import data
from runners.errors import DataError
from runners.spec import Chebyshev, Csv, CustomData, Gaussian, Npz, Text


def load(table, *, seed=0, base=None):
    return data.load(table, seed=seed, precision="float64", base=base)


# --- tables ---


def test_integers_in_an_archive_are_labels_and_floats_are_targets(tmp_path):
    x = np.arange(12.0).reshape(4, 3)
    np.savez(tmp_path / "labels.npz", x=x, y=np.array([0, 1, 2, 1], np.uint8))
    np.savez(tmp_path / "reals.npz", x=x.astype(np.float32), y=np.array([0.5, 1, 2, 1]))
    np.savez(tmp_path / "rows.npz", x=x[:, 0], y=np.array([[1, 2]] * 4))

    labels, reals, rows = (load(Npz(path=f"{name}.npz"), base=tmp_path) for name in ("labels", "reals", "rows"))

    assert (labels.y.tolist(), labels.description.num_outputs, labels.description.task) == ([0, 1, 2, 1], 3, "classification")
    assert (reals.y.tolist(), reals.description.num_outputs, reals.description.task) == ([[0.5], [1], [2], [1]], 1, "regression")
    assert (rows.y.tolist(), rows.description.num_outputs, rows.description.input_shape) == ([[1, 2]] * 4, 2, (1,))


def test_labels_that_are_not_0_to_the_last_class_are_numbered_in_order_and_listed(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 1)), y=[7, -1, 7], x_test=np.ones((2, 1)), y_test=[20, -1])

    loaded = load(Npz(path="a.npz"), base=tmp_path)

    assert (loaded.y.tolist(), loaded.y_test.tolist(), loaded.description.num_outputs) == ([1, 0, 1], [2, 0], 3)
    assert loaded.description.source.endswith("a.npz; classes in order: -1, 7, 20")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([[1.0], [np.nan]]), "y": np.zeros(2)}, r"x\[1, 0\] is nan: expected finite numbers"),
        ({"x": np.zeros((2, 1)), "y": np.array([np.inf, 0])}, r"y\[0\] is inf"),
        ({"x": np.zeros((2, 1)), "y": np.array([4, 4])}, "every label is 4; expected at least two classes"),
        ({"x": np.zeros((2, 0)), "y": np.zeros(2)}, "at least one number"),
        (
            {"x": np.zeros((2, 3)), "y": np.zeros(2), "x_test": np.zeros((2, 4)), "y_test": np.zeros(2)},
            r"test examples have the shapes \(4,\)",
        ),
    ],
)
def test_an_archive_with_unusable_numbers_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(DataError, match=message):
        load(Npz(path="a.npz"), base=tmp_path)


def test_an_archive_that_is_damaged_inside_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((50, 20)), y=np.arange(50))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[500] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)

    with pytest.raises(DataError, match=r"a\.npz: not a readable \.npz archive \(Bad CRC-32"):
        load(Npz(path="a.npz"), base=tmp_path)


def test_the_last_column_of_a_csv_file_is_its_target_unless_others_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,c\n1,2,3.5\n4,5,6\n")

    last = load(Csv(path="a.csv"), base=tmp_path)
    named = load(Csv(path="a.csv", target=("c", "a")), base=tmp_path)

    assert (last.x.tolist(), last.y.tolist()) == ([[1, 2], [4, 5]], [[3.5], [6]])
    assert (named.x.tolist(), named.y.tolist()) == ([[2], [5]], [[3.5, 1], [6, 4]])


def test_a_column_of_a_csv_file_without_header_is_named_by_its_number(tmp_path):
    (tmp_path / "a.csv").write_text("0.5, 1\n1.5, 2\n")

    loaded = load(Csv(path="a.csv", target="0"), base=tmp_path)

    assert (loaded.x.tolist(), loaded.y.tolist()) == ([[1], [2]], [[0.5], [1.5]])


def test_text_classes_of_a_csv_file_are_numbered_in_sorted_order(tmp_path):
    (tmp_path / "a.csv").write_text("5.1,3.5,setosa\n6.0,2.2,virginica\n4.9,3.0,setosa\n")

    loaded = load(Csv(path="a.csv"), base=tmp_path)

    assert (loaded.y.tolist(), loaded.description.num_outputs) == ([0, 1, 0], 2)
    assert loaded.description.source.endswith("classes in order: setosa, virginica")


@pytest.mark.parametrize(
    ("task", "y", "num_outputs"),
    [("auto", [0, 1, 2], 3), ("classification", [0, 1, 2], 3), ("regression", [[0], [1], [10]], 1)],
)
def test_the_task_of_a_csv_file_decides_what_an_integer_column_is(tmp_path, task, y, num_outputs):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n2,1\n3,10\n")

    loaded = load(Csv(path="a.csv", task=task), base=tmp_path)

    assert (loaded.y.tolist(), loaded.description.num_outputs) == (y, num_outputs)


@pytest.mark.parametrize(
    ("content", "table", "message"),
    [
        ("a,y\n1,2\nfoo,3\n", {}, "line 3, column 'a': found 'foo', expected a finite number"),
        ("a,y\n1,2\n,3\n", {}, "line 3, column 'a': found nothing"),
        ("a,y\n1,2\nnan,3\n", {}, "line 3, column 'a': found 'nan'"),
        ("1,2.5\n1e999,3\n", {}, "line 2, column 0: found '1e999'"),
        ("a,y\n1,cat\n2,\n", {}, "line 3, column 'y': found nothing, expected a label"),
        ("a,y\n1,cat\n2,3\n", {"task": "regression"}, "line 2, column 'y': found 'cat'"),
        ("a,y\n1,2\n2,nan\n", {}, "line 3, column 'y': found 'nan'"),
        ("a,b,c\n1,2,3\n", {"task": "classification", "target": ("b", "c")}, "2 target columns are named, expected one"),
        ("a,y\n1,7\n2,7\n", {}, "every label is 7"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named_with_its_line_and_column(tmp_path, content, table, message):
    (tmp_path / "a.csv").write_text(content)

    with pytest.raises(DataError, match=message):
        load(Csv(path="a.csv", **table), base=tmp_path)


# --- synthetic ---


def test_chebyshev_points_are_golden():
    loaded = load(Chebyshev(degree=3, num_points=5))

    assert loaded.x.tolist() == [[-1], [-0.5], [0], [0.5], [1]]
    assert loaded.y.tolist() == [[-1], [1], [0], [-1], [1]]


@pytest.mark.parametrize("degree", [1, 4, 9])
def test_chebyshev_targets_are_cosines_of_multiples_of_the_angle(degree):
    loaded = load(Chebyshev(degree=degree))

    np.testing.assert_allclose(loaded.y, np.cos(degree * np.arccos(loaded.x)), atol=1e-13)
    assert loaded.x.shape == (20, 1)


def test_an_empirical_spectrum_is_that_of_the_training_inputs():
    spectrum = (4.0, 2.0, 1.0, 0.0)

    loaded = load(Gaussian(num_features=4, num_train=10, spectrum=spectrum, covariance="empirical"))

    eigenvalues = np.linalg.eigvalsh(loaded.x.T @ loaded.x / 10)[::-1]
    np.testing.assert_allclose(eigenvalues, spectrum, atol=1e-14)


def test_a_population_spectrum_is_that_of_many_inputs():
    n = 40_000

    loaded = load(Gaussian(num_features=3, num_train=n, exponent=2.0))

    # An eigenvalue of a sample covariance has a relative standard deviation of sqrt(2 / n).
    eigenvalues = np.linalg.eigvalsh(loaded.x.T @ loaded.x / n)[::-1]
    np.testing.assert_allclose(eigenvalues, [1, 1 / 4, 1 / 9], rtol=5 * np.sqrt(2 / n))


def test_the_basis_of_the_gaussian_inputs_is_not_the_coordinates():
    loaded = load(Gaussian(num_features=3, num_train=9, spectrum=(1.0, 0.0, 0.0), covariance="empirical"))

    assert np.linalg.matrix_rank(loaded.x, tol=1e-10) == 1
    assert (np.abs(loaded.x[0]) > 1e-3).all()


def test_gaussian_targets_are_linear_up_to_the_noise():
    silent = load(Gaussian(num_features=3, num_outputs=2, num_train=50, num_test=20, noise_std=0.0))
    noisy = load(Gaussian(num_features=3, num_outputs=2, num_train=50, num_test=20, noise_std=0.3))

    teacher = np.linalg.lstsq(silent.x, silent.y)[0]
    np.testing.assert_allclose(silent.x_test @ teacher, silent.y_test, atol=1e-12)
    np.testing.assert_array_equal(noisy.x, silent.x)
    # 100 draws: the standard deviation is known to 1 / sqrt(200) of itself.
    assert np.std(noisy.y - silent.y) == pytest.approx(0.3, rel=5 / np.sqrt(200))


def test_gaussian_training_examples_do_not_depend_on_the_number_of_test_examples():
    with_test, without = load(Gaussian(num_test=7)), load(Gaussian())

    np.testing.assert_array_equal(with_test.x, without.x)
    assert (len(with_test.x_test), len(without.x_test), len(without.x)) == (7, 0, 200)


# --- users' functions ---


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(code: str) -> CustomData:
        (tmp_path / "users_own_data.py").write_text(f"import numpy as np\ndef make(seed, n=2):\n    {code}\n")
        sys.modules.pop("users_own_data", None)
        sys.path_importer_cache.clear()
        return CustomData(target="users_own_data:make", arguments={"n": 3})

    yield write
    sys.modules.pop("users_own_data", None)


def test_a_users_function_gets_the_seed_and_its_arguments(users_module):
    table = users_module("return np.full((n, 2), seed), np.arange(n), np.zeros((1, 2)), np.zeros(1, int)")

    loaded = load(table, seed=5)

    assert (loaded.x.tolist(), loaded.y.tolist(), loaded.y_test.tolist()) == ([[5, 5]] * 3, [0, 1, 2], [0])
    assert loaded.description.name == "users_own_data:make"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return np.zeros(3)", "returned ndarray: expected"),
        ("return 1, 2, 3", "returned 3 values: expected"),
        ("return np.zeros((3, 1)), np.zeros(2)", "x has 3 examples and y 2"),
        ("return np.zeros((3, 1)), ['a', 'b', 'c']", "y has the type <U1: expected real numbers"),
        ("return [[1], [1, 2]], [1, 2]", "returned something that is no array"),
        ("return np.zeros((3, 1)), 1.0", "y is a single number"),
        ("return np.zeros((3, 1)), [1.0, float('nan'), 0.0]", r"y\[1\] is nan"),
        ("return np.zeros((3, 1)), np.zeros(3), np.zeros((1, 1)), None", "y_test has the type object"),
        ("raise KeyError('gone')", "raised KeyError: 'gone'"),
    ],
)
def test_what_a_users_function_returns_is_checked(users_module, code, message):
    with pytest.raises(DataError, match=message):
        load(users_module(code))


def test_more_examples_than_a_users_function_gives_is_refused(users_module):
    table = CustomData(target=users_module("return np.zeros((n, 1)), np.zeros(n)").target, num_train=10)

    with pytest.raises(DataError, match=r"num_train = 10: users_own_data:make has 2 training examples"):
        load(table)


def test_the_teacher_of_the_gaussian_data_has_the_length_asked_for():
    asked = Gaussian(num_train=50, num_features=5, num_outputs=2, noise_std=0.0, teacher_norm=3.0)
    loaded = load(asked)

    teacher = np.linalg.lstsq(loaded.x, loaded.y, rcond=None)[0]

    np.testing.assert_allclose(np.linalg.norm(teacher, axis=0), 3.0, rtol=1e-12)


# --- texts ---


def decoded(examples, characters):
    return ["".join(characters[code] for code in example) for example in examples]


def test_an_example_of_a_text_is_a_window_and_its_label_the_character_behind_it(tmp_path):
    text = "the quick brown fox, and the lazy dog.\r\n" * 5
    (tmp_path / "a.txt").write_bytes(text.encode())
    text = text.replace("\r\n", "\n")

    loaded = load(Text(path="a.txt", context=6), base=tmp_path)

    characters, train = sorted(set(text)), text[: len(text) - len(text) // 10]
    assert loaded.x.dtype == loaded.x_test.dtype == loaded.y.dtype == np.int32
    assert decoded(loaded.x, characters) == [train[i : i + 6] for i in range(0, len(train) - 6, 6)]
    assert decoded(loaded.y[:, None], characters) == [train[i + 6] for i in range(0, len(train) - 6, 6)]
    assert decoded(loaded.x_test, characters) == [text[i : i + 6] for i in range(len(train), len(text) - 6, 6)]
    described = loaded.description
    assert (described.task, described.num_outputs, described.input_shape) == ("classification", len(characters), (6,))
    assert f"195 characters, of {len(characters)} kinds" in described.source


def test_no_window_that_trains_shares_a_character_with_one_that_tests(tmp_path):
    # Each character stands once.
    text = "".join(chr(1000 + index) for index in range(100))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")

    for keys in ({}, {"stride": 1}, {"stride": 1, "subset": "random", "num_train": 40}):
        loaded = load(Text(path="a.txt", context=4, **keys), base=tmp_path)
        trained, tested = ({*x.ravel(), *y} for x, y in ((loaded.x, loaded.y), (loaded.x_test, loaded.y_test)))
        assert max(trained) < 90 <= min(tested)


def test_of_a_limited_vocabulary_the_most_frequent_characters_have_their_own_number_and_the_others_one(tmp_path):
    (tmp_path / "a.txt").write_text("aaaabbbbccdeeeee" * 5)

    loaded = load(Text(path="a.txt", context=15, vocabulary=3), base=tmp_path)

    assert loaded.x[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 3, 3, 3, 2, 2, 2, 2]
    assert loaded.description.num_outputs == 4
    assert "of 3 kinds in the order of their code points, the 2 others as one" in loaded.description.source


def test_a_text_of_one_character_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 100)

    with pytest.raises(DataError, match="there is one character only, 'a'"):
        load(Text(path="a.txt", context=5), base=tmp_path)
