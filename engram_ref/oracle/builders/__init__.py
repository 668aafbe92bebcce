"""The golden cases, one file an area; each function yields cases made with `make.case`."""
