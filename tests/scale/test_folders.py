"""Folders that cannot be written are known at once; those in use are in `test_checkpoints`."""

import errno
import re

import pytest

from jaxnn.scale import folders


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    plain = tmp_path / "file"
    plain.touch()
    with pytest.raises(OSError, match=re.escape(f"here: folder must be writable, got {plain}")):
        folders.writable("here", plain)
    with pytest.raises(OSError, match="folder must be writable"):
        folders.writable("here", plain / "below")

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(folders.Path, "touch", refused)
    with pytest.raises(PermissionError, match=r"folder must be writable, .*Permission denied"):
        folders.writable("here", tmp_path)
    assert list(tmp_path.iterdir()) == [plain]


def test_a_lock_ends_with_its_handle(tmp_path):
    import os

    handle = folders.locked("here", tmp_path)
    with pytest.raises(ValueError, match="here: folder must belong to one run at a time"):
        folders.locked("here", tmp_path)
    os.close(handle)
    os.close(folders.locked("here", tmp_path))
