"""Two results folders compared: known verdicts that turned, known cells that moved."""

import pandas as pd
import pytest

from fewstep.evaluation import compare

CLAIMS = """claim,paper,statement,statistic,value,low,high,verdict,over,tier,table
a,p,s,t,1.0,0.5,1.5,supported,3 training seeds,laptop,x
b,p,s,t,{b},-0.5,{high},{verdict},3 training seeds,laptop,x
"""
CELLS = """table,method,metric,nfe,value,sd,sd_sampling,tier,revision,hardware,software
x,LMD,FID,1,{fid},{sd},0.5,laptop,{revision},machine,torch
x,LMD,FID,2,20.0,1.0,0.5,laptop,{revision},machine,torch
x,LMD,"seconds per image, batch 1",1,{seconds},,0.001,laptop,{revision},machine,torch
"""


@pytest.fixture
def folders(tmp_path):
    def write(name: str, claims: dict, cells: dict):
        (tmp_path / name / "tables").mkdir(parents=True)
        (tmp_path / name / "claims.csv").write_text(CLAIMS.format(**claims), encoding="utf-8")
        (tmp_path / name / "tables" / "x.csv").write_text(CELLS.format(**cells), encoding="utf-8")
        return tmp_path / name

    first = {"b": 1.0, "high": 2.5, "verdict": "undecided"}
    second = {"b": -0.25, "high": -0.1, "verdict": "contradicted"}
    return (
        write("first", first, {"fid": 10.0, "sd": 2.0, "revision": "aaa", "seconds": 1.0}),
        write("second", second, {"fid": 18.0, "sd": 1.0, "revision": "bbb", "seconds": 9.0}),
    )


def test_a_turned_verdict_and_a_moved_cell_are_found_and_no_other(folders):
    claims, cells = compare.claims(*folders), compare.cells(*folders)
    assert claims.turned.to_dict() == {"a": False, "b": True}
    assert list(claims.loc["b"][["verdict (first)", "verdict (second)"]]) == ["undecided", "contradicted"]
    moved = cells.loc["x", "LMD", "FID"]
    # by the larger of the two deviations, of whichever folder: 8 / 2
    assert moved.difference.to_dict() == {1: 8.0, 2: 0.0} and moved.deviations.to_dict() == {1: 4.0, 2: 0.0}
    said = compare.report(*folders)
    assert "1 of 2 verdicts differ" in said and "undecided     -0.5 to 2.5" in said
    assert "contradicted  -0.5 to -0.1" in said
    assert "1 of 2 cells differ, 1 by more than two deviations" in said and "1 times on the clock" in said
    assert "x: LMD, FID at 1: 10 and 18 (4.0 deviations)" in said and "aaa" in said and "bbb" in said


def test_a_folder_is_equal_to_itself(folders):
    said = compare.report(folders[0], folders[0])
    assert "0 of 2 verdicts differ" in said and "0 of 2 cells differ" in said


def test_a_claim_of_one_folder_alone_is_said_to_be_missing_in_the_other(folders):
    path = folders[1] / "claims.csv"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(True)[:-1]), encoding="utf-8")
    assert compare.claims(*folders).loc["b", "verdict (second)"] == "not there"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("claims.csv", None, r"claims.csv cannot be read .*: name a results folder"),
        ("claims.csv", "claim,verdict\na,supported\n", "claims.csv has no column 'high'"),
        (
            "claims.csv",
            CLAIMS.format(b=1, high=2, verdict="u").replace("b,p", "a,p"),
            "two rows for one claim",
        ),
        ("tables/x.csv", None, r"no tables/\*.csv: name a results folder"),
        ("tables/x.csv", "table,method\nx,y\n", "x.csv has no column 'hardware'"),
    ],
)
def test_what_is_no_results_folder_is_named(folders, name, text, said):
    path = folders[1] / name
    path.unlink()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(compare.ComparisonError, match=said):
        compare.report(*folders)


def test_the_columns_are_those_that_are_written(root):
    """Committed results compare: the names here are those of the tables and of the ledger."""
    folder = root / "results" / "smoke"
    assert len(compare.claims(folder, folder)) == len(pd.read_csv(folder / "claims.csv"))
    assert compare.cells(folder, folder).difference.eq(0).all()
