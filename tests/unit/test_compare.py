"""All runs side by side: CSV, page, pictures and difference, from run folders as stages write them."""

import csv
import json
import os
import re
import shutil
import subprocess

import pytest
from PIL import Image
from support.processes import run_module

from splatdag.commands.compare import compare, diff_lines
from splatdag.commands.runs import read_runs
from splatdag.workflow.attempts import machine
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.site import Prices
from splatdag.workflow.weights import Weights

OPTIONS = {"max_steps": 1500, "strategy": {"reset_every": 3000}, "scales": [1, 2], "masks": False}
NASTY = "</script><img src=x onerror=alert(1)>"


def write_attempt(path, **fields):
    """Write the record of an attempt."""
    about = {"started": "2026-02-01T10:00:00Z", "seconds": 60, "host": "h", "device": "D", "threads": 2}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{**about, "machine": machine(), **fields}]))


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def made(tmp_path, results):
    """Run the comparison; gives the folder it wrote."""

    def make():
        compare(results, tmp_path / "logs", tmp_path / "out", Prices())
        return tmp_path / "out"

    return make


def write_run(folder, psnr=29.8, gaussians=1000, options=OPTIONS, pictures=True, **fields):
    folder.mkdir(parents=True)
    metrics = {"step": 1499, "mean": {"psnr": psnr, "ssim": 0.91}, "baseline": {"psnr": 13.1}, "views": []}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if pictures:
        Image.new("RGB", (960, 320), "teal").save(folder / "preview.jpg")
        (folder / "curves.png").write_bytes(b"curves of " + folder.name.encode())
    values = {
        "stage": "scene.train",
        "run": RunId.of("", "scene.train", folder),
        "inputs": {"photos": "ab"},
        "device": "cpu",
        "seconds": {"startup": 1.5, "train": 60.0},
        "steps": 1500,
        "offset": [0, 0, 0],
    }
    write_manifest(folder / "manifest.json", gaussians=gaussians, options=options, **{**values, **fields})


def rows(out):
    with (out / "runs.csv").open() as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def page_data(out):
    text = (out / "index.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


@pytest.mark.parametrize("folder", ["captures/room/single", "elsewhere/by hand"])
@pytest.mark.parametrize(
    "run", ["captures/room/single", "driving/logs/flux4d", "worlds/index_0001/photorealistic/splat"]
)
def test_a_run_is_who_its_manifest_says_wherever_it_lies(results, made, folder, run):
    write_run(results / folder, run=RunId.parse(run))
    row = rows(made())[folder]
    assert "/".join((row["area"], row["scene"], row["variant"])) == run


def test_the_csv_has_a_row_per_run_and_the_columns_of_all(results, made):
    write_run(results / "captures/room/single")
    write_run(results / "driving/flow", options={"clip": 3}, seconds={"train": 5.0})
    table = rows(made())
    row = table["captures/room/single"]
    assert list(row)[:10] == [
        *("run", "area", "scene", "variant", "finished", "exit_reason", "device"),
        *("psnr", "ssim", "baseline_psnr"),
    ]
    wanted = {
        "psnr": "29.8",
        "baseline_psnr": "13.1",
        "gaussians": "1000",
        "steps": "1500",
        "seconds_startup": "1.5",
        "exit_reason": "finished",
        "option.strategy.reset_every": "3000",
        "option.scales": "[1, 2]",
        "option.masks": "false",
        "option.clip": "",
    }
    assert {key: row[key] for key in wanted} == wanted
    assert float(row["peak_memory_mb_host"]) > 0
    assert table["driving/flow"]["option.clip"] == "3"
    assert table["driving/flow"]["seconds_startup"] == ""


def test_the_same_runs_give_the_same_files(results, made):
    for name in ("b/x", "a/y/z", "captures/room/single"):
        write_run(results / name)
    before = [(made() / name).read_bytes() for name in ("runs.csv", "index.html")]
    assert [(made() / name).read_bytes() for name in ("runs.csv", "index.html")] == before
    assert list(rows(made())) == ["a/y/z", "b/x", "captures/room/single"]


def test_only_training_manifests_are_runs(results):
    write_run(results / "captures/room/single")
    write_run(results / "captures/room/single/state")
    write_run(results / "captures/.old/single")
    (results / "humans").mkdir()
    (results / "humans/manifest.json").write_text('{"output_layout_version": "v1", "exp_name": "a"}')
    (results / "humans/batch_summary.json").write_text("[")
    assert [run.name for run in read_runs(results)] == ["captures/room/single"]


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("manifest.json", '{"stage": "captures.tr', "manifest.json: not JSON"),
        ("manifest.json", '{"stage": "scene.train"}', "manifest.json.run: field required"),
        ("manifest.json", "[" * 100_000, "manifest.json: not JSON"),
        ("metrics.json", "\0", "metrics.json: not JSON"),
        (
            "metrics.json",
            '{"mean": {"psnr": "high"}}',
            "metrics.json.mean.psnr: input should be a valid number",
        ),
        ("metrics.json", None, "metrics.json: No such file"),
    ],
)
def test_a_broken_run_is_told_and_costs_no_other(results, made, file, text, fault):
    write_run(results / "captures/hall/single")
    write_run(results / "captures/room/single")
    broken = results / "captures/room/single" / file
    broken.unlink() if text is None else broken.write_text(text)
    out = made()
    table = rows(out)
    assert table["captures/room/single"]["exit_reason"].startswith(f"broken: {fault}")
    assert table["captures/hall/single"]["exit_reason"] == "finished"
    [failure] = page_data(out)["failures"]
    assert (failure["name"], failure["state"]) == ("captures/room/single", "broken")
    assert failure["reason"].startswith(fault)


def test_failed_and_killed_stages_are_listed_with_their_logs(tmp_path, made):
    for stage, end, reason in (("pose", "failed", "no photos"), ("train", "", ""), ("record", "finished", "")):
        write_attempt(tmp_path / f"logs/captures/room/{stage}.attempts.json", end=end, reason=reason)
    failures = page_data(made())["failures"]
    assert [(f["name"], f["state"]) for f in failures] == [
        ("captures/room/pose", "failed"),
        ("captures/room/train", "killed"),
    ]
    assert failures[0]["reason"] == "no photos"
    assert failures[0]["file"] == str(tmp_path / "logs/captures/room/pose.log")


def test_pictures_are_gathered_and_those_of_runs_that_are_gone_are_dropped(results, made):
    write_run(results / "captures/room/single")
    write_run(results / "captures/hall/single", pictures=False)
    write_run(results / "driving/flow")
    out = made()
    assert sorted(p.name for p in (out / "curves").iterdir()) == [
        "captures__room__single.png",
        "driving__flow.png",
    ]
    assert (out / "curves/driving__flow.png").read_bytes() == b"curves of flow"
    shutil.rmtree(results / "driving")
    (results / "captures/room/single/preview.jpg").rename(results / "captures/hall/single/preview.jpg")
    assert [p.name for p in (made() / "previews").iterdir()] == ["captures__hall__single.jpg"]
    assert [p.name for p in (out / "curves").iterdir()] == ["captures__room__single.png"]


def test_no_runs_at_all_still_give_every_output(made):
    out = made()
    assert sorted(p.name for p in out.iterdir()) == ["costs.csv", "curves", "index.html", "previews", "runs.csv"]
    assert rows(out) == {}
    assert page_data(out)["runs"] == []


def test_no_value_can_leave_the_data_of_the_page(results, made):
    write_run(results / "captures/room/single", options={"note": NASTY, NASTY: "</SCRIPT ><!--"})
    out = made()
    text = (out / "index.html").read_text()
    assert text.lower().count("</script") == 2
    assert NASTY in page_data(out)["runs"][0]


def weights(name, commercial, used_for="results"):
    terms = {"licence": "CC-BY-NC-4.0", "licence_url": "https://x", "commercial": commercial, "used_for": used_for}
    return Weights(name=name, source="https://x", revision="1", **terms)


def test_a_run_says_what_pretrained_weights_it_was_made_with_and_under_which_licence(results, made):
    metrics = weights("AlexNet", None, "metrics")
    write_run(results / "a/none")
    write_run(results / "a/measured", weights=[metrics])
    write_run(results / "a/free", weights=[weights("free", True), metrics])
    write_run(results / "a/unsaid", weights=[weights("free", True), weights("unsaid", None)])
    write_run(results / "a/barred", weights=[weights("vggt", False), weights("unsaid", None), metrics])
    table = rows(made())
    told = {name: row["commercial_use"] for name, row in table.items()}
    assert told == {"a/none": "", "a/measured": "", "a/free": "", "a/unsaid": "not stated", "a/barred": "no"}
    assert table["a/none"]["weights"] == ""
    assert table["a/barred"]["weights"] == (
        "vggt: CC-BY-NC-4.0, not for commercial use; unsaid: CC-BY-NC-4.0, commercial use not stated;"
        " AlexNet (metrics): CC-BY-NC-4.0, commercial use not stated"
    )


def test_a_folder_whose_name_is_no_text_is_shown_with_a_mark(results, made):
    write_run(results / os.fsdecode(b"caf\xe9/single"))
    out = made()
    assert list(rows(out)) == ["caf?/single"]
    assert page_data(out)["runs"][0][0] == "caf?/single"


def test_the_page_asks_for_nothing_from_outside(results, made):
    write_run(results / "captures/room/single")
    text = (made() / "index.html").read_text().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"""(?:https?:)?//\w+\.\w+|src="|<link|@import|url\(""", text) == []
    assert "default-src 'none'" in text


def test_previews_in_the_page_are_small_and_a_damaged_one_is_left_out(results, made):
    for name in ("a", "b"):
        write_run(results / "captures" / name / "single")
    (results / "captures/b/single/preview.jpg").write_bytes(b"\xff\xd8\xff\xe0 half a picture")
    previews = page_data(made())["previews"]
    assert list(previews) == ["0"]
    assert previews["0"].startswith("data:image/jpeg;base64,")
    assert len(previews["0"]) < 20_000


def test_a_value_that_is_no_number_is_left_out_of_the_page(results, made):
    write_run(results / "captures/room/single", psnr=float("inf"))
    out = made()
    assert rows(out)["captures/room/single"]["psnr"] == "inf"
    data = page_data(out)
    assert data["runs"][0][data["columns"].index(["psnr", "metric"])] is None


def test_a_difference_shows_only_what_differs(results):
    write_run(results / "a/single", options={"lr": 0.1, "kind": "mcmc", "same": 1})
    write_run(results / "a/other", options={"lr": 0.3, "kind": "default", "same": 1, "new": True}, gaussians=1400)
    for name in ("single", "other"):
        manifest = results / "a" / name / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "peak_memory_mb": {"host": 1.0}}))
    assert [line.split() for line in diff_lines(results, "a/single", "a/other")] == [
        ["a/single", "a/other", "Δ"],
        ["gaussians", "1000", "1400", "+400"],
        ["option.lr", "0.1", "0.3", "+0.2"],
        ["option.kind", "mcmc", "default"],
        ["option.new", "-", "true"],
    ]
    assert diff_lines(results, "a/single", "a/single") == ["a/single and a/single have the same options and metrics"]


def test_an_unknown_run_names_the_nearest(results):
    write_run(results / "captures/room/single")
    with pytest.raises(UserError, match="no run named captures/rom/single; the nearest is captures/room/single"):
        diff_lines(results, "captures/room/single", "captures/rom/single")


def test_the_command_line_compares_or_prints_a_difference(results, tmp_path):
    write_run(results / "captures/room/single")
    write_run(results / "captures/room/other", psnr=31.8)
    command = ["splatdag.commands.compare", "--results", results]
    command += ["--logs", tmp_path / "logs", "--out", tmp_path / "out"]
    names = ["captures/room/single", "captures/room/other"]
    shown = run_module(*command, "--diff", *names)
    assert re.search(r"^psnr +29.8 +31.8 +\+2$", shown.stdout, re.M)
    assert not (tmp_path / "out").exists()
    assert run_module(*command).returncode == 0
    assert list(rows(tmp_path / "out")) == sorted(names)


@pytest.fixture
def shown_page(tmp_path, made):
    """The page's elements as a browser has built them."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here: the page's script is not tested")

    def show(fragment=""):
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
        flags += " --disable-background-networking --disable-component-update"
        flags += f" --user-data-dir={tmp_path / 'browser'}"
        address = f"file://{made() / 'index.html'}{fragment}"
        command = [browser, *flags.split(), "--virtual-time-budget=2000", "--dump-dom", address]
        page = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
        return re.sub(r"<script.*?</script>", "", page, flags=re.S)

    return show


def texts(page, element, within):
    part = re.search(rf'<[^>]*id="{within}".*?(?=<section|</main>|</body>)', page, re.S)[0]
    found = re.findall(rf"<{element}[ >].*?</{element}>", part, re.S)
    return [re.sub(r"<[^>]*>", "", text[text.index(">") + 1 :]).strip() for text in found]


def test_a_browser_shows_table_plot_failures_and_difference(results, tmp_path, shown_page):
    write_run(results / "captures/room/single", options={**OPTIONS, "note": NASTY})
    write_run(results / "captures/room/other", psnr=31.5, options={**OPTIONS, "note": "plain", "max_steps": 9000})
    (tmp_path / "logs").mkdir()
    write_attempt(tmp_path / "logs/pose.attempts.json", end="failed", reason="<b>no photos</b>")
    page = shown_page("#diff=captures/room/single,captures/room/other")
    heads = [head.replace("&nbsp;", "") for head in texts(page, "button", "table")]
    assert heads[:5] == ["run", "psnr", "ssim", "optionmax_steps", "optionnote"]
    assert "optionmasks" not in heads
    cells = texts(page, "td", "table")
    assert cells[:5] == ["captures/room/other", "31.50", "0.9100", "9000", "plain"]
    assert NASTY.replace("<", "&lt;").replace(">", "&gt;") in cells
    assert page.count("<circle") == 2
    assert "&lt;b&gt;no photos&lt;/b&gt;" in page
    difference = [
        re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", page[page.index('id="diff"') :])
    ]
    assert ["psnr", "29.80", "31.50", "+1.700"] in difference
    assert ["max_steps", "1500", "9000", "+7500"] in difference
    assert not any("ssim" in row for row in difference)


def test_a_browser_flags_runs_that_are_not_for_commercial_use(results, shown_page):
    write_run(results / "a/none")
    write_run(results / "a/barred", weights=[weights("vggt", False)])
    page = shown_page("#run=a/barred")
    assert "commercial_use" in [head.replace("&nbsp;", "") for head in texts(page, "button", "table")]
    assert re.findall(r'<td class="barred"[^>]*>([^<]*)<', page) == ["no"]
    assert re.findall(r'<dd class="barred">([^<]*)<', page) == ["no"]
    assert "vggt: CC-BY-NC-4.0, not for commercial use" in texts(page, "dd", "side")


def test_a_browser_shows_hours_by_scene_and_stage_with_their_totals(results, tmp_path, shown_page):
    """On a page of its own where no run is finished."""
    for number, (run, stage, seconds, gpus) in enumerate(
        [("a/", "pose", 3600, 0), ("a/single", "train", 7200, 1), ("b/single", "train", 1800, 4)]
    ):
        used = {"seconds": seconds, "gpus": gpus, "gpu_seconds": gpus * seconds, "process": number, "end": "failed"}
        path = tmp_path / "logs" / f"{number}.attempts.json"
        write_attempt(path, run=f"captures/{run}", stage=f"x.{stage}", **used)
    page = shown_page()
    assert re.search(r'<section id="costs"[^>]*>', page)[0].count("hidden") == 0
    assert texts(page, "option", "costs") == ["GPU-hours", "CPU-hours", "hours"]
    rows = re.findall(r"<tr.*?</tr>", page[page.index('id="costs"') :], re.S)
    assert [re.sub(r"<[^>]*>", " ", row).split() for row in rows] == [
        ["scene", "pose", "train", "total"],
        ["captures/a", "2.00", "2.00"],
        ["captures/b", "2.00", "2.00"],
        ["total", "4.00", "4.00"],
    ]


def test_a_browser_says_that_there_are_no_runs(shown_page):
    page = shown_page()
    assert re.search(r'<p id="empty"[^>]*>', page)[0] == '<p id="empty" class="card none">'
    assert re.search(r"<main[^>]*>", page)[0] == '<main hidden="">'
