"""The model card's figures: what `models.toml` says of each network, in words and tables, written by the export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = "MODEL_CARD.md"
BEGIN = "<!-- Written by `python -m train export` from here to the end: change nothing below. -->"
#: How a card begins where there is none yet: what no command knows is for the person who trained.
FIRST = """# Model card

This page describes the networks that this project's `train/` made for one purpose: restoring the hidden part of a
person's own face in a video call. What they paint is a likely face, not the true one: **it is no evidence of what
anybody looks like.**

## Limits and bias

Say here on whom the networks were trained, for whom they were measured, and for whom they are likely to be worse.
"""


def write_card(models: Path, manifest: Mapping[str, Any]) -> Path:
    """Rewrites the card's figures in the folder `models`; text above them stays."""
    file = models / CARD
    text = file.read_text(encoding="utf-8") if file.exists() else FIRST
    prose = text.partition(BEGIN)[0].rstrip()
    sections = [_section(name, entry) for name, entry in manifest.items() if isinstance(entry, Mapping)]
    temporary = file.with_suffix(".tmp")
    temporary.write_text("\n\n".join([prose, BEGIN, "## Figures", *sections]) + "\n", encoding="utf-8")
    temporary.replace(file)
    return file


def _section(name: str, entry: Mapping[str, Any]) -> str:
    tensors = [
        f"`{tensor}` {'x'.join(map(str, shape))}"
        for side in ("inputs", "outputs")
        for tensor, shape in entry.get(side, {}).items()
    ]
    files = [f"`{entry[kind]['file']}`" for kind in ("fp32", "fp16", "int8") if kind in entry]
    lines = [
        f"### `{name}`",
        "",
        f"- Licence: {entry.get('licence', 'not said')}",
        f"- Trained on: {entry.get('trained_on', 'not said')}; {entry.get('images_seen', 0):,} pictures seen",
        f"- {entry.get('parameters', 0) / 1e6:.2f} M parameters; {', '.join(files)}; {', '.join(tensors)}",
    ]
    for kind, apart in entry.get("parity", {}).items():
        lines.append(
            f"- {kind} against torch on {apart['pictures']} {apart['kind']}: up to {apart['largest']:.2f}, "
            f"{apart['mean']:.4f} in the mean"
        )
    eight = entry.get("int8", {})
    if costs := [f"{figure.replace('_', ' ')} {before:.4g} to {eight['metrics'][figure]:.4g}"
                 for figure, before in eight.get("metrics_fp32", {}).items()]:  # fmt: skip
        lines.append(f"- int8 against fp32, both on the same pictures: {', '.join(costs)}")
    metrics = entry.get("metrics", {})
    if metrics:
        lines += ["", "| figure | value |", "|---|---|"]
        lines += [f"| {figure.replace('_', ' ')} | {value:.4g} |" for figure, value in metrics.items()]
    else:
        lines += ["", "No figures were given when it was exported (`--figures`)."]
    return "\n".join(lines)
