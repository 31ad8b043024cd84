"""The sandbox and the hub, held against software that others wrote. `.ci/certify` runs it."""
