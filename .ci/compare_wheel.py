"""Fail unless a wheel holds the tracked files of invdiff/, operators/ and datasets/, and no others."""

import subprocess
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}

listing = subprocess.run(
    ["git", "ls-files", "--stage", "-z", "invdiff", "operators", "datasets"],
    capture_output=True,
    text=True,
    check=True,
).stdout
tracked = set()
for entry in filter(None, listing.split("\0")):
    mode, path = entry.split(" ", 1)[0], entry.split("\t", 1)[1]
    if mode != "120000":  # the two links are for type checkers, not for the wheel
        tracked.add(path if path.startswith("invdiff/") else f"invdiff/{path}")

missing, extra = sorted(tracked - shipped), sorted(shipped - tracked)
if missing or extra:
    sys.exit(f"the wheel lacks {missing} and holds {extra} beyond the tracked files")
print(f"the wheel holds the {len(tracked)} tracked files of the package")
