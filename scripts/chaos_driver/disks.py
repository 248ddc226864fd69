"""What is done to files: a folder on a small disk that fills up, and a checkpoint that is damaged."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPARE = 64 << 20  # bytes that are free on a small disk until it is filled: some checkpoints
BLOCK = 1 << 20


class SmallDisk:
    """A folder whose disk can be filled."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"
        self._full = threading.Event()
        self._filled = threading.Event()
        self._filler = threading.Thread(target=self._fill, daemon=True)

    def fill(self) -> None:
        """Until `free`, whatever others delete meanwhile."""
        self._full.set()
        self._filler.start()
        self._filled.wait()

    def _fill(self) -> None:
        with open(self._ballast, "wb", buffering=0) as file:
            while self._full.is_set():
                try:
                    file.write(bytes(BLOCK))
                except OSError:
                    self._filled.set()
                    threading.Event().wait(0.002)

    def free(self) -> None:
        self._full.clear()
        if self._filler.ident is not None:
            self._filler.join()
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """While this lasts the folder lies on a disk of its own with little room; its files go there and come back."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f"{folder.name}.aside")
    shutil.copytree(folder, aside)
    size = SPARE + sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", folder], check=True, capture_output=True)
    disk = SmallDisk(folder)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield disk
    finally:
        disk.free()
        shutil.rmtree(aside)
        shutil.copytree(folder, aside)
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)
        shutil.rmtree(folder)
        aside.rename(folder)


def damage(checkpoint: Path, how: str, where: float) -> str:
    """flip a byte of, truncate or delete a file of this checkpoint, chosen by `where` in [0, 1); returns its name."""
    files = sorted(path for path in checkpoint.iterdir() if path.is_file())
    file = files[int(where * len(files))]
    if how == "delete":
        file.unlink()
        return file.name
    content = bytearray(file.read_bytes())
    place = int(where * 7919 * len(content)) % len(content)
    if how == "flip":
        content[place] ^= 1
    else:
        del content[place:]
    file.write_bytes(content)
    return file.name
