"""Live pictures in a window of this machine's display, by tkinter, which comes with Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from vivant.errors import InputError, SetupError
from vivant.media.outlet import Outlet


class Window(Outlet):
    """A window as large as its picture. Closing it, Escape or Q ends the run. To be used by the main thread."""

    def __init__(self, title: str, width: int, height: int) -> None:
        """Raises SetupError without tkinter and InputError without a display."""
        try:
            import tkinter
        except ImportError as error:
            raise SetupError(
                "this Python has no tkinter for windows; install it (Debian and Ubuntu: python3-tk), or "
                "give --to a file."
            ) from error
        try:
            self._root: Any = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError(
                f"no window can be opened here ({error}); run it on a desktop, or give --to a file."
            ) from error
        from PIL import ImageTk

        self._is_open = True
        self._root.title(title)
        self._root.geometry(f"{width}x{height}")
        self._root.configure(background="black")
        self._label = tkinter.Label(self._root, borderwidth=0, background="black")
        self._label.pack(expand=True)
        self._new_photo = ImageTk.PhotoImage
        self._photo: Any = None
        self._root.protocol("WM_DELETE_WINDOW", self._leave)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda event: self._leave())
        self._root.update()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def write(self, image: np.ndarray, seconds: float) -> None:
        if not self._is_open:
            return
        picture = Image.fromarray(np.ascontiguousarray(image))
        if self._photo is None or (self._photo.width(), self._photo.height()) != picture.size:
            self._photo = self._new_photo(picture, master=self._root)
            self._label.configure(image=self._photo)
        else:
            self._photo.paste(picture)
        self.attend()

    def attend(self) -> None:
        if self._is_open:
            self._root.update()

    def close(self) -> None:
        self._leave()
        if self._root is not None:
            self._photo = None
            self._root.destroy()
            self._root = None

    def _leave(self) -> None:
        self._is_open = False
