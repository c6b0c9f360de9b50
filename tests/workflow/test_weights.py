"""Weights of LPIPS are fetched ahead where they are missing; a run does without them where there is no network."""

import json

import pytest

from splatdag.splats.lpips_weights import OFFLINE, WEIGHTS


@pytest.fixture
def without_network(tmp_path, monkeypatch):
    """A machine without weights, which may ask for them and reaches nothing."""
    monkeypatch.delenv(OFFLINE)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_only_missing_weights_are_asked_for_once_and_without_a_network_nothing_fails(
    project, snakemake, without_network
):
    def planned():
        done = snakemake("-n", "--cores", "1", "captures")
        assert done.returncode == 0, done.stderr
        return "rule fetch_lpips" in done.stdout

    assert planned()
    receipt = "results/weights/lpips_alex.json"
    done = snakemake("--cores", "1", receipt)
    assert done.returncode == 0, done.stderr
    line = f"LPIPS (alex) is left out: https://download.pytorch.org/models/{WEIGHTS['alex']}: "
    assert line in done.stderr
    assert f"to try again: snakemake -f {receipt}" in done.stderr
    assert "refused" in json.loads((project / receipt).read_text())["problem"]
    assert not planned(), "it is not tried again in every run"

    (project / receipt).unlink()
    without_network.mkdir(parents=True, exist_ok=True)
    (without_network / WEIGHTS["alex"]).touch()
    assert not planned(), "they are there"
