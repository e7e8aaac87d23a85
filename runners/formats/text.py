"""Text files: their characters, and how many windows of them train and test. Standard library only."""

from dataclasses import dataclass
from pathlib import Path

from runners.errors import DataError
from runners.formats.files import reading

TEST_SHARE = 10
"""The last character in so many is the test's: a tenth of the file."""


@dataclass(frozen=True)
class Windows:
    """Windows of a text: one more character than an example has, the last of which is its label."""

    size: int
    stride: int

    def count(self, num_characters: int) -> int:
        """How many lie in so many characters."""
        return max(0, (num_characters - self.size) // self.stride + 1)


def read(path: Path) -> str:
    """The characters of a file in UTF-8; line ends of any system are one character.

    Raises:
        DataError: If the file cannot be read or is not UTF-8.
    """
    try:
        with reading(path), path.open(encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error}).") from error


def split(path: Path, text: str, windows: Windows) -> tuple[int, int]:
    """Characters from the first on that train, and behind them those that test; no window has characters of both.

    Raises:
        DataError: If not one window fits into those that train.
    """
    num_test = len(text) // TEST_SHARE
    num_train = len(text) - num_test
    if not windows.count(num_train):
        raise DataError(
            f"{path}: {len(text):,} characters, of which {num_train:,} train; expected at least data.context + 1 = {windows.size} of "
            "these. Lower data.context."
        )
    return num_train, num_test
