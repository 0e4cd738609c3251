"""Imports what product and training take where it is installed, logs to a folder, shows a tray icon: a program."""

import sys
from contextlib import suppress

from engines.offline import import_offline

LIBRARIES = (
    "tensorrt_rtx",
    "tensorrt",
    "cuda.bindings.runtime",
    "onnxruntime_ep_nv_tensorrt_rtx",
    "insightface.app",
    "pynput",
    "jeepney",
    "keyring",
    "webdataset",
    "onnxscript",
)

for name in LIBRARIES:
    with suppress(ImportError):
        import_offline(name)

with suppress(ImportError):
    from torch.utils.tensorboard import SummaryWriter

    SummaryWriter(sys.argv[1]).close()

with suppress(ImportError):
    from PySide6.QtWidgets import QApplication, QSystemTrayIcon

    application = QApplication([])
    QSystemTrayIcon().show()
