"""The method stays free of torch, and of anything that could not run on a laptop without a model."""

import subprocess
import sys


def test_awareness_imports_without_torch():
    code = (
        "import sys, masa.awareness\n"
        "heavy = [name for name in ('torch', 'transformers', 'trl', 'datasets', 'accelerate') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_exported_name_exists():
    import masa.awareness

    assert all(hasattr(masa.awareness, name) for name in masa.awareness.__all__)
    assert sorted(masa.awareness.__all__) == sorted(set(masa.awareness.__all__))
