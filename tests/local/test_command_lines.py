"""A wrong option is one line that says what the option takes, before anything is started."""

from collections.abc import Callable, Sequence

import pytest

from bench.__main__ import main as bench
from local.up import main as up
from release.cost import main as cost
from soak.__main__ import main as soak
from soak.real.__main__ import main as soak_real


@pytest.mark.parametrize(
    ("main", "arguments", "says"),
    [
        (soak, ["--seeds", "abc"], "--seeds: 'abc' is neither a number nor first-last, such as 0-499"),
        (soak, ["--seeds", "8-2"], "--seeds: '8-2' is neither a number nor first-last, such as 0-499"),
        (soak, ["--hours", "0"], "--hours: '0' is not a number of hours above 0"),
        (soak, ["--calls", "-1"], "--calls: '-1' is not a whole number above 0"),
        (soak, ["--workers", "0"], "--workers: '0' is not a whole number above 0"),
        (bench, ["--sizes", "1000,1.5"], "--sizes: '1.5' is no whole number above 0"),
        (bench, ["--rounds", "0"], "--rounds: '0' is no whole number above 0"),
        (soak_real, ["--minutes", "0"], "--minutes: '0' is not a number of minutes above 0"),
        (soak_real, ["--minutes", "nan"], "--minutes: 'nan' is not a number of minutes above 0"),
        (up, ["--speed", "0"], "--speed: '0' is not a speed from 1 to 900"),
        (up, ["--speed", "fast"], "--speed: 'fast' is not a speed from 1 to 900"),
        (cost, ["--calls", "-5"], "--calls: '-5' is not a number from 0 upwards"),
        (cost, ["--calls", "inf"], "--calls: 'inf' is not a number from 0 upwards"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_takes(
    main: Callable[[Sequence[str]], int], arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: argument {says}")
