"""The wrappers live inside the qiskit package and come from another distribution.

They are found however each of the two was installed, from a wheel or editable.
"""

from __future__ import annotations

import json
import site
from pathlib import Path

import numpy as np

from .environments import DISTRIBUTIONS, ROOT, Built, VirtualEnvironment, prefect_environment

#: Which of the three are editable; that all wheels work is tested with the wheels.
EDITABLE = [(True, True, True), (True, True, False), (False, False, True)]

RESOLVE = """
import json
import qcsc_prefect.core, qcsc_prefect.integrations.qiskit
from qcsc_prefect.integrations.qiskit import QCSCSamplerV2
from qcsc_prefect.integrations.qiskit import wrappers
assert QCSCSamplerV2 is wrappers.QCSCSamplerV2
files = [qcsc_prefect.core.__file__, qcsc_prefect.integrations.qiskit.__file__, wrappers.__file__]
print(json.dumps(dict(zip(DISTRIBUTIONS, files))))
"""


def test_every_mixture_of_editable_and_wheel_installs_resolves_the_wrappers(
    built: Built, tmp_path: Path
):
    environment = VirtualEnvironment.create(tmp_path / "mixed")
    # What the packages need comes from this session's environment. A folder that is named in a
    # .pth file has its own .pth files passed over, so this session's editable installs stay out.
    third_party = Path(np.__file__).parent.parent
    assert str(third_party) in site.getsitepackages()
    (environment.site_packages / "third-party.pth").write_text(f"{third_party}\n")

    for mixture in EDITABLE:
        editable = dict(zip(DISTRIBUTIONS, mixture, strict=True))
        sources = []
        for name, is_editable in editable.items():
            sources += ["-e", ROOT / "packages" / name] if is_editable else [built.wheel(name)]
        environment.uv_install("--no-deps", "--reinstall", *sources)

        code = f"DISTRIBUTIONS = {DISTRIBUTIONS!r}\n{RESOLVE}"
        done = environment.execute(code, env=prefect_environment(tmp_path / "home"))
        found = json.loads(done.stdout)
        for name, is_editable in editable.items():
            expected = ROOT / "packages" / name if is_editable else environment.site_packages
            assert Path(found[name]).is_relative_to(expected), (editable, found)
