"""A wrong option is reported in one line with its allowed values, before anything starts."""

from collections.abc import Callable, Sequence

import pytest

from bench.__main__ import main as bench
from local.up import main as up
from release.cost import main as cost
from soak.__main__ import main as soak
from soak.real.__main__ import main as soak_real
from soak.real.relay.__main__ import main as relay_kill


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        pytest.param(
            soak,
            ["--seeds", "abc"],
            "--seeds: 'abc' is neither a number nor first-last, such as 0-499",
            id="soak --seeds abc",
        ),
        pytest.param(
            soak,
            ["--seeds", "8-2"],
            "--seeds: '8-2' is neither a number nor first-last, such as 0-499",
            id="soak --seeds 8-2",
        ),
        pytest.param(soak, ["--hours", "0"], "--hours: '0' is not a number of hours above 0", id="soak --hours 0"),
        pytest.param(soak, ["--calls", "-1"], "--calls: '-1' is not a whole number above 0", id="soak --calls -1"),
        pytest.param(soak, ["--workers", "0"], "--workers: '0' is not a whole number above 0", id="soak --workers 0"),
        pytest.param(
            bench, ["--sizes", "1000,1.5"], "--sizes: '1.5' is no whole number above 0", id="bench --sizes 1000,1.5"
        ),
        pytest.param(bench, ["--rounds", "0"], "--rounds: '0' is no whole number above 0", id="bench --rounds 0"),
        pytest.param(
            soak_real,
            ["--minutes", "0"],
            "--minutes: '0' is not a number of minutes above 0",
            id="soak-real --minutes 0",
        ),
        pytest.param(
            soak_real,
            ["--minutes", "nan"],
            "--minutes: 'nan' is not a number of minutes above 0",
            id="soak-real --minutes nan",
        ),
        pytest.param(
            relay_kill, ["--kills", "0"], "--kills: '0' is not a whole number above 0", id="relay-kill --kills 0"
        ),
        pytest.param(up, ["--speed", "0"], "--speed: '0' is not a speed from 1 to 900", id="up --speed 0"),
        pytest.param(up, ["--speed", "fast"], "--speed: 'fast' is not a speed from 1 to 900", id="up --speed fast"),
        pytest.param(cost, ["--calls", "-5"], "--calls: '-5' is not a number from 0 upwards", id="cost --calls -5"),
        pytest.param(cost, ["--calls", "inf"], "--calls: 'inf' is not a number from 0 upwards", id="cost --calls inf"),
    ],
)
def test_a_wrong_option_is_reported_with_its_allowed_values(
    main: Callable[[Sequence[str]], int], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: argument {message}")
