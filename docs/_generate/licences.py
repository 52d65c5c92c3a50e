"""The licences of everything that is installed with nas-relucode, from the metadata of the packages."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution, metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Licences that allow our use: permissive ones; weak copyleft, whose packages we import and do not change; NVIDIA's,
# whose libraries come with torch and are not distributed by us.
COMPATIBLE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Python-2\.0|MPL|Mozilla|HPND|CMU|Zlib|Unlicense|CC0|0BSD|LGPL"
    r"|Lesser General Public|NVIDIA|CNRI|Public Domain",
    re.IGNORECASE,
)
UNSTATED = {
    "cuda-toolkit": "NVIDIA",
    "optunahub": "MIT",
    "imagecorruptions-imaug": "Apache-2.0",
}  # whose metadata say nothing; from their repositories
DEVELOPMENT = {"test", "bench", "docs", "all"}  # extras that nobody needs who uses the package


def licence(package: Distribution) -> str:
    """The licence in a package's metadata: its expression, else the classifiers, else the first line of its text."""
    stated = package.metadata
    if expression := stated.get("License-Expression"):
        return expression
    classifiers = [c.rpartition(" :: ")[2] for c in stated.get_all("Classifier") or [] if c.startswith("License ::")]
    named = [name for name in classifiers if name != "OSI Approved"]
    text = (stated.get("License") or "").strip().split("\n")[0]
    if stated["Name"].startswith("nvidia-"):
        return "NVIDIA"
    return " or ".join(named) or text[:80] or UNSTATED.get(canonicalize_name(stated["Name"]), "not stated")


def installed() -> tuple[dict[str, Distribution], list[str]]:
    """Every package that nas-relucode or an extra of it needs, directly or not; and those that are not installed."""
    extras = set(metadata("nas-relucode").get_all("Provides-Extra") or []) - DEVELOPMENT
    waiting = [Requirement(f"nas-relucode[{','.join(sorted(extras))}]")]
    packages: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    absent = []
    while waiting:
        needed = waiting.pop()
        name = canonicalize_name(needed.name)
        for extra in ["", *needed.extras]:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                packages[name] = distribution(needed.name)
            except PackageNotFoundError:
                absent.append(name)
                break
            requirements = map(Requirement, packages[name].requires or [])
            waiting += [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]
    del packages["nas-relucode"]
    return packages, sorted(set(absent))


def page() -> str:
    packages, absent = installed()
    rows = [f"| {name} | {package.version} | {licence(package)} |" for name, package in sorted(packages.items())]
    missing = f"Not installed where this page was made: {', '.join(absent)}.\n\n" if absent else ""
    return f"{TEXT}{missing}| package | version | licence |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


TEXT = """# Dependencies and licences

nas-relucode is under the MIT licence; its wheel holds D3 and Observable Plot, under the ISC licence. The table has what
is installed with it and with its extras, as the packages' metadata state it; a test checks that each licence is
permissive, or weak copyleft of a package that is imported unchanged. The licences of NVIDIA's libraries, which come
with torch on Linux, are NVIDIA's.

"""
