"""The papers' tables with our rows beside: in a report and in a terminal, marked, numbered, none lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from eval.errors import InputError
from eval.html.elements import escaped
from eval.papers.__main__ import main
from eval.papers.paper_tables import ASIDES, LEGEND, OTHERS, arrange, as_html, as_text, paper_tables
from eval.papers.published_tables import named_tables, tables

MODEL = "ours <b>16</b>"
RESULTS = [
    {"task": "zeroshot", "model": MODEL, "dataset": "whu-rs19", "split": "test", "features": "projected"}
    | {"accuracy": 81.25, "images": 201, "templates": ["a satellite photo of {}"]},
    {"task": "selo", "model": MODEL, "dataset": "AIR-SLT", "features": "projected"}
    | {"R_su": 0.71, "R_as": 0.31, "R_da": 0.61, "R_mi": 0.678, "crops": "direct"}
    | {"study": {"table": "lrsclip:IX", "heads": {"from": "scratch"}}},
    {"task": "few_shot", "model": MODEL, "dataset": "aid", "features": "projected"}
    | {"shots": {"4": {"mean": 71.5, "std": 1.0}}},
]


@pytest.fixture(scope="module")
def sections():
    return paper_tables(RESULTS)


def table(name):
    (one,) = named_tables(name)
    return one


def test_no_table_is_lost_with_or_without_results(sections):
    for shown in (sections, paper_tables([])):
        everything = "\n".join(f"<h2>{heading}</h2>{content}" for heading, content in shown)
        for each in tables():
            assert everything.count(f">{each.name}: ") == 1, each.name


def test_tables_with_a_row_of_ours_come_first_and_the_others_are_folded(sections):
    headings = [heading for heading, _ in sections]
    assert [heading.split(":")[0] for heading in headings[:-2]] == [
        "LRSCLIP, Table IV",
        "LRSCLIP, Table V",
        "RSCLIP, Table II",
        "RSCLIP, Table IV",
        "RSCLIP, Table V",
    ]
    assert headings[-2:] == [ASIDES, OTHERS]
    contents = dict(sections)
    assert escaped(LEGEND) in contents[headings[0]]
    assert "0.6780" in contents[ASIDES] and "LRSCLIP, Table IX" in contents[ASIDES]
    assert escaped(f"scratch ({MODEL}, seed 0)") in contents[ASIDES] and "LRSCLIP, Table VI:" not in contents[ASIDES]
    assert 'class="origin ours"' not in contents[OTHERS]
    assert [heading for heading, _ in paper_tables([])] == [OTHERS]


def test_every_row_of_a_report_says_where_it_comes_from(sections):
    content = dict(sections)["LRSCLIP, Table IV: zero-shot classification (ZIC)"]
    rows = re.findall(r'<tr class="\w+"><th scope="row">(.*?)</th>', content)
    assert len(rows) == 11
    assert all(row.endswith('<span class="origin published">published</span>') for row in rows[1:])
    assert rows[0] == 'ours &lt;b&gt;16&lt;/b&gt; <span class="origin ours">ours</span>'


def test_our_row_stands_first_then_the_best_three_and_the_others_are_folded(sections):
    contents = {heading.split(":")[0]: content for heading, content in sections}
    accuracies = contents["LRSCLIP, Table IV"].split("<tr class=")[1:]
    assert [row.split('"')[1] for row in accuracies] == ["ours", *["aside"] * 3, *["more"] * 7]
    assert "<summary>7 more published rows</summary>" in contents["LRSCLIP, Table IV"]
    published = [float(re.findall(r"<td.*?>([\d.]+|–)<", row)[3]) for row in accuracies[1:]]
    assert published == sorted(published, reverse=True)  # on WHU-RS19, which was measured
    # Of R_as less is better.
    best = re.findall(r'<tr class="aside"><th scope="row">(\w+).*?<td>(.*?)</td>', contents["LRSCLIP, Table V"])
    assert best == [("LRSCLIP", "ViT-L/14"), ("LRSCLIP", "ViT-B/16"), ("GeoRSCLIP", "ViT-L/14")]
    shots = contents["RSCLIP, Table V"]
    assert shots.index("<h3>Shots a class: 4</h3>") < shots.index("<summary>Shots a class: 1: published rows alone")


def test_footnotes_are_numbered_in_the_order_of_their_places():
    content = as_html(arrange(table("lrsclip:IV"), RESULTS))
    assert "<td>72.82<sup>1</sup></td>" in content
    assert "<td>81.25<sup>2</sup></td>" in content
    first, second = re.findall(r"<li>(.*?)</li>", content)
    assert first.startswith("GeoRSCLIP ViT-B/32, WHU-RS19: 72.82 % is no share of 1,005 images")
    assert second == "ours &lt;b&gt;16&lt;/b&gt;, whu-rs19: 201 images of split test, published 1,005."


def test_what_concerns_a_whole_table_stands_below_it():
    shown = arrange(table("lrsclip:I"))
    assert shown.footnotes == ()
    assert shown.notes[0] == "The parts add up to 2,023,718 pairs, the text states 2,023,688."


def test_our_row_stands_only_in_the_blocks_where_something_was_measured():
    blocks = dict(arrange(table("rsclip:V"), RESULTS).blocks)
    ours = {heading: [line for line in lines if line.ours] for heading, lines in blocks.items()}
    assert [heading for heading, lines in ours.items() if lines] == ["Shots a class: 4"]
    (line,) = ours["Shots a class: 4"]
    assert [cell.text for cell in line.cells] == ["–"] * 6 + ["71.50", "–", "–"]


def test_what_an_ablation_varies_stands_at_its_heads():
    ours = {**RESULTS[1], "study": {"table": "lrsclip:VII", "heads": {"method": "CLIP", "data": "mine"}, "seed": 2}}
    ((_, lines),) = arrange(table("lrsclip:VII"), [ours]).blocks
    assert [line.heads for line in lines if line.ours] == [(f"CLIP ({MODEL}, seed 2)", "mine")]


def test_text_has_digits_below_digits():
    text = as_text(arrange(table("lrsclip:II"))).splitlines()
    rows = [line for line in text if line.startswith("published")]
    assert rows[0].split()[1:] == "Long-CLIP ViT-B/16 19.03 51.33[1] 71.02[1] 18.14 51.33[1] 71.02[1] 45.43[2]".split()
    assert len({tuple(match.start() for match in re.finditer(r"\.", row)) for row in rows}) == 1
    head = next(line for line in text if "Text to image" in line)
    assert head.count("Text to image") == head.count("Image to text") == 1


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("", 33),
        ("farslip", 2),
        ("lrsclip", 14),
        ("RSCLIP", 7),
        ("lrsclip:iv", 1),
        ("LRSCLIP:Fig. 9", 1),
        ("selo:readme", 1),
    ],
)
def test_a_table_is_named_in_any_spelling(name, count):
    assert len(named_tables(name)) == count


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(InputError, match="no table is called 'lrsclp:iv', did you mean 'lrsclip:iv'"):
        named_tables("lrsclp:iv")


def test_the_command_prints_ours_beside_the_published_rows(tmp_path, capsys):
    for number, result in enumerate(RESULTS):
        (tmp_path / f"{number}.json").write_text(json.dumps(result))
    main(["--table=lrsclip:V", f"--results={tmp_path}"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("published", "ours"))]
    assert rows[-2] == ["published", "LRSCLIP", "ViT-L/14", "0.7803", "0.2495", "0.7620", "0.7653"]
    assert rows[-1] == ["ours", *MODEL.split(), *(f"{value}[1]" for value in ("0.7100", "0.3100", "0.6100", "0.6780"))]


def test_the_command_ends_with_status_2_and_one_line(tmp_path):
    command = [sys.executable, "-m", "eval.papers", f"--results={tmp_path / 'nowhere'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path / 'nowhere'}: no such folder\n"
