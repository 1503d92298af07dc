"""The README keeps its word: every Python block runs, in order, as a reader would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_python_block_runs(tmp_path):
    """In a fresh process, without x64, warnings being errors."""
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(blocks) >= 5
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks))
    reader = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True, text=True, cwd=tmp_path, env=reader,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gmm.log_prob: x must have shape (any, 4), got (150, 1)" in done.stdout
    assert "components by BIC: 2" in done.stdout  # the known answer for iris (Fraley, Raftery)


def test_ci_runs_the_command_of_the_readme():
    command = re.search(r"<!-- command: tests -->\n```sh\n(.*?)\n```", README, flags=re.S)
    assert command is not None
    assert "\n" not in command[1], "one command, one line"
    assert "command: tests" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_table_and_module_of_the_map_exists():
    import jaxnn

    module = ""
    for name, text in re.findall(r"^\| (?:`jaxnn\.(\w+)`)? ?\| (.*) \|$", README, flags=re.M):
        module = name or module
        __import__(f"jaxnn.{module}")
        for name in re.findall(r"`(\w+)`", text):
            if name != "plot":
                assert hasattr(getattr(jaxnn, module), name), f"{module}.{name}"
