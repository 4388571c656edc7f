"""``eftrain bench``: its tables, files and pictures, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_measure import measured

from eftrain import cli
from eftrain.bench import tables
from eftrain.bench.benchmark import Report, report
from eftrain.errors import UserError
from eftrain_hdl.config import CoreConfig

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
NAMES = {"vgg16", "cifar-1x", "resnet20", "alexnet"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return report(CoreConfig.parse("16x16"), tmp_path_factory.mktemp("bench"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files(found):
    written = found.write()
    contents = {path.name: path.read_bytes() for path in written}
    assert set(contents) == {f"{n}.json" for n in NAMES} | {
        "rates.svg",
        "roofline.svg",
        "tables.md",
    }
    vgg16 = json.loads(contents["vgg16.json"])
    assert vgg16["targets"] == {"nominal_gflops": 51.2, "array_share": 0.97}
    assert vgg16["totals"]["baseline_gflops"] == pytest.approx(48.0, abs=0.05)
    row = next(r for r in vgg16["rows"] if (r["layer"], r["pass"]) == ("conv1_2", "FP"))
    assert row["baseline_gflops"] == pytest.approx(44.6, abs=0.05) and row["rtl_cycles"] is None
    # Equal figures give equal bytes.
    assert {path.name: path.read_bytes() for path in found.write()} == contents


def test_network_table(found):
    table = tables.network_table(found.results)
    for result in found.results:
        line = next(x for x in table.splitlines() if x.startswith(f"| {result.benchmark.title} "))
        reached = result.plan.gflops >= result.benchmark.target
        word = "reached" if reached else "**missed**"
        assert f"| {result.benchmark.target:.1f} {word} |" in line
        assert f"| {result.plan.gflops:.1f} |" in line and f"{result.plan.cycles:,}" in line
    assert table.count("(97% ") == 1


def test_layer_table_has_every_convolution_and_no_first_bp(found):
    lines = found.tables()["layers"].splitlines()
    assert len(lines) == 2 + 13 + 1
    assert lines[2].startswith("| conv1_1 ") and "| – |" in lines[2] and "(8.2)" in lines[2]


def test_rtl_table_names_the_worst():
    rows = [measured(), measured(layer="conv5_1", kind="WU", cycles=980, error=1.0)]
    table = tables.rtl_table(rows)
    assert table.endswith(
        "Worst of 2: vgg16 batch 1, conv5_1 WU, -2.00% (**outside** the limit of 1%)."
    )
    assert "| 1,009 | 1,000 | +0.90% | 50.0% | 1.0e-06 |" in table and "1.0e+00 **wrong**" in table
    assert tables.worst_sentence(rows[:1]).endswith("+0.90% (within the limit of 1%).")
    assert tables.rtl_table([]) is None


def test_the_worst_outside_the_limit_is_said_to_be():
    rows = [measured(cycles=100_500, rtl_cycles=100_000), measured(), measured(cycles=980)]
    assert tables.worst_sentence(rows) == (
        "Worst of 3: vgg16 batch 1, conv1_1 FP, -2.00% (**outside** the limit of 1%)."
    )


def test_step_table_ends_with_the_whole_step():
    row = measured(alone=False, array_share=None, error=None, network="cifar-1x", batch=8)
    whole = replace(row, layer="all", kind="all", array_share=0.9, error=1e-5, cycles=1000)
    table = tables.step_table([measured(), row, whole])
    assert "cifar-1x, batch 8; array share on the RTL 90.0%, error of the worst tensor" in table
    assert "| whole step |  | 1,000 | 1,000 | +0.00% |" in table
    assert "Worst of 2: cifar-1x batch 8, conv1_1 FP" in table
    assert tables.step_table([measured()]) is None


def test_resource_table(tmp_path):
    assert tables.resource_table(tmp_path) is None
    usage = {"lut": 12345, "ff": 1, "dsp": 64, "bram36": 7.5}
    for name in ("16x16-fp32-xcup", "8x8-bf16-xc7"):
        text = json.dumps({"total": usage, "blocks": {}})
        (tmp_path / f"resources-{name}.json").write_text(text)
    lines = tables.resource_table(tmp_path).splitlines()
    assert lines[2:] == [
        "| 8x8 | bf16 | xc7 | 12,345 | 64 | 7.5 |",
        "| 16x16 | fp32 | xcup | 12,345 | 64 | 7.5 |",
    ]
    (tmp_path / "resources-8x8-bf16-xc7.json").write_text("{}")
    with pytest.raises(UserError, match="delete it and run `make resources`"):
        tables.resource_table(tmp_path)


def test_tables_are_filled_between_their_markers():
    text = "a\n<!-- bench:rtl -->\nold\n<!-- /bench:rtl -->\nb\n"
    filled = tables.fill(text, {"rtl": "new"}, "page")
    assert filled == text.replace("old", "new")
    assert tables.fill(filled, {"rtl": "new"}, "page") == filled
    for broken in ("", text + text, text.replace("/bench", "/branch")):
        with pytest.raises(UserError, match="page needs the markers <!-- bench:rtl -->"):
            tables.fill(broken, {"rtl": "new"}, "page")


def test_the_page_keeps_what_was_not_run_again(found, tmp_path):
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    shutil.copy(PAGE, page)
    kept = Report(found.results, [measured()], 0, found._folder)
    kept.write(page)
    with_rtl = page.read_text()
    assert "| vgg16 | 1 | conv1_1 | FP | 1,009 |" in with_rtl
    found.write(page)
    assert page.read_text() == with_rtl
    assert (page.parent / "images" / "rates.svg").read_text().startswith("<?xml")


def test_the_page_is_up_to_date(found):
    text = PAGE.read_text()
    predicted = {name: found.tables()[name] for name in ("networks", "layers")}
    assert tables.fill(text, predicted, PAGE) == text, "run `make bench`"
    for name, picture in found.pictures().items():
        assert (PAGE.parent / "images" / name).read_text() == picture, "run `make bench`"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["bench", "--array", "6x6"], "6x6 is no multiple"),
        (["bench", "--format", "fp64"], "'fp64' is unknown"),
        (["bench", "--jobs", "0"], "jobs is 0"),
        (["bench", "--batch", "2"], "give --rtl LAYER or all too"),
        (["bench", "--network", "digits"], "give --rtl LAYER or all too"),
        (["bench", "--rtl", "conv1,,conv2"], "has an empty name"),
        (["bench", "--rtl", "conv9", "--network", "digits"], "no layer 'conv9'"),
        (["bench", "--rtl", "all", "--network", "vgg17"], "no network 'vgg17'"),
        (["bench", "--rtl", "all", "--batch", "0"], "batch is 0"),
        (["bench", "--output", "/dev/null"], "cannot be written"),
        (["profile", "vgg17"], "no network 'vgg17'"),
        (["profile", "--interval", "0"], "interval is 0"),
        (["profile", "--batch", "0"], "batch is 0"),
        (["profile", "--array", "6x6"], "6x6 is no multiple"),
        (["profile", "--output", "."], ". is a folder"),
        (["profile", "vgg16", "--array", "16x16"], "simulated memory has 1024.0 MiB"),
        (["resources", "--array", "6x6"], "6x6 is no multiple"),
        (["resources", "--target", "asic"], "'asic' is unknown; choose one of xcup"),
        (["resources", "--part", "zcu102", "--target", "xc7"], "use --target xcup"),
        (["resources", "--json", "nowhere/file.json"], "nowhere"),
    ],
)
def test_bad_input(capsys, folder, arguments, words):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1
    assert captured.out == "" and list(folder.rglob("*")) == []


def test_damaged_runs_are_refused_before_the_work(capsys, folder):
    (folder / "rtl.json").write_text("{")
    assert cli.main(["bench", "--output", "."]) == 2
    captured = capsys.readouterr()
    assert "rtl.json does not hold runs" in captured.err and captured.out == ""
