import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runners import data_files, imports
from runners.errors import DataError, SpecError
from runners.spec import Chebyshev, Cifar10, Csv, CustomData, Digits, FashionMnist, Gaussian, Mnist, Npz, Text


@pytest.fixture(autouse=True)
def no_data_variable(monkeypatch):
    monkeypatch.delenv("EOS_DATA", raising=False)


def write_cifar(folder: Path, *, batches: tuple[int, ...] = (4, 2), test: int | None = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, records in enumerate(batches, start=1):
        (folder / f"data_batch_{number}.bin").write_bytes(bytes([number] + [0] * 3072) * records)
    if test is not None:
        (folder / "test_batch.bin").write_bytes(bytes([9] + [255] * 3072) * test)
    return folder


def write_idx(folder: Path, prefix: str, *, count: int, compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    images = struct.pack(">4I", 0x803, count, 2, 3) + bytes(range(6)) * count
    labels = struct.pack(">2I", 0x801, count) + bytes(index % 10 for index in range(count))
    for ending, content in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
        path = folder / f"{prefix}-{ending}{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(content) if compress else content)
    return folder


def test_checking_data_imports_neither_numpy_nor_jax():
    code = "import sys; from runners import data_files; print({'numpy', 'jax', 'sklearn', 'flax'} & set(sys.modules))"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "set()"


# --- how many examples ---


def test_digits_have_1797_examples_less_those_kept_for_testing():
    assert data_files.check(Digits()) == 1797
    assert data_files.check(Digits(num_test=297)) == 1500
    assert data_files.check(Digits(num_train=1000, num_test=297)) == 1000


def test_more_training_examples_than_there_are_is_refused_with_both_numbers():
    with pytest.raises(DataError, match=r"num_train = 1,798: .* 1,797 training examples"):
        data_files.check(Digits(num_train=1798))


def test_training_and_test_examples_together_cannot_exceed_a_set_without_test_split():
    with pytest.raises(
        DataError, match=r"num_test = 100: digits has no test split, and 1,797 examples in all, of which training takes 1,700"
    ):
        data_files.check(Digits(num_train=1700, num_test=100))


def test_a_test_set_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(DataError, match=r"num_test = 5: chebyshev has no test split, and 5 examples in all\. Ask for fewer"):
        data_files.check(Chebyshev(num_points=5, num_test=5))


def test_more_test_examples_than_the_test_split_has_is_refused(tmp_path):
    write_cifar(tmp_path, test=3)

    with pytest.raises(DataError, match=r"num_test = 4: .* has 3 test examples"):
        data_files.check(Cifar10(dir=str(tmp_path), num_test=4))


def test_the_spectrum_has_to_have_as_many_eigenvalues_as_there_are_features():
    with pytest.raises(SpecError, match=r"spectrum has 2 eigenvalues, expected data\.num_features = 3"):
        data_files.check(Gaussian(num_features=3, spectrum=(1.0, 2.0)))


def test_an_empirical_spectrum_needs_as_many_examples_as_features():
    with pytest.raises(SpecError, match=r"Expected data\.num_train >= data\.num_features"):
        data_files.check(Gaussian(num_features=30, num_train=29, covariance="empirical"))


# --- CIFAR-10 ---


@pytest.mark.parametrize("subfolder", [".", "cifar-10-batches-bin"])
def test_cifar10_is_found_in_the_folder_or_below_it(tmp_path, subfolder):
    write_cifar(tmp_path / subfolder)

    assert data_files.check(Cifar10(dir=str(tmp_path))) == 6


def test_the_data_variable_names_the_folder_when_the_spec_does_not(tmp_path, monkeypatch):
    write_cifar(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("EOS_DATA", str(tmp_path))

    assert data_files.check(Cifar10()) == 6


def test_a_tilde_stands_for_the_home_folder_and_relative_paths_start_at_the_base(tmp_path, monkeypatch):
    write_cifar(tmp_path / "sets")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert data_files.check(Cifar10(dir="~/sets")) == 6
    assert data_files.check(Cifar10(dir="sets"), base=tmp_path) == 6


def test_without_a_folder_the_message_says_which_files_are_expected_and_where_to_get_them():
    with pytest.raises(DataError, match=r"EOS_DATA.*data_batch_1\.bin.*https://www\.cs\.toronto\.edu/~kriz/cifar\.html"):
        data_files.check(Cifar10())


def test_a_folder_that_is_not_there_or_lacks_the_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: data\.dir names no folder"):
        data_files.check(Cifar10(dir=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="no CIFAR-10 files here"):
        data_files.check(Cifar10(dir=str(tmp_path)))


@pytest.mark.parametrize("subfolder", [".", "cifar-10-batches-py"])
def test_the_pickled_version_of_cifar10_is_refused_with_the_reason_and_the_remedy(tmp_path, subfolder):
    (tmp_path / subfolder).mkdir(exist_ok=True)
    (tmp_path / subfolder / "data_batch_1").write_bytes(b"\x80\x04.")

    with pytest.raises(DataError, match=r"pickles: reading one can run any code.*binary version"):
        data_files.check(Cifar10(dir=str(tmp_path)))


def test_cifar100_is_recognised_by_its_files_and_by_its_record_length(tmp_path):
    (tmp_path / "cifar-100-binary").mkdir()
    (tmp_path / "cifar-100-binary" / "train.bin").write_bytes(bytes(3074))

    with pytest.raises(DataError, match="this is CIFAR-100"):
        data_files.check(Cifar10(dir=str(tmp_path)))

    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3074 * 2))
    with pytest.raises(DataError, match=r"6,148 bytes are CIFAR-100 records"):
        data_files.check(Cifar10(dir=str(tmp_path)))


def test_an_archive_that_is_not_unpacked_is_pointed_out(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").touch()

    with pytest.raises(DataError, match="tar xzf"):
        data_files.check(Cifar10(dir=str(tmp_path)))


def test_a_truncated_or_empty_cifar10_file_is_refused(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(3073 + 100))

    with pytest.raises(DataError, match=r"data_batch_2\.bin: 3,173 bytes are 1 records of 3,073 bytes and 100 bytes more"):
        data_files.check(Cifar10(dir=str(tmp_path)))

    (tmp_path / "data_batch_2.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"data_batch_2\.bin: the file is empty"):
        data_files.check(Cifar10(dir=str(tmp_path)))


# --- IDX ---


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("subfolder", [".", "mnist", "MNIST/raw"])
def test_mnist_is_found_gzipped_or_not_in_the_usual_folders(tmp_path, subfolder, compress):
    write_idx(tmp_path / subfolder, "train", count=12, compress=compress)

    assert data_files.check(Mnist(dir=str(tmp_path))) == 12


def test_without_training_files_the_test_files_are_counted(tmp_path):
    write_idx(tmp_path, "t10k", count=7)

    assert data_files.check(Mnist(dir=str(tmp_path))) == 7
    assert data_files.check(Mnist(dir=str(tmp_path), num_test=2)) == 5


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path):
    write_idx(tmp_path / "mnist", "train", count=3)
    write_idx(tmp_path / "fashion-mnist", "train", count=4)

    assert data_files.check(FashionMnist(dir=str(tmp_path))) == 4
    with pytest.raises(DataError, match=r"no fashion-mnist files here.*github\.com/zalandoresearch"):
        data_files.check(FashionMnist(dir=str(tmp_path / "mnist")))


def test_images_without_labels_are_refused(tmp_path):
    write_idx(tmp_path, "train", count=3)
    (tmp_path / "train-labels-idx1-ubyte").unlink()

    with pytest.raises(DataError, match="its labels are missing"):
        data_files.check(Mnist(dir=str(tmp_path)))


def test_as_many_labels_as_images_are_expected(tmp_path):
    write_idx(tmp_path, "train", count=3)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 2) + b"\1\2")

    with pytest.raises(DataError, match=r"3 images and .* 2 labels"):
        data_files.check(Mnist(dir=str(tmp_path)))


def idx_images(magic: int, count: int, pixels: int) -> bytes:
    return struct.pack(">4I", magic, count, 2, 3) + bytes(pixels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(idx_images(0x801, 3, 18), "magic number is 0x00000801, expected 0x00000803", id="labels"),
        pytest.param(idx_images(0x803, 3, 17), "33 bytes of content, expected 34 .* truncated", id="short"),
        pytest.param(idx_images(0x803, 3, 19), "longer than its header says", id="long"),
        pytest.param(idx_images(0x803, 0, 18), "there are no images", id="empty"),
        pytest.param(b"\0\0\x08", "3 bytes of content are too few", id="header cut"),
        pytest.param(gzip.compress(idx_images(0x803, 3, 17)), "33 bytes of content, expected 34 .* truncated", id="gzip short"),
        pytest.param(gzip.compress(idx_images(0x803, 3, 18))[:-9], "gzip stream ends too early", id="gzip cut"),
        pytest.param(b"\x1f\x8b\x08\x00 not gzip at all", "corrupt|cannot be read|too early", id="not gzip"),
    ],
)
def test_an_idx_file_that_contradicts_its_header_is_refused(tmp_path, content, message):
    write_idx(tmp_path, "train", count=3)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)

    with pytest.raises(DataError, match=message):
        data_files.check(Mnist(dir=str(tmp_path)))


# --- tables ---


def test_an_archive_is_counted_by_its_headers(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 2)), y=np.arange(5))
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((6, 2, 2), np.float32), y=np.zeros((6, 3)))

    assert data_files.check(Npz(path="a.npz"), base=tmp_path) == 5
    assert data_files.check(Npz(path="b.npz"), base=tmp_path) == 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((5, 2))}, "no array 'y'; the file holds x"),
        ({"a": np.zeros(3)}, "no array 'x'; the file holds a"),
        ({"x": np.zeros((5, 2)), "y": np.zeros(4)}, "5 and 4 examples"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "at least one"),
        ({"x": np.zeros((5, 2)), "y": np.zeros(5), "x_test": np.zeros((2, 2))}, "no array 'y_test'"),
        ({"x": np.zeros((5, 2)), "y": np.array([None] * 5)}, "'y' holds Python objects.*pickle"),
        ({"x": np.zeros((5, 2), complex), "y": np.zeros(5)}, "'x' holds the type '<c16'; expected real numbers"),
        ({"x": np.zeros((5, 2)), "y": np.array(["a"] * 5)}, "'y' holds the type '<U1'"),
    ],
)
def test_an_archive_with_other_arrays_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(DataError, match=message):
        data_files.check(Npz(path="a.npz"), base=tmp_path)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))

    with pytest.raises(DataError, match=r"not a readable \.npz archive"):
        data_files.check(Npz(path="a.npy"), base=tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        data_files.check(Npz(path="b.npz"), base=tmp_path)


def test_a_truncated_archive_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((50, 20)), y=np.arange(50))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])

    with pytest.raises(DataError, match=r"not a readable \.npz archive"):
        data_files.check(Npz(path="a.npz"), base=tmp_path)


def test_csv_rows_are_counted_without_the_header(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,y\n1,2,3\n\n4,5,6\n")
    (tmp_path / "b.csv").write_text("1,2,3\n4,5,6\n")

    assert data_files.check(Csv(path="a.csv"), base=tmp_path) == 2
    assert data_files.check(Csv(path="b.csv"), base=tmp_path) == 2


@pytest.mark.parametrize(
    ("content", "target", "message"),
    [
        ("", None, "the file is empty"),
        ("a,b\n", None, "a header but no row"),
        ("a,b\n1,2\n3\n", None, "line 3: 1 cells, expected 2"),
        ("a,a\n1,2\n", None, "'a' stands in the header more than once"),
        ("price,area\n1,2\n", "prize", "Did you mean 'price'"),
        ("1,2\n3,4\n", "price", r"columns \(the file has no header\) 0, 1"),
        ("a;b\n1;2\n", None, "separated by ';'"),
        ("a,b\n1,2\n", ("a", "a"), "different columns"),
        ("a,b\n1,2\n", ("a", "b"), "at least one more"),
        ("a,b\n1,\x00\xff\n".encode("latin-1"), None, "not a comma-separated text file"),
    ],
)
def test_a_csv_file_of_another_form_is_refused(tmp_path, content, target, message):
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(DataError, match=message):
        data_files.check(Csv(path="a.csv", target=target), base=tmp_path)


@pytest.mark.parametrize(
    ("keys", "num_train", "num_test"),
    [
        # Of 100 characters 90 train: windows of 9 + 1 from the 0th, 9th, ... 72nd, and 80th not; 10 test, with one window.
        ({"context": 9}, 9, 1),
        ({"context": 9, "stride": 1}, 81, 1),
        ({"context": 4}, 22, 2),
        ({"context": 89}, 1, 0),
        ({"context": 4, "num_train": 5, "num_test": 1}, 5, 1),
    ],
)
def test_the_windows_of_a_text_are_counted(tmp_path, keys, num_train, num_test):
    (tmp_path / "a.txt").write_text("ab" * 50)
    table = Text(path="a.txt", **keys)

    assert data_files.check(table, base=tmp_path) == num_train
    with pytest.raises(DataError, match=f"has {num_test if 'num_test' not in keys else 2} test examples"):
        data_files.check(Text(path="a.txt", **(keys | {"num_test": 3})), base=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ab" * 50, r"a\.txt: 100 characters, of which 90 train; expected at least data\.context \+ 1 = 91 of these"),
        ("", "0 characters"),
        (b"caf\xe9" * 100, r"a\.txt: not a text in UTF-8"),
        (None, "there is no such file"),
    ],
)
def test_a_text_that_is_too_short_or_no_text_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(DataError, match=message):
        data_files.check(Text(path="a.txt", context=90), base=tmp_path)


# --- users' functions ---


def test_a_users_module_is_found_without_being_run(tmp_path):
    (tmp_path / "mine_a").mkdir()
    (tmp_path / "mine_a" / "toy.py").write_text("raise RuntimeError('was run')")

    assert data_files.check(CustomData(target="mine_a.toy:make"), base=tmp_path) is None
    assert data_files.check(CustomData(target="mine_a.toy:make", num_train=3), base=tmp_path) == 3


@pytest.mark.parametrize("target", ["nowhere_a:make", "mine_b.nowhere:make", "json.nowhere:make"])
def test_a_module_that_is_not_there_is_refused(tmp_path, target):
    (tmp_path / "mine_b.py").touch()

    with pytest.raises(SpecError, match=r'data\.name = ".*": there is no module'):
        data_files.check(CustomData(target=target), base=tmp_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def mke(): pass", r"'make' is not there in .*mine_c\.py\. Did you mean 'mke'"),
        ("make = 3", "'make' is not a function or class"),
        ("import nowhere_at_all", "the import of mine_c raised ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_what_is_wrong_with_a_users_module_is_said(tmp_path, monkeypatch, code, message):
    (tmp_path / "mine_c.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine_c", raising=False)

    with pytest.raises(SpecError, match=message):
        imports.load("mine_c:make", key="data.name")
    sys.modules.pop("mine_c", None)
