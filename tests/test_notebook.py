"""The notebook of docs/ runs from the first cell to the last, with what the repository itself holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.timeout(600)  # a kernel starts in a process of its own
def test_the_notebook_restores_a_face() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(DOCS / "inference.ipynb", as_version=4)
    kept = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert kept, "it is kept with its pictures, so that it can be read without running it"
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(DOCS)}}
    )
    client.execute()  # raises where a cell does
    printed = "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )
    gains = re.findall(r"Telea ([\d.]+) dB, network ([\d.]+) dB", printed)
    assert len(gains) == 4 and all(float(ours) > float(telea) for telea, ours in gains)
