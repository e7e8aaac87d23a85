import math

import pytest

from eos_tui.numerals import format_number


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.2345e-05, "1.23e-05"),
        (0.04123, "0.0412"),
        (2.534, "2.53"),
        (241.3, "241"),
        (999.7, "1,000"),
        (12_400, "12,400"),
        (12_400.4, "12,400"),
        (1_234_567, "1,234,567"),
        (1234567.0, "1.23e+06"),
        (-2.5, "-2.50"),
        (0.0, "0"),
        (None, "n/a"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_three_significant_digits(value, expected):
    assert format_number(value) == expected


@pytest.mark.parametrize(("error", "expected"), [(0.00123, "0.001"), (3.2, "3"), (148.7, "149"), (2e7, "2e+07")])
def test_an_error_has_one_significant_digit_or_those_before_the_point(error, expected):
    assert format_number(error, digits=1) == expected
