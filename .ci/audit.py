"""Judge what pip-audit found: ``pip-audit ... -f json 2>LOG | audit.py LOCK LOG``.

A finding fails. Only where there is no database to ask, because of no network or an index without one, does
the step pass without an audit, and says so.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

# Findings that do not reach us: id (PYSEC-..., GHSA-... or CVE-...) to the reason.
REASONED: dict[str, str] = {}
NO_NETWORK = re.compile(
    r"requests\.exceptions\.(ConnectionError|ProxyError|ConnectTimeout|ReadTimeout|Timeout)|Could not connect"
)


def judge(report: str, log: str) -> tuple[int, list[str]]:
    """Exit status, and what to say."""
    if not report.strip():
        if NO_NETWORK.search(log):
            return 0, ["not audited: the database of weaknesses can't be reached"]
        return 1, ["pip-audit failed:", *log.splitlines()[-10:]]
    packages = json.loads(report)["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        return 0, ["not audited: the package index has no database of weaknesses"]
    found = [line for package in packages for line in findings(package)]
    left_out = [f"not in the database: {', '.join(unknown)}"] if unknown else []
    if found:
        return 1, [*found, *left_out]
    return 0, [f"{len(packages) - len(unknown)} versions have no known weakness", *left_out]


def findings(package: dict[str, Any]) -> list[str]:
    """A line for each weakness that nobody has reasoned away."""
    lines = []
    for weakness in package.get("vulns", []):
        names = {weakness["id"], *weakness.get("aliases", [])}
        if not names & set(REASONED):
            mended = ", ".join(weakness.get("fix_versions", [])) or "no version yet"
            lines.append(f"{package['name']} {package['version']}: {weakness['id']}, mended in {mended}")
    return lines


if __name__ == "__main__":
    lock, log_path = sys.argv[1:]
    status, told = judge(sys.stdin.read(), Path(log_path).read_text())
    for line in told:
        print(f"{lock}: {line}")  # noqa: T201  a script
    sys.exit(status)
