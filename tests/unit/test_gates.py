"""Several findings as one: the worst wins, and none at all is not passed."""

import pytest

from ebbtide.core.gates import Finding, Verdict, failed, inconclusive, passed, worst


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([], Verdict.INCONCLUSIVE),
        ([passed("a"), passed("b")], Verdict.PASSED),
        ([passed("a"), inconclusive("b")], Verdict.INCONCLUSIVE),
        ([failed("a"), inconclusive("b"), passed("c")], Verdict.FAILED),
        ([failed("a"), Finding(Verdict.ERRORED, "b")], Verdict.ERRORED),
    ],
)
def test_the_worst_wins(findings: list[Finding], verdict: Verdict) -> None:
    assert worst(findings).verdict is verdict


def test_every_bad_finding_is_told() -> None:
    found = worst([failed("first", remedy="mend it"), passed("fine"), inconclusive("second")])
    assert "first" in found.why
    assert "second" in found.why
    assert "fine" not in found.why
    assert found.remedy == "mend it"
