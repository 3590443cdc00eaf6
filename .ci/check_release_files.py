"""Whether the locked requirements and the bill of materials are whole, and speak of the same."""

import json
import re
import sys
import tomllib
from pathlib import Path


def main(folder: Path) -> None:
    """Ends with a line and exit code 1 where they are not."""
    lock = (folder / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^([a-z0-9._-]+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.M)
    named = re.findall(r"^[a-z0-9._-]+(?=[=<>~ ]|$)", lock, re.M)
    locked = {name: version for name, version, _ in entries}
    if len(locked) != len(named):
        sys.exit(f"without version or hash: {', '.join(sorted(set(named) - set(locked)))}")
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in project["dependencies"]}
    if missing := wanted - set(locked):
        sys.exit(f"dependencies that are not locked: {', '.join(sorted(missing))}")
    if cuda := [name for name in locked if name.startswith("nvidia-")]:
        sys.exit(f"PyTorch is not the build for CPUs: {', '.join(cuda[:3])} …")
    bill = json.loads((folder / "sbom.cdx.json").read_text(encoding="utf-8"))
    listed = {part["name"]: part["version"] for part in bill["components"]}
    if listed != locked:
        sys.exit("the bill of materials lists other versions than the lock")
    print(f"{len(locked)} libraries, each with version and hashes, in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
