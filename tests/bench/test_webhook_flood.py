"""The verdict on a flood at the webhook: if genuine traffic has almost no fair rate, there is no success."""

import pytest

from bench.webhook_flood import is_fair

ALONE = 100.0  # genuine requests a second without a flood


@pytest.mark.parametrize(
    ("mixed", "share", "fair", "printed"),
    [
        # The fair rate is ALONE x (1 - share). At least 0.75 of it must be kept.
        pytest.param(80.0, 0.0, True, "fair rate is 100.0/s, 0.80 of it was kept", id="80 of 100 kept"),
        pytest.param(74.0, 0.0, False, "0.74 of it was kept", id="74 of 100 kept"),
        pytest.param(38.0, 0.5, True, "fair rate is 50.0/s, 0.76 of it was kept", id="38 of 50 kept"),
        pytest.param(37.0, 0.5, False, "0.74 of it was kept", id="37 of 50 kept"),
        pytest.param(8.0, 0.9, True, "fair rate is 10.0/s", id="8 of 10 kept, largest share"),
        pytest.param(100.0, 0.91, False, "no verdict", id="share above 0.9"),
        pytest.param(100.0, 1.0, False, "no verdict", id="share of a whole core"),
        pytest.param(100.0, 1.7, False, "no verdict", id="share of more than a core"),
    ],
)
def test_genuine_traffic_must_keep_three_quarters_of_its_fair_rate(
    capsys: pytest.CaptureFixture[str], mixed: float, share: float, fair: bool, printed: str
) -> None:
    assert is_fair(ALONE, mixed, share) is fair
    output = capsys.readouterr().out
    assert printed in output
    assert f"100.0/s alone, {mixed:.1f}/s in the flood, which uses {share:.2f} CPU" in output
