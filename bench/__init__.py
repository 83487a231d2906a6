"""The benchmarks of `script/bench`; no part of the package."""
