"""Named configurations that ship with the package."""
