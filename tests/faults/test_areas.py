"""No rule is forgotten in the table of areas."""

import re

from areas import RULES, uncovered


def test_the_jobs_of_every_rule_meet_the_faults(repository):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    assert uncovered() == []
    assert set(RULES) <= set(re.findall(r"^rule (\w+):", text, re.MULTILINE))
