"""What the tests run in, whatever the caller's own environment is."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile

# What changes what orientc, its libraries or a terminal do; Python's own path and the choice of devices are left.
FOREIGN = re.compile(
    r"(ACCELERATE|DATASETS|HF|HUGGINGFACE|HUGGING_FACE|LC|MKL|OMP|OPENBLAS|ORIENTC|TORCHELASTIC|TQDM|TRANSFORMERS|TYPER)_.*"
    r"|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|LOCAL_WORLD_SIZE"
    r"|COLUMNS|LINES|TERM|LANG|LANGUAGE|NO_COLOR|FORCE_COLOR|CLICOLOR|CLICOLOR_FORCE|COLORTERM|PY_COLORS|TTY_.*"
    r"|TOKENIZERS_PARALLELISM|PYTHONHASHSEED|PYTHONIOENCODING|PYTHONUTF8|PYTHONWARNINGS"
    r"|(?i:(http|https|all|no)_proxy)"
)
KEPT = "ORIENTC_ASSETS"


def settle() -> None:
    """Take what is foreign out of the environment, and say what tests rely on.

    Hub clients are offline (a test that wants a hub runs processes of its own) and keep their caches in a folder that
    goes with the process. Workers share the cores, one thread each.
    """
    for name in [name for name in os.environ if FOREIGN.fullmatch(name) and name != KEPT]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="orientc-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": home, "ORIENTC_CACHE": f"{home}/orientc", "OMP_NUM_THREADS": "1"}
