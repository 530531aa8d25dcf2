"""What the flood at the door is judged by: where nothing is due nothing is proved, and that is no success."""

import pytest

from bench.door import is_fair


@pytest.mark.parametrize(
    ("mixed", "share", "fair", "told"),
    [
        (80.0, 0.0, True, "100.0/s are its due, 0.80 of it came"),
        (74.0, 0.0, False, "0.74 of it came"),
        (38.0, 0.5, True, "50.0/s are its due, 0.76 of it came"),
        (37.0, 0.5, False, "0.74 of it came"),
        (8.0, 0.9, True, "10.0/s are its due"),
        (100.0, 0.91, False, "nothing can be judged"),
        (100.0, 1.0, False, "nothing can be judged"),
        (100.0, 1.7, False, "nothing can be judged"),
    ],
)
def test_a_flood_is_judged_where_something_is_due(
    capsys: pytest.CaptureFixture[str], mixed: float, share: float, fair: bool, told: str
) -> None:
    assert is_fair(100.0, mixed, share) is fair
    said = capsys.readouterr().out
    assert told in said
    assert f"100.0/s alone, {mixed:.1f}/s in the flood, whose share is {share:.2f} CPU" in said
