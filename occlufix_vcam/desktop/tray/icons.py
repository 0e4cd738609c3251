"""The five icons, drawn: a face, and what is the matter with it. For dark panels and for light ones, at any size."""

from __future__ import annotations

import functools
from collections.abc import Callable

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QImage, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

from occlufix_vcam.desktop.tray.status_view import IconName

SIZES = (16, 22, 24, 32, 48, 64)
#: They are drawn on a square of this size.
GRID = 64.0
MIDDLE = QPointF(32, 32)
RADIUS, LINE = 26.0, 6.0

INK = {True: "#f8fafc", False: "#1f2937"}
FAINT = {True: "#94a3b8", False: "#7b8494"}
TEAL = {True: "#2dd4bf", False: "#0f766e"}
AMBER = {True: "#fbbf24", False: "#c2410c"}


@functools.cache
def icon(name: IconName, dark: bool) -> QIcon:
    """`dark`: for a dark panel."""
    made = QIcon()
    for size in SIZES:
        made.addPixmap(QPixmap.fromImage(draw(name, dark, size)))
    return made


def draw(name: IconName, dark: bool, size: int) -> QImage:
    """One icon, `size` pixels wide and high, on nothing."""
    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / GRID, size / GRID)
    _DRAWINGS[name](painter, dark)
    painter.end()
    return image


def _on(painter: QPainter, dark: bool) -> None:
    _head(painter, TEAL[dark])
    _eyes(painter, INK[dark])
    _smile(painter, INK[dark])


def _restoring(painter: QPainter, dark: bool) -> None:
    """The lower half is filled in: what is hidden, and shown all the same."""
    chin = QPainterPath(QPointF(32 - RADIUS, 32))
    chin.arcTo(QRectF(32 - RADIUS, 32 - RADIUS, 2 * RADIUS, 2 * RADIUS), 180, 180)
    chin.closeSubpath()
    painter.fillPath(chin, QColor(TEAL[dark]))
    _head(painter, TEAL[dark])
    _eyes(painter, INK[dark], height=24)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Clear)
    _smile(painter, INK[dark])


def _off(painter: QPainter, dark: bool) -> None:
    _head(painter, FAINT[dark])
    slash = QPointF(10, 54), QPointF(54, 10)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Clear)
    painter.setPen(_pen(INK[dark], LINE + 9))
    painter.drawLine(*slash)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
    painter.setPen(_pen(INK[dark], LINE + 1))
    painter.drawLine(*slash)


def _idle(painter: QPainter, dark: bool) -> None:
    """Asleep."""
    _head(painter, FAINT[dark])
    painter.setPen(_pen(FAINT[dark], LINE - 1))
    for left in (15, 36):
        painter.drawArc(QRectF(left, 22, 13, 12), 200 * 16, 140 * 16)


def _trouble(painter: QPainter, dark: bool) -> None:
    _head(painter, INK[dark])
    _eyes(painter, INK[dark], height=25)
    sign = QPolygonF([QPointF(42, 26), QPointF(60, 60), QPointF(24, 60)])
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Clear)
    painter.setPen(_pen(INK[dark], 12))
    painter.drawPolygon(sign)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
    painter.setPen(_pen(AMBER[dark], 4))
    painter.setBrush(QColor(AMBER[dark]))
    painter.drawPolygon(sign)
    painter.setPen(_pen("#111827" if dark else "#ffffff", 5))
    painter.drawLine(QPointF(42, 39), QPointF(42, 48))
    painter.drawPoint(QPointF(42, 56))


_DRAWINGS: dict[IconName, Callable[[QPainter, bool], None]] = {
    "on": _on,
    "off": _off,
    "restoring": _restoring,
    "idle": _idle,
    "trouble": _trouble,
}


def _head(painter: QPainter, colour: str) -> None:
    painter.setPen(_pen(colour, LINE))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawEllipse(MIDDLE, RADIUS, RADIUS)


def _eyes(painter: QPainter, colour: str, height: float = 27) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    for left in (22.0, 42.0):
        painter.drawEllipse(QPointF(left, height), 4.5, 4.5)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _smile(painter: QPainter, colour: str) -> None:
    painter.setPen(_pen(colour, LINE - 1))
    painter.drawArc(QRectF(20, 26, 24, 22), 205 * 16, 130 * 16)


def _pen(colour: str, width: float) -> QPen:
    return QPen(QColor(colour), width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
