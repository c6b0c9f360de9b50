"""No rule is forgotten in the table of areas."""

import re

from areas import RULES


def test_the_jobs_of_every_rule_meet_the_faults(repository):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    assert sorted(RULES) == sorted(name for name, body in rules if "    output:" in body)
