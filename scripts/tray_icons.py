"""The tray's icons beside each other, on dark and on light panels: python -m scripts.tray_icons docs/tray-icons.png."""

from __future__ import annotations

import sys

from PySide6.QtCore import QRect
from PySide6.QtGui import QColor, QImage, QPainter

from occlufix_vcam.desktop.tray.icons import draw
from occlufix_vcam.desktop.tray.status_view import ICON_NAMES

#: As the panel shows them, and as one looks at them.
SIZES = (16, 22, 32, 64)
CELL_PX, GAP_PX = 112, 12
PANELS = {True: "#1f2430", False: "#eceff4"}


def contact_sheet() -> QImage:
    width = len(ICON_NAMES) * (sum(SIZES) + GAP_PX * len(SIZES)) + 2 * GAP_PX
    sheet = QImage(width, CELL_PX * len(PANELS), QImage.Format.Format_RGB32)
    painter = QPainter(sheet)
    for row, (dark, panel) in enumerate(PANELS.items()):
        painter.fillRect(QRect(0, row * CELL_PX, width, CELL_PX), QColor(panel))
        at = 2 * GAP_PX
        for name in ICON_NAMES:
            for size in SIZES:
                painter.drawImage(at, row * CELL_PX + (CELL_PX - size) // 2, draw(name, dark, size))
                at += size + GAP_PX
    painter.end()
    return sheet


if __name__ == "__main__":
    sheet = contact_sheet()
    if not sheet.save(sys.argv[1]):
        sys.exit(f"{sys.argv[1]} cannot be written")
    print(f"{sys.argv[1]}: {', '.join(ICON_NAMES)}, {sheet.width()}x{sheet.height()}")
