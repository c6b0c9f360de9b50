"""Licences of pretrained weights on the pages and the card that are published."""

import re

import pytest
import yaml
from huggingface_hub import DatasetCard

from splatdag.hub.layout import Scene
from splatdag.hub.pages import CARD_TEXT, Place, licensed_card, scene_page
from splatdag.hub.rrd_files import Recording
from splatdag.workflow.weights import Weights


def weights(name, commercial, used_for="results"):
    terms = {"licence": f"licence of {name}", "licence_url": f"https://x/{name}/licence", "used_for": used_for}
    return Weights(name=name, source=f"https://x/{name}", revision="ab12", commercial=commercial, **terms)


BARRED, MEASURED = weights("vggt", False), weights("alexnet", None, "metrics")


def test_a_page_names_weights_with_their_licence_and_flags_those_that_are_not_commercial():
    page = scene_page(Scene("a", "b"), [Recording("x.rrd", 1, "0.41.0")], Place(None), weights=[BARRED, MEASURED])
    licence = "[licence of vggt](https://x/vggt/licence), **not** for commercial use"
    assert f"| [vggt](https://x/vggt) | ab12 | results | {licence} |" in page
    licence = "[licence of alexnet](https://x/alexnet/licence), commercial use not stated"
    assert f"| [alexnet](https://x/alexnet) | ab12 | metrics | {licence} |" in page
    assert "weights" not in scene_page(Scene("a", "b"), [Recording("x.rrd", 1, "0.41.0")], Place(None))


def front_of(card):
    front = yaml.safe_load(card.split("---\n")[1])
    assert DatasetCard(card).data.to_dict() == {key: value for key, value in front.items() if value is not None}
    return front


@pytest.mark.parametrize(
    "others", [[], [MEASURED], [weights("free", True)], [weights("unsaid", None)], [weights("lpips", False, "metrics")]]
)
def test_a_card_stays_as_it_is_where_no_weights_of_results_bar_commercial_use(others):
    assert licensed_card(CARD_TEXT, others) == CARD_TEXT


def test_a_card_says_that_weights_bar_commercial_use():
    card = licensed_card(CARD_TEXT, [MEASURED, BARRED])
    front = front_of(card)
    assert (front["license"], front["license_name"]) == ("other", "non-commercial")
    assert front["license_link"] == "https://x/vggt/licence"
    assert {key: front[key] for key in ("pretty_name", "viewer")} == {
        "pretty_name": "Recordings of Gaussian splats",
        "viewer": False,
    }
    assert card.endswith("- [vggt](https://x/vggt): [licence of vggt](https://x/vggt/licence)\n")
    assert licensed_card(card, [BARRED]) == card, "once"
    both = licensed_card(card, [BARRED, weights("seva", False)])
    assert both.count("## Not for commercial use") == 1
    assert re.findall(r"^- \[(\w+)\]", both, re.MULTILINE)[-2:] == ["seva", "vggt"]


@pytest.mark.parametrize(
    ("front", "licence", "name"),
    [
        ("license: mit\ntags:\n- ours\n", "other", "non-commercial"),
        ("tags:\n- ours\nlicense:\n- mit\n- apache-2.0\n", "other", "non-commercial"),
        ("license: cc-by-nc-4.0\ntags:\n- ours\n", "cc-by-nc-4.0", None),
        ("license: other\nlicense_name: ours\ntags:\n- ours\n", "other", "ours"),
        ("tags:\n- ours\n", "other", "non-commercial"),
    ],
)
def test_a_card_of_the_users_keeps_all_but_a_licence_that_allows_too_much(front, licence, name):
    card = licensed_card(f"---\n{front}---\n\n# Ours\n\nOur text.\n", [BARRED])
    found = front_of(card)
    assert (found["license"], found.get("license_name"), found["tags"]) == (licence, name, ["ours"])
    assert "\n# Ours\n\nOur text.\n\n## Not for commercial use\n" in card


def test_a_card_without_metadata_gets_some():
    card = licensed_card("# Ours\n", [BARRED])
    assert front_of(card)["license_name"] == "non-commercial"
    assert "---\n\n# Ours\n\n## Not" in card
